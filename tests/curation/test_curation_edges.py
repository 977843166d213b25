"""Rows that a curation could harm without saying so: ids that clash, tool calls, long targets, odd characters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import pipeline
from sftgo_cli.cli.main import main
from tests.curation.conftest import ROWS, write_rows
from tests.curation.test_curation_stage import curation, provenance

LONG = "word " * 200


def curated_rows(project: Path, *overrides: str) -> list[dict[str, Any]]:
    data = pipeline.tokenize(pipeline.load(project / "recipe.yaml", list(overrides)), lambda line: None)
    return [json.loads(line) for line in (data.curated["train.0"] / "rows.jsonl").read_text().splitlines()]


def test_a_judge_cannot_change_the_rows(project: Path) -> None:
    messages = [{"role": "user", "content": "1 plus 1?"}, {"role": "assistant", "content": "2"}]
    write_rows(project / "rows.jsonl", [{"messages": messages, "candidate": "3"}])
    (project / "accept.py").write_text(
        "def judge(prompt, answer, gold, row):\n    row['messages'][0]['content'] = 'X'\n    return False\n"
    )
    assert curated_rows(project, curation("ssr"))[0]["messages"] == messages


def test_ids_that_read_like_ours_lose_no_row(project: Path) -> None:
    write_rows(project / "rows.jsonl", [{**ROWS[0], "id": "row:1"}, ROWS[1], {**ROWS[2], "id": "row:1"}, ROWS[3]])
    rows = curated_rows(project, curation("ssr"))
    assert [row["completion"] for row in rows] == [row["candidate"] for row in ROWS[:4]]
    assert len({row["id"] for row in rows}) == 4


def test_ids_of_added_rows_clash_with_no_other(project: Path) -> None:
    answers = ["2 + 2 = <<2+2=4>>4 #### 4", "3 + 1 = <<3+1=4>>4 #### 4"]
    rows = [{"prompt": "2 plus 2?", "completion": "4", "answers": answers, "id": name} for name in ("a", "a/1")]
    write_rows(project / "rows.jsonl", rows)
    override = "curation=[{name: rft, num_samples: 2, judge: numeric, generator: {name: column, column: answers}}]"
    found = curated_rows(project, override)
    assert len(found) == len({row["id"] for row in found}) == 6
    data = pipeline.tokenize(pipeline.load(project / "recipe.yaml", [override]), lambda line: None)
    assert data.train.datasets[0]["row_id"][:] == [row["row_id"] for row in provenance(project, override)]


def test_a_row_that_ends_in_a_tool_call_stays_as_it_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    silent = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi.", "loss_weight": 0.0}]
    weighed = [{"role": "assistant", "content": "Yes.", "loss_weight": 1.0}, *silent]
    rows = [{"messages": turns, "candidate": "No."} for turns in (messages, weighed, silent[:1] + weighed[:1])]
    write_rows(project / "rows.jsonl", rows)
    overrides = ["data.chat_template=chatml", "data.on_left_out=allow", curation("ssr")]
    found = curated_rows(project, *overrides)
    assert [row["messages"] for row in found][:2] == [messages, weighed]
    assert found[2]["messages"][-1] == {"role": "assistant", "content": "No.", "loss_weight": 1.0}
    assert main(["curate", str(project / "recipe.yaml"), *overrides]) == 0
    assert "2 rows end in a tool call or an answer of weight 0" in capsys.readouterr().out


def test_a_target_that_would_be_cut_is_not_used(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**ROWS[0], "candidate": LONG}, ROWS[1], {**ROWS[2], "completion": LONG, "candidate": "2"}]
    write_rows(project / "rows.jsonl", rows)
    assert [row["target_source"] for row in provenance(project, curation("ssr"))] == ["gold", "model", "model"]
    assert curated_rows(project, curation("ssr"))[0]["completion"] == ROWS[0]["completion"]
    assert main(["curate", str(project / "recipe.yaml"), curation("ssr"), "data.on_overlong=error"]) == 2
    assert "rows.jsonl:3" in capsys.readouterr().err, "gold itself is too long"
    assert main(["curate", str(project / "recipe.yaml"), curation("ssr")]) == 0
    assert "1 targets do not fit data.max_length (128 tokens)" in capsys.readouterr().out


def test_segment_groups_and_curation_exclude_each_other(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", str(project / "recipe.yaml"), curation("ssr"), "grouping={segments: {num_groups: 2}}"]) == 2
    assert "grouping.segments reads groups that the given answers mark" in capsys.readouterr().err


def test_a_later_method_that_keeps_a_target_keeps_where_it_is_from(project: Path) -> None:
    write_rows(project / "rows.jsonl", [{**row, "other": "other"} for row in ROWS[:3]])
    second = curation("sdft", "reject", "other").removeprefix("curation=[")
    found = provenance(project, curation("ssr")[:-1] + ", " + second)
    alone = provenance(project, curation("ssr"))
    for row, before in zip(found, alone, strict=True):
        assert row["target_source"] == "model"
        assert {key: row[key] for key in ("own_answer", "own_answer_accepted", "seed", "generator")} == {
            key: before[key] for key in ("own_answer", "own_answer_accepted", "seed", "generator")
        }
        assert row["paraphrase_accepted"] is False


def test_a_curation_that_drops_everything_says_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    override = curation("ssr", "reject", more="fallback: drop")
    assert main(["curate", str(project / "recipe.yaml"), override]) == 2
    assert "the curation dropped all 12 rows: no answer was accepted" in capsys.readouterr().err


def test_lone_surrogates_and_empty_samples_are_survived(project: Path) -> None:
    from datasets import load_from_disk

    rows = [{"prompt": "1 plus 1\ud83d?", "completion": "Two\udc80.", "candidate": ["", "2\ud83d"]}]
    (project / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = (
        "curation=[{name: s3ft, judge: {name: python, file: reject.py}, generator: {name: model, max_new_tokens: 4}}]"
    )
    assert main(["curate", str(project / "recipe.yaml"), asked, "--output", "asked"]) == 0
    assert load_from_disk(str(project / "asked"))["completion"][:] == ["Two?."]
    sampled = (
        "curation=[{name: rft, num_samples: 2, judge: {name: python, file: accept.py}, "
        "generator: {name: column, column: candidate}}]"
    )
    assert [row["target_source"] for row in provenance(project, sampled)] == ["gold", "model"]
    assert provenance(project, sampled)[0]["rejected"] == ["empty"]


def test_a_prompt_that_does_not_fit_the_model_is_counted_and_gold_is_kept(project: Path) -> None:
    (project / "long.txt").write_text("{question} {gold} " + "word " * 1100)
    override = (
        "curation=[{name: sdft, judge: {name: python, file: accept.py}, paraphrase: long.txt, log_probabilities: false, "
        "generator: {name: model, max_new_tokens: 4}}]"
    )
    rows = provenance(project, override)
    assert {row["target_source"] for row in rows} == {"gold"}
    assert {row["paraphrase_verdict"] for row in rows} == {"its prompt does not fit the model's context"}


def test_output_keeps_the_conversation_and_the_other_columns(project: Path) -> None:
    from datasets import load_from_disk

    turns = [
        {"role": "user", "content": "My number is 4."},
        {"role": "assistant", "content": "Fine."},
        {"role": "user", "content": "What is 4 plus 3?"},
    ]
    rows = [{"prompt": turns, "completion": [{"role": "assistant", "content": "7"}], "candidate": "Seven", "answer": 7}]
    write_rows(project / "rows.jsonl", rows)
    assert main(["curate", str(project / "recipe.yaml"), curation("ssr"), "--output", "out"]) == 0
    saved = load_from_disk(str(project / "out"))[0]
    assert saved["prompt"] == turns
    assert saved["completion"] == [{"role": "assistant", "content": "Seven"}]
    assert (saved["answer"], saved["target"], saved["gold"]) == (7, "Seven", "7")


def test_short_forms_of_inner_choices_can_be_overridden(project: Path) -> None:
    text = (project / "recipe.yaml").read_text()
    inner = "curation: [{name: ssr, judge: numeric, generator: model}]\n"
    held = "evaluation: {answers: {held: {judge: numeric}}}\n"
    (project / "recipe.yaml").write_text(
        text.replace("  max_length", "  eval: {held: {fraction: 0.2}}\n  max_length") + inner + held
    )
    overrides = [
        "curation.0.judge.tolerance=0.1",
        "curation.0.generator.temperature=0.5",
        "evaluation.answers.held.judge.tolerance=0.2",
    ]
    recipe = pipeline.load(project / "recipe.yaml", overrides).recipe
    assert recipe.curation[0].options.judge.options.tolerance == 0.1
    assert recipe.curation[0].options.generator.options.temperature == 0.5
    assert recipe.evaluation.answers["held"].judge.options.tolerance == 0.2
    changed = pipeline.load(project / "recipe.yaml", [overrides[2], "evaluation.answers.held.judge=exact"]).recipe
    assert changed.evaluation.answers["held"].judge.name == "exact"


def test_a_judge_of_the_evaluation_is_checked_before_the_training(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [
        "data.eval={held: {fraction: 0.25}}",
        "evaluation.answers={held: {judge: {name: numeric, answer_column: nope}}}",
    ]
    assert main(["train", str(project / "recipe.yaml"), *overrides]) == 2
    assert "nope" in capsys.readouterr().err
    assert not (project / "runs" / "unused").exists()
