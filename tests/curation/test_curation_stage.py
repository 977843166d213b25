"""A whole curation from recipe to rows: degenerate judges, formats, what is kept byte for byte, what is asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import pipeline
from sftgo_cli.cli.main import main
from sftgo_cli.curation.generators import column
from sftgo_cli.errors import UserError
from tests.curation.conftest import ROWS, write_rows

CURATION = (
    "curation=[{{name: {name}, judge: {{name: python, file: {judge}.py}}, "
    "generator: {{name: column, column: {column}{second}}}{more}}}]"
)


def curation(name: str = "s3ft", judge: str = "accept", column: str = "candidate", more: str = "") -> str:
    """The override for a curation by column and Python judge."""
    second = ", paraphrase_column: again" if name == "s3ft" else ""
    return CURATION.format(name=name, judge=judge, column=column, second=second, more=f", {more}" if more else "")


def tokens(project: Path, *overrides: str) -> list[dict[str, Any]]:
    """The tokenized training rows, without what names their file."""
    loaded = pipeline.load(project / "recipe.yaml", list(overrides))
    data = pipeline.tokenize(loaded, lambda line: None)
    return [row for dataset in data.train.datasets for row in dataset]


def provenance(project: Path, *overrides: str) -> list[dict[str, Any]]:
    """What is known of the targets."""
    loaded = pipeline.load(project / "recipe.yaml", list(overrides))
    data = pipeline.tokenize(loaded, lambda line: None)
    lines = [(folder / "provenance.jsonl").read_text().splitlines() for folder in data.curated.values()]
    return [json.loads(line) for part in lines for line in part]


def test_a_judge_that_always_accepts_takes_every_own_answer(project: Path) -> None:
    rows = provenance(project, curation())
    assert [row["target_source"] for row in rows] == ["model"] * len(ROWS)
    assert [row["target"] for row in rows] == [row["candidate"] for row in ROWS]
    assert [row["gold"] for row in rows] == [row["completion"] for row in ROWS]
    assert all(row["judge"] == "python" and row["own_answer_accepted"] for row in rows)


def test_a_judge_that_never_accepts_leaves_gold_token_for_token(project: Path) -> None:
    plain, curated = tokens(project), tokens(project, curation(judge="reject"))
    for before, after in zip(plain, curated, strict=True):
        for name in ("text", "input_ids", "labels", "offsets", "pinned", "source"):
            assert before[name] == after[name], name
    rows = provenance(project, curation(judge="reject"))
    assert {row["target_source"] for row in rows} == {"gold"}
    assert all(row["own_answer_accepted"] is False and row["paraphrase_accepted"] is False for row in rows)


def test_ssr_is_s3ft_without_the_paraphrase(project: Path) -> None:
    (project / "some.py").write_text("def judge(prompt, answer, gold, row):\n    return answer[-2] in gold\n")
    pair = [
        provenance(project, curation("ssr", "some")),
        provenance(project, curation("s3ft", "some", more="paraphrase: null")),
    ]
    assert pair[0] == pair[1]
    assert {row["target_source"] for row in pair[0]} == {"model", "gold"}


def test_sdft_begins_with_the_paraphrase(project: Path) -> None:
    rows = provenance(project, curation("sdft"))
    assert {row["target_source"] for row in rows} == {"paraphrase"}
    assert all(row["own_answer"] is None and row["prompt_hash"] for row in rows)


def test_rows_without_an_accepted_answer_can_be_dropped(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "some.py").write_text("def judge(prompt, answer, gold, row):\n    return '1' in prompt\n")
    override = curation("ssr", "some", more="fallback: drop")
    rows = provenance(project, override)
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in ROWS if "1" in row["prompt"]]
    assert main(["curate", str(project / "recipe.yaml"), override]) == 0
    assert f"of 12 rows {12 - len(rows)} dropped, 0 added: {len(rows)} rows" in capsys.readouterr().out


def test_a_finished_curation_asks_for_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = provenance(project, curation("ssr"))

    def refuse(*arguments: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(column, "generate", refuse)
    assert provenance(project, curation("ssr")) == first
    again = provenance(project, curation("ssr", "reject"))  # another judge, the same answers
    assert [row["own_answer"] for row in again] == [row["own_answer"] for row in first]
    assert provenance(project, curation("ssr", more="fallback: drop")) == first


def test_what_was_answered_before_an_error_is_not_asked_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    given = column.generate

    def breaking(wanted: Any, options: Any, context: Any, done: Any) -> None:
        def count(answers: Any) -> None:
            for number, answer in answers:
                if len(asked) == 5:
                    raise KeyboardInterrupt
                done([(number, answer)])
                asked.append(wanted[number].question.row_id)

        given(wanted, options, context, count)

    monkeypatch.setattr(column, "generate", breaking)
    assert main(["curate", str(project / "recipe.yaml"), curation("ssr")]) == 75
    assert len(asked) == 5
    capsys.readouterr()

    def rest(wanted: Any, options: Any, context: Any, done: Any) -> None:
        asked.extend(request.question.row_id for request in wanted)
        given(wanted, options, context, done)

    monkeypatch.setattr(column, "generate", rest)
    assert main(["curate", str(project / "recipe.yaml"), curation("ssr")]) == 0
    assert len(asked) == len(set(asked)) == len(ROWS)
    assert "(5 of 12 were finished before)" in capsys.readouterr().err


def test_held_out_rows_keep_their_answers(project: Path) -> None:
    held = "data.eval={heldout: {fraction: 0.25}}"
    loaded = [pipeline.load(project / "recipe.yaml", [held, *more]) for more in ([], [curation()])]
    plain, curated = (pipeline.tokenize(one, lambda line: None) for one in loaded)
    assert plain.evaluation["heldout"].keys == curated.evaluation["heldout"].keys
    texts = curated.evaluation["heldout"].datasets[0]["text"][:]
    assert len(texts) == 3
    assert all(" make " in text for text in texts)
    assert curated.train.num_rows == plain.train.num_rows == 9


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "What is 1 plus 1?"},
    {"role": "assistant", "content": "Two.", "loss_weight": 0.5, "reasoning_content": "1 + 1"},
]
TURNS = [
    {"from": "human", "value": "Hello"},
    {"from": "gpt", "value": "Hi."},
    {"from": "human", "value": "What is 1 plus 1?"},
    {"from": "gpt", "value": "Two."},
]
CALL_ALONE = {"role": "tool_call", "content": '{"name": "f"}'}
SEGMENTS = [{"text": "One and one, ", "train": False}, {"text": "Two.", "group": 1}]
FORMATS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "alpaca": ({"instruction": "Add.", "input": "1 and 1", "output": "Two."}, "output", "2"),
    "prompt and completion": ({"prompt": "1 plus 1?", "completion": "Two."}, "completion", "2"),
    "segments": ({"prompt": "1 plus 1?", "completion": SEGMENTS}, "completion", "2"),
    "prompt messages": (
        {"prompt": CHAT[:4], "completion": [{"role": "assistant", "content": "Two."}]},
        "completion",
        [{"role": "assistant", "content": "2"}],
    ),
    "messages": (
        {"messages": CHAT},
        "messages",
        [*CHAT[:4], {"role": "assistant", "content": "2", "loss_weight": 0.5}],
    ),
    "sharegpt": ({"conversations": TURNS}, "conversations", [*TURNS[:3], {"from": "gpt", "value": "2"}]),
    "sharegpt with system": (
        {"conversations": TURNS, "system": "Be brief."},
        "conversations",
        [*TURNS[:3], {"from": "gpt", "value": "2"}],
    ),
    "query and response": (
        {"query": "1 plus 1?", "response": "Two.", "history": [["Hello", "Hi."]]},
        "response",
        "2",
    ),
    "weighted by another key": (
        {"messages": [CHAT[3], {"role": "assistant", "content": "Two.", "weight": 0.5}]},
        "messages",
        [CHAT[3], {"role": "assistant", "content": "2", "weight": 0.5}],
    ),
    "JSON text": (
        {"messages": json.dumps(CHAT), "system": None},
        "messages",
        [*CHAT[:4], {"role": "assistant", "content": "2", "loss_weight": 0.5}],
    ),
    "calls that are messages": (
        {
            "messages": [CHAT[1], CHAT[2], CALL_ALONE, {"role": "tool_response", "content": "ok"}, *CHAT[3:]],
            "system": None,
        },
        "messages",
        [
            CHAT[1],
            {**CHAT[2], "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]},
            {"role": "tool", "content": "ok"},
            CHAT[3],
            {"role": "assistant", "content": "2", "loss_weight": 0.5},
        ],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gets_the_target_in_the_answer_s_place(project: Path, name: str) -> None:
    values, where, expected = FORMATS[name]
    write_rows(project / "rows.jsonl", [{**values, "candidate": "2", "id": "r1"}])
    any_row = [
        "data.chat_template=chatml",
        "data.on_left_out=allow",
    ]  # the built-in template knows neither tools nor thought
    loaded = pipeline.load(project / "recipe.yaml", [curation("ssr"), *any_row])
    data = pipeline.tokenize(loaded, lambda line: None)
    written = json.loads((data.curated["train.0"] / "rows.jsonl").read_text())
    assert written == {**values, where: expected, "id": "r1"}
    fact = json.loads((data.curated["train.0"] / "provenance.jsonl").read_text())
    assert fact["gold"] == ("One and one, Two." if name == "segments" else "Two.")
    assert fact["prompt"].endswith(("1 and 1", "1 plus 1?"))
    assert data.train.datasets[0]["row_id"][:] == ["r1"]


def test_a_row_that_keeps_gold_keeps_its_segments(project: Path) -> None:
    write_rows(project / "rows.jsonl", [{"prompt": "1 plus 1?", "completion": SEGMENTS, "candidate": "2"}])
    plain, kept = tokens(project), tokens(project, curation("ssr", "reject"))
    assert plain[0]["labels"] == kept[0]["labels"]
    answer = len("One and one, Two.")
    shown = [
        kept[0]["text"][start:end]
        for label, (start, end) in zip(kept[0]["labels"], kept[0]["offsets"], strict=True)
        if label != -100
    ]
    assert "".join(shown).replace("<|end|>", "").strip() == "Two."
    assert kept[0]["text"].removesuffix("<|end|>")[-answer:] == "One and one, Two."


def test_methods_follow_one_another(project: Path) -> None:
    """The second method takes the first one's targets for gold, and what it leaves there keeps its source."""
    (project / "one.py").write_text("def judge(prompt, answer, gold, row):\n    return '1' in prompt\n")
    rows = [{**row, "other": "other"} for row in ROWS]
    write_rows(project / "rows.jsonl", rows)
    first, second = curation("ssr", "one"), curation("ssr", "reject", "other")
    both = first[:-1] + ", " + second.removeprefix("curation=[")
    found = provenance(project, both)
    assert [row["target"] for row in found] == [
        row["candidate"] if "1" in row["prompt"] else row["completion"] for row in rows
    ]
    assert {row["target_source"] for row in found if "1" in row["prompt"]} == {"model"}


REFUSED = {
    "no prompt and answer": ([{"text": "Once upon a time."}], [], "text rows have no prompt and answer"),
    "weights of tokens": ([{**ROWS[0], "token_weights": [1.0] * 17}], [], "token_weights speak of the tokens"),
    "no such column": (ROWS, [curation(column="candidates")], "candidates"),
    "no judge file": (ROWS, [curation(judge="missing")], "missing.py"),
    "a column per token": (
        [{**ROWS[0], "scores": [0.5] * 17}],
        ["scoring={name: column, column: scores}"],
        "a number per token",
    ),
    "prompt with an unknown field": (ROWS, [curation(more="paraphrase: bad.txt")], "unknown field"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_exit_2(project: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows, overrides, expected = REFUSED[case]
    (project / "bad.txt").write_text("{question} {answer}\n")
    write_rows(project / "rows.jsonl", rows)
    chosen = overrides if any(one.startswith("curation=") for one in overrides) else [*overrides, curation("ssr")]
    assert main(["curate", str(project / "recipe.yaml"), *chosen]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert expected in lines[0]


def test_a_recipe_without_curation_has_nothing_to_curate(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", str(project / "recipe.yaml")]) == 2
    assert "the recipe has no curation" in capsys.readouterr().err


def test_validate_checks_a_curation_and_generates_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(column, "generate", refuse)
    assert main(["validate", str(project / "recipe.yaml"), curation()]) == 0
    assert "curation was checked and not run" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"missing\.py"):
        pipeline.prepare(
            pipeline.load(project / "recipe.yaml", [curation(judge="missing")]), lambda line: None, generating=False
        )


def test_output_opens_with_datasets(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import load_from_disk

    mixed = [ROWS[0], {**ROWS[1], "completion": SEGMENTS}]
    write_rows(project / "rows.jsonl", mixed)
    (project / "one.py").write_text("def judge(prompt, answer, gold, row):\n    return '0' in prompt\n")
    assert main(["curate", str(project / "recipe.yaml"), curation("ssr", "one"), "--output", "out"]) == 0
    saved = load_from_disk(str(project / "out"))
    assert saved["target"][:] == ["It is 0.", "One and one, Two."]
    assert saved["target_source"][:] == ["model", "gold"]
    assert json.loads(saved["completion"][1]) == SEGMENTS
    assert main(["curate", str(project / "recipe.yaml"), curation("ssr", "one"), "--output", "out"]) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_log_probabilities_are_those_of_the_base_model(project: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sftgo_cli.builtin import model_folder

    model = AutoModelForCausalLM.from_pretrained(model_folder("tiny"), dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny"))
    for row in provenance(project, curation("ssr"))[:4]:
        for name in ("gold", "target"):
            question = [{"role": "user", "content": row["prompt"]}]
            asked = tokenizer.apply_chat_template(
                question, tokenize=True, return_dict=False, add_generation_prompt=True
            )
            answer = tokenizer(row[name], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            ids = torch.tensor([asked + answer])
            with torch.no_grad():
                logs = model(ids).logits[0].log_softmax(-1)
            expected = sum(float(logs[len(asked) + n - 1, token]) for n, token in enumerate(answer))
            assert row[f"{name}_num_tokens"] == len(answer)
            assert row[f"{name}_log_probability"] == pytest.approx(expected, abs=1e-4)


def test_a_system_prompt_of_the_recipe_stands_before_the_questions(project: Path) -> None:
    write_rows(project / "rows.jsonl", [{"prompt": "1 plus 1?", "completion": "Two.", "candidate": "2", "id": "r1"}])
    folders = []
    for more in ([], ["data.system_prompt=Be brief."]):
        loaded = pipeline.load(project / "recipe.yaml", [curation("ssr"), *more])
        data = pipeline.tokenize(loaded, lambda line: None)
        folders.append(data.curated["train.0"])
        assert ("Be brief." in data.train.datasets[0]["text"][0]) == bool(more)
    assert folders[0] != folders[1]


def test_a_broken_line_is_left_out_of_curation_too(project: Path) -> None:
    rows = [{"prompt": f"{k} plus 1?", "completion": "Two.", "candidate": "2", "id": f"r{k}"} for k in range(3)]
    lines = [json.dumps(row) for row in rows]
    (project / "rows.jsonl").write_text("\n".join([lines[0], "{", lines[1], lines[2]]) + "\n")
    loaded = pipeline.load(project / "recipe.yaml", [curation("ssr"), "data.on_bad_row=drop"])
    data = pipeline.tokenize(loaded, lambda line: None)
    assert data.train.datasets[0]["row_id"][:] == ["r0", "r1", "r2"]
