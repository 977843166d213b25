"""Whole sources: columns, accounting (kept + dropped = input), what is over-long, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import columns
from sftgo_cli.data import prepare, row_batches
from sftgo_cli.data.holdout import split_heldout
from sftgo_cli.data.preparation_report import DroppedRows, PreparationReport, refuse_unsupervised
from sftgo_cli.data.prepare import Prepared, prepare_rows
from sftgo_cli.data.sources import resolve_source
from sftgo_cli.errors import EnvironmentProblem, UserError, UserErrors
from sftgo_cli.recipe.data_section import DataSection, SourceSection, TrainSource

BASE = ["row_id", "source", "text", "input_ids", "labels", "offsets", "pinned", "row_key", "prompt_key"]


def run(
    path: Path, tokenizer: Any, template: str | None = None, keep: tuple[str, ...] = (), source: Any = None, **data: Any
) -> Prepared:
    section = SourceSection(path=str(path), **(source or {}))
    return prepare_rows(
        resolve_source(section, path.parent, "mine"),
        section,
        DataSection(train=[TrainSource(path=str(path))], **data),
        tokenizer,
        template,
        keep,
        path.parent / "out.arrow",
    )


def num_dropped(report: PreparationReport) -> int:
    return sum(rows.num_rows for rows in report.dropped.values())


def pairs(*answers: str) -> list[dict[str, Any]]:
    return [{"prompt": "ask:", "completion": answer} for answer in answers]


def test_columns_and_their_types(bpe: Any, write_rows: Any) -> None:
    prepared = run(write_rows(pairs("ab", "c")), bpe)
    dataset = prepared.dataset
    assert dataset.column_names == BASE
    assert dataset.features == columns.features(BASE)
    assert dataset["row_id"][:] == ["row:0", "row:1"]
    assert dataset["source"][:] == ["mine", "mine"]
    row = dataset[0]
    eos = bpe.eos_token_id
    ids = [bpe.convert_tokens_to_ids(letter) for letter in "ask:ab"] + [eos]
    assert row["input_ids"] == ids
    assert row["labels"] == [-100] * 4 + ids[4:]
    assert row["offsets"] == [[i, i + 1] for i in range(6)] + [[6, 10]]
    assert row["pinned"] == [False] * 6 + [True]
    assert row["text"] == "ask:ab</s>"


def test_report_adds_up_and_survives_json(bpe: Any, write_rows: Any) -> None:
    rows = [*pairs("ab", "", "ABCDEF", " "), {"prompt": "a" * 20, "completion": "b", "note": 1, "extra": 2}]
    report = run(write_rows(rows), bpe, max_length=8).report
    # ask:ab</s> has 7 tokens, ask:ABCDEF</s> 11 of which 7 are answer: 8 fit, 4 answer tokens of them.
    assert report == PreparationReport(
        source="mine",
        format="prompt_completion",
        rows_in=5,
        rows_kept=2,
        dropped={
            "empty_answer": DroppedRows(2, ["row:1", "row:3"]),
            "answer_cut": DroppedRows(1, ["row:4"]),
        },
        rows_truncated=1,
        tokens=15,
        supervised_tokens=7,
        tokens_cut=3,
        supervised_cut=3,
        length_min=7,
        length_p50=7.5,
        length_p95=7.95,
        length_max=8,
        ignored_columns=["extra", "note"],
        left_out={},
        notes=[],
    )
    assert report.rows_unsupervised == 3
    assert PreparationReport.from_json(report.to_json()) == report


def test_overlong_rows(bpe: Any, write_rows: Any) -> None:
    path = write_rows(pairs("ab", "ABCDEF"))
    cut = run(path, bpe, max_length=8).dataset[1]
    assert (len(cut["input_ids"]), cut["text"]) == (8, "ask:ABCD")
    report = run(path, bpe, max_length=8, on_overlong="drop").report
    assert (report.rows_kept, report.dropped) == (1, {"overlong": DroppedRows(1, ["row:1"])})
    with pytest.raises(
        UserError, match=r"11 tokens, data\.max_length is 8 - .*rows\.jsonl:2 \(row:1\) - raise data\.max_length"
    ):
        run(path, bpe, max_length=8, on_overlong="error")
    assert not (path.parent / "out.arrow").exists()


@pytest.mark.parametrize("on_overlong", ["truncate", "drop"])
@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_kept_plus_dropped_is_input_for_any_batch(
    bpe: Any, write_rows: Any, monkeypatch: pytest.MonkeyPatch, on_overlong: str, batch: int
) -> None:
    monkeypatch.setattr(prepare, "BATCH_ROWS", batch)
    rows = pairs(*("x" * (7 * i % 11) for i in range(40)))
    for row in rows[::9]:
        row["loss_weight"] = 0
    prepared = run(write_rows(rows), bpe, max_length=10, on_overlong=on_overlong)
    report = prepared.report
    assert report.rows_in == 40
    assert report.rows_kept == len(prepared.dataset)
    assert report.rows_kept + num_dropped(report) == 40
    assert report.tokens == sum(len(ids) for ids in prepared.dataset["input_ids"])
    labels = [[label for label in row if label != -100] for row in prepared.dataset["labels"]]
    assert report.supervised_tokens == sum(len(row) for row in labels)
    assert all(labels)
    full = [4 + 7 * i % 11 + 1 for i in range(40) if 7 * i % 11 and i % 9]
    assert report.rows_in - report.rows_kept == 40 - len(full) + (on_overlong == "drop") * sum(n > 10 for n in full)
    assert report.tokens_cut == (sum(max(0, n - 10) for n in full) if on_overlong == "truncate" else 0)


def test_weight_columns_stand_only_where_they_say_something(
    bpe: Any, write_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "BATCH_ROWS", 1)
    plain = pairs("a", "b")
    late = [*plain, {**plain[0], "loss_weight": 0.5}]
    dataset = run(write_rows(late), bpe).dataset
    assert dataset.column_names == [*BASE, "loss_weight"]
    assert dataset["loss_weight"][:] == [1.0, 1.0, 0.5]
    weighted = [plain[0], {**plain[1], "token_weights": [1, 1, 1, 1, 2, 1]}]
    dataset = run(write_rows(weighted), bpe).dataset
    assert dataset.column_names == [*BASE, "token_weights"]
    assert dataset["token_weights"][1] == [0.0] * 4 + [2.0, 1.0]


def test_own_per_token_columns_are_kept_and_cut(bpe: Any, write_rows: Any) -> None:
    scores = [0.5 * i for i in range(11)]
    prepared = run(write_rows([{**pairs("ABCDEF")[0], "my_score": scores}]), bpe, keep=("my_score",), max_length=8)
    assert prepared.dataset["my_score"][0] == scores[:8]
    assert prepared.report.ignored_columns == []
    with pytest.raises(
        UserError, match=r"my_score has 11 values, the row has 6 tokens.*rows\.jsonl:1, column my_score"
    ):
        run(write_rows([{**pairs("a")[0], "my_score": scores}]), bpe, keep=("my_score",))
    with pytest.raises(UserError, match="column 'labels' is made by sftgo itself"):
        run(write_rows(pairs("a")), bpe, keep=("labels",))


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "ask", "output": "say"},
        {"prompt": "ask", "completion": "say"},
        {"messages": [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "say"}]},
        {"conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "say"}]},
    ],
)
def test_chat_formats_agree_under_a_template(bpe: Any, write_rows: Any, row: dict[str, Any]) -> None:
    from sftgo_cli.data.templates import SHIPPED

    found = run(write_rows([row]), bpe, SHIPPED["chatml"]).dataset[0]
    assert found["text"] == "<|im_start|>user\nask<|im_end|>\n<|im_start|>assistant\nsay<|im_end|>\n"
    assert bpe.decode([label for label in found["labels"] if label != -100]) == "say<|im_end|>"


def test_text_and_tokenised_sources(bpe: Any, write_rows: Any) -> None:
    from sftgo_cli.data.templates import SHIPPED

    text = run(write_rows([{"text": "Who"}]), bpe, SHIPPED["chatml"]).dataset[0]
    assert text["text"] == "Who</s>"
    prepared = run(write_rows([{"input_ids": text["input_ids"], "labels": text["labels"]}]), bpe)
    assert prepared.report.format == "tokenized"
    assert prepared.dataset[0]["labels"] == text["labels"]
    assert prepared.dataset[0]["text"] == "Who</s>"


def test_renamed_columns_declared_formats_and_caps(bpe: Any, write_rows: Any) -> None:
    rows = [{"question": "q", "answer": f"a{i}", "text": "t"} for i in range(5)]
    mapping = {"prompt": "question", "completion": "answer"}
    prepared = run(write_rows(rows), bpe, source={"columns": mapping, "max_samples": 3})
    assert (prepared.report.format, prepared.report.rows_in) == ("prompt_completion", 3)
    assert prepared.report.ignored_columns == ["text"]
    prepared = run(write_rows(rows), bpe, source={"format": "text"})
    assert prepared.dataset["text"][0] == "t</s>"
    assert prepared.report.ignored_columns == ["answer", "question"]


def test_faulty_rows_are_reported_together(bpe: Any, write_rows: Any) -> None:
    rows: list[dict[str, Any]] = [*pairs("ok"), {"prompt": "a"}, *pairs("ok"), {"prompt": None, "completion": "b"}]
    path = write_rows(rows)
    with pytest.raises(UserErrors, match=r"rows\.jsonl:2, column completion") as caught:
        run(path, bpe)
    assert len(caught.value.errors) == 2
    assert "text is null" in str(caught.value)
    assert "rows.jsonl:4, column prompt" in str(caught.value)
    assert not (path.parent / "out.arrow").exists()
    with pytest.raises(UserErrors) as caught:
        run(write_rows([{"prompt": "a", "completion": None}] * 50), bpe)
    assert len(caught.value.errors) == row_batches.ERRORS_SHOWN


def test_sources_without_usable_rows(bpe: Any, write_rows: Any) -> None:
    with pytest.raises(UserError, match=r"there are no rows - mine: .*rows\.jsonl"):
        run(write_rows([]), bpe)
    with pytest.raises(UserError, match=r"none of the 2 rows can be trained on.*empty_answer: 2 \(row:0, row:1\)"):
        run(write_rows(pairs("", "")), bpe)
    with pytest.raises(UserError, match=r"no known format has the columns a, b.*rows\.jsonl:1"):
        run(write_rows([{"a": 1, "b": 2}]), bpe)


def test_a_full_disk_is_exit_3_and_leaves_nothing(bpe: Any, write_rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.arrow_writer import ArrowWriter

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrowWriter, "write_table", full)
    path = write_rows(pairs("a"))
    with pytest.raises(EnvironmentProblem, match=r"No space left on device - .*out\.arrow"):
        run(path, bpe)
    assert not (path.parent / "out.arrow").exists()


def test_lone_surrogates_reach_the_file_as_replacements(bpe: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "x\\ud800", "prompt": "a", "completion": "\\udfffb"}\n')
    row = run(path, bpe).dataset[0]
    assert row["text"] == "a\ufffdb</s>"
    assert row["row_id"].startswith("x")


def report_with(rows_in: int, **dropped: int) -> PreparationReport:
    rows = {reason: DroppedRows(count, [f"{reason}-0"]) for reason, count in dropped.items()}
    kept = rows_in - sum(dropped.values())
    return PreparationReport("s", "text", rows_in, kept, rows, 0, 9, 9, 0, 0, 1, 1.0, 1.0, 1, [], {}, [])


def test_too_many_unsupervised_rows_are_refused() -> None:
    good, bad = report_with(150), report_with(50, empty_answer=1, answer_cut=1, overlong=30)
    refuse_unsupervised([good, bad], 0.01)
    worse = report_with(50, empty_answer=1, answer_cut=2)
    with pytest.raises(UserError, match=r"3 of 200 rows \(1\.5%\).*1\.0% are allowed.*s answer_cut: answer_cut-0"):
        refuse_unsupervised([good, worse], 0.01)
    refuse_unsupervised([good, worse], 0.02)


def test_heldout_rows_follow_the_rows_and_not_their_order() -> None:
    from datasets import Dataset

    ids = [f"r{i}" for i in range(50)]
    forward, backward = Dataset.from_dict({"row_id": ids}), Dataset.from_dict({"row_id": ids[::-1]})
    train, heldout = split_heldout(forward, 0.1, seed=3)
    assert len(heldout) == 5
    assert sorted(train + heldout) == list(range(50))
    assert {ids[i] for i in heldout} == {ids[::-1][i] for i in split_heldout(backward, 0.1, seed=3)[1]}
    assert split_heldout(forward, 0.1, seed=4)[1] != heldout
    assert len(split_heldout(forward, 0.001, seed=3)[1]) == 1
    with pytest.raises(UserError, match="nothing to train on"):
        split_heldout(Dataset.from_dict({"row_id": ["a"]}), 0.5, seed=0)
