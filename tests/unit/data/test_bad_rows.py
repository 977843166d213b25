"""Rows that cannot be read, rendered or tokenized: refused together, or dropped, counted and named; equal rows; long
rows; rows whose text holds special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.data import row_batches
from sftgo_cli.data.preparation_report import DroppedRows, PreparationReport
from sftgo_cli.data.prepare import Prepared, prepare_rows
from sftgo_cli.data.sources import resolve_source
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.data_section import DataSection, SourceSection, TrainSource
from sftgo_cli.report.data_notes import data_notes

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PICKY = "{% if messages | length > 3 %}{{ raise_exception('too many turns') }}{% endif %}" + CHATML
ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
GOOD = {"messages": [ASK, SAY]}


def run(
    path: Path,
    tokenizer: Any,
    template: str | None = CHATML,
    seen: set[int] | None = None,
    fmt: Any = "auto",
    **data: Any,
) -> Prepared:
    section = SourceSection(path=str(path), format=fmt)
    return prepare_rows(
        resolve_source(section, path.parent, "mine"),
        section,
        DataSection(train=[TrainSource(path=str(path))], **data),
        tokenizer,
        template,
        (),
        path.parent / "out.arrow",
        seen=seen,
    )


def lines(path: Path, *rows: Any) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


# A line of each kind of fault, the reason that is counted, and what is said of it.
FAULTY: dict[str, tuple[Any, str, str]] = {
    "no JSON": ('{"messages": [}', "not_readable", "not valid JSON: Expecting value at column ..."),
    "no object": ("[1]", "not_readable", "a row must be a JSON object, found list"),
    "no UTF-8": ('{"messages": "\udcff"}', "not_readable", "invalid UTF-...: byte ...xff at position ..."),
    "a key twice": ('{"messages": [], "messages": []}', "not_readable", "the key ... stands twice in one object"),
    "no column": ({"text": "x"}, "not_readable", "column ... is missing; found text"),
    "a role": ({"messages": [{"role": "me", "content": "x"}]}, "not_readable", "unknown role ..."),
    "null text": ({"messages": [ASK, {**SAY, "content": None}]}, "not_readable", "text is null or missing"),
    "an image": ({"messages": [{**ASK, "content": [{"type": "image"}]}]}, "not_readable", "only text parts"),
    "a weight": ({**GOOD, "loss_weight": -1}, "not_readable", "weight -... is negative or not finite"),
    "the template's no": ({"messages": [ASK, SAY, ASK, SAY]}, "not_rendered", "the chat template fails: too many turns"),
    "weights per token": ({**GOOD, "token_weights": [1.0]}, "not_tokenized", "token_weights has ... values"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTY)
def test_every_kind_of_bad_row_stops_or_is_dropped_and_counted(bpe: Any, tmp_path: Path, name: str) -> None:
    line, reason, said = FAULTY[name]
    path = lines(tmp_path / "d.jsonl", GOOD, line, GOOD)
    with pytest.raises(UserError, match=r"d\.jsonl:2"):
        run(path, bpe, PICKY, fmt="messages")
    report = run(path, bpe, PICKY, fmt="messages", on_bad_row="drop").report
    assert (report.rows_in, report.rows_kept) == (3, 2)
    assert report.dropped == {reason: DroppedRows(1, ["row:1"])}
    ((kind, rows),) = report.faults.items()
    assert kind.startswith(said) or said in kind
    assert rows.first_rows[0].startswith("row:1")
    assert PreparationReport.from_json(report.to_json()) == report
    assert any(note.startswith("Bad rows of mine, ") and "row:1" in note for note in data_notes([report]))
    with pytest.raises(UserError, match=rf"none of the 2 rows can be trained on - mine, dropped {reason}: 2"):
        run(lines(path, line, line), bpe, PICKY, fmt="messages", on_bad_row="drop")


def test_bad_rows_of_one_kind_are_counted_together(bpe: Any, tmp_path: Path) -> None:
    faulty = [{"messages": [ASK, {"role": f"me{k}", "content": "x"}]} for k in range(7)]
    report = run(lines(tmp_path / "d.jsonl", "{", *faulty, GOOD), bpe, on_bad_row="drop").report
    assert report.faults["unknown role ..."].num_rows == 7
    assert report.faults["unknown role ..."].first_rows[0] == "row:1 messages[1].role"
    assert len(report.faults) == 2


def test_kinds_of_faults_are_bounded(bpe: Any, tmp_path: Path) -> None:
    faulty = [{f"column{'x' * k}": 1} for k in range(80)]
    report = run(lines(tmp_path / "d.jsonl", GOOD, *faulty), bpe, on_bad_row="drop").report
    assert sum(rows.num_rows for rows in report.faults.values()) == 80
    assert len(report.faults) == 51
    assert sum(note.startswith("Bad rows") for note in data_notes([report])) == 11


def test_ids_do_not_depend_on_bad_rows(bpe: Any, tmp_path: Path) -> None:
    dataset = run(lines(tmp_path / "d.jsonl", GOOD, "{", GOOD), bpe, on_bad_row="drop").dataset
    assert dataset["row_id"][:] == ["row:0", "row:2"]


def test_equal_rows_are_trained_on_once(bpe: Any, tmp_path: Path) -> None:
    other = {"messages": [ASK, {**SAY, "content": "b"}]}
    rows = [GOOD, other, {**GOOD, "id": "again"}, {"messages": [ASK, {**SAY, "weight": 1}]}]
    path = lines(tmp_path / "d.jsonl", *rows)
    assert run(path, bpe).report.rows_kept == 4
    once = run(path, bpe, seen=set())
    assert once.report.dropped == {"duplicate": DroppedRows(2, ["again", "row:3"])}
    keys = set(once.dataset["row_key"][:])
    assert len(keys) == 2
    with pytest.raises(UserError, match="duplicate: 4"):
        run(path, bpe, seen=keys)


@pytest.mark.parametrize("name", ["huge.jsonl", "huge.jsonl.gz"])
def test_one_huge_word_is_cut_before_it_is_tokenized(
    bpe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import gzip

    monkeypatch.setattr(row_batches, "MIN_CHARACTERS", 2000)
    path = tmp_path / name
    huge = json.dumps({"messages": [ASK, {**SAY, "content": "x" * 100_000}]}) + "\n" + json.dumps(GOOD) + "\n"
    path.write_bytes(gzip.compress(huge.encode()) if name.endswith("gz") else huge.encode())
    prepared = run(path, bpe, max_length=20)
    assert len(prepared.dataset[0]["input_ids"]) == 20
    assert prepared.report.noticed == {"text_cut": DroppedRows(1, ["row:0"])}
    assert prepared.report.rows_truncated == 1
    assert run(path, bpe, max_length=20, on_overlong="drop").report.dropped == {"overlong": DroppedRows(1, ["row:0"])}
    with pytest.raises(UserError, match=r"100,\d\d\d characters, at most 2,000 are tokenized - .*:1 \(row:0\)"):
        run(path, bpe, max_length=20, on_overlong="error")


def test_a_line_that_no_memory_holds_is_refused(bpe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sftgo_cli.data import readers

    monkeypatch.setattr(readers, "MAX_LINE", 1 << 20)
    path = lines(tmp_path / "d.jsonl", GOOD, {"messages": [ASK, {**SAY, "content": "x" * (1 << 20)}]})
    with pytest.raises(UserError, match=r"longer than 1 MiB - .*d\.jsonl:2 - split the row"):
        run(path, bpe, on_bad_row="drop")


def test_cut_answers_are_a_matter_of_length(bpe: Any, tmp_path: Path) -> None:
    from sftgo_cli.data.preparation_report import refuse_unsupervised

    long = {"messages": [{**ASK, "content": "q" * 100}, SAY]}
    report = run(lines(tmp_path / "d.jsonl", *[GOOD] * 98, long, long), bpe, max_length=60).report
    lengths = sorted([len(run(lines(tmp_path / "e.jsonl", row), bpe).dataset[0]["input_ids"]) for row in (GOOD, long)])
    assert report.fits_99 == lengths[1]
    with pytest.raises(
        UserError, match=rf"cut away by data.max_length: set data.max_length \({lengths[1]} tokens fit 99"
    ):
        refuse_unsupervised([report], 0.01)
    with pytest.raises(UserError, match=r"none of the 1 rows.*answer_cut.*tokens fit 99 % of the rows"):
        run(lines(tmp_path / "d.jsonl", long), bpe, max_length=60)


def test_rows_ask_for_training_elsewhere(bpe: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"messages": [{**ASK, "train": True, "mood": "x"}, SAY]})
    report = run(path, bpe).report
    assert report.noticed == {"message_trained": DroppedRows(1, ["row:0"])}
    assert report.unknown_keys == ["mood"]
    assert run(path, bpe, train_on="all").report.noticed == {}
    reading = CHATML.replace("m.content", "m.content + m.mood | default('')")
    assert run(path, bpe, reading).report.unknown_keys == []


def test_a_system_prompt_needs_a_template(bpe: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"instruction": "q", "output": "a"})
    assert run(path, bpe, system_prompt="S").dataset[0]["text"].startswith("<|im_start|>system\nS<|im_end|>")
    with pytest.raises(UserError, match=r"needs a chat template.*data\.system_prompt"):
        run(path, bpe, None, system_prompt="S")
    assert run(lines(path, {"text": "t"}), bpe, None, system_prompt="S").dataset[0]["text"] == "t</s>"


@pytest.mark.parametrize("key", ["weight", "loss", "train", "loss_weight"])
def test_a_message_that_is_not_trained_has_no_labels(bpe: Any, tmp_path: Path, key: str) -> None:
    wrong, right = {**SAY, "content": "WRONG", key: False}, {**SAY, "content": "right", key: True}
    if key.endswith("weight"):
        wrong, right = {**wrong, key: 0}, {**right, key: 1}
    row = run(lines(tmp_path / "d.jsonl", {"messages": [ASK, wrong, ASK, right]}), bpe).dataset[0]
    trained = [row["text"][a:b] for (a, b), label in zip(row["offsets"], row["labels"], strict=True) if label != -100]
    assert "".join(trained) == "right<|im_end|>"
    assert "WRONG" in row["text"]
