"""Small inputs that once failed, laid beside the project: each is validated as a user would, and read back.

They are not shipped; without them the lookalikes in tests/unit/data stand for the same kinds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftgo_cli.builtin import model_folder
from sftgo_cli.cli.main import main

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")
THINK, EITHER, DATE, LASTSYS = "think", "either", "date", "lastsys"
END, EOS = "<|im_end|>", "<|end|>"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "base"
    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny"))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", END]})
    model = AutoModelForCausalLM.from_pretrained(model_folder("tiny"))
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scored(
    base: Path, tmp_path: Path, template: str, data: str, capsys: Any, *overrides: str
) -> tuple[int, str, list[Any]]:
    """The exit code of `sftgo score`, what it printed, and the rows as (text, supervised text)."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name_or_path: {base}, dtype: float32}}\n"
        f"data: {{train: {CASES}/data/{data}, chat_template: {CASES}/templates/{template}.jinja, max_length: 256}}\n"
        "training: {output_dir: run, use_cpu: true}\n"
    )
    out = tmp_path / "columns"
    code = main(["score", str(recipe), "--output", str(out), *overrides])
    printed = capsys.readouterr()
    if code:
        return code, printed.err, []
    from datasets import load_from_disk

    rows = []
    for row in load_from_disk(str(out)):
        kept = [place for place, label in enumerate(row["labels"]) if label != -100]
        rows.append((row["text"], "".join(row["text"][slice(*row["offsets"][place])] for place in kept)))
    return code, " ".join(printed.out.split()), rows


@pytest.mark.parametrize(
    ("template", "data", "supervised"),
    [
        (DATE, "weight.jsonl", f"right answer{EOS}"),
        (DATE, "losskey.jsonl", f"right answer{EOS}"),
        (DATE, "msgsstr.jsonl", f"an answer{EOS}"),
        (DATE, "wsystem.jsonl", f"an answer{EOS}other answer{EOS}"),
        (THINK, "reason.jsonl", f"<think>\nTHINK-one\n</think>\n\nuno{END}<think>\nTHINK-two\n</think>\n\ndos{END}"),
        (EITHER, "argsempty.jsonl", f'[CALLS]{{"name": "now", "arguments": {{}}}}{EOS}It is 9{EOS}'),
        (
            THINK,
            "toolmulti.jsonl",
            f'<call>{{"name": "w", "arguments": {{"city": "P"}}}}</call>{END}It is 20{END}'
            f'Let me see<call>{{"name": "w", "arguments": {{"city": "R"}}}}</call>{END}It is 25{END}',
        ),
    ],
)
def test_accepted_and_trained(
    base: Path, tmp_path: Path, capsys: Any, template: str, data: str, supervised: str
) -> None:
    code, _, rows = scored(base, tmp_path, template, data, capsys)
    assert code == 0
    assert [text for _, text in rows] == [supervised] * len(rows)
    if template == DATE:
        assert all(text.startswith("26 Jul 2024\n") for text, _ in rows)


def test_calls_beside_text_that_the_template_cannot_write(base: Path, tmp_path: Path, capsys: Any) -> None:
    code, err, _ = scored(base, tmp_path, EITHER, "toolmulti.jsonl", capsys)
    assert code == 2
    assert "answer text of 2 messages in 2 rows" in err
    code, _, rows = scored(base, tmp_path, EITHER, "toolmulti.jsonl", capsys, "data.on_left_out=allow")
    assert code == 0
    assert '[CALLS]{"name": "w", "arguments": {"city": "R"}}<|end|>It is 25' in rows[0][1]
    assert "[RES]" not in rows[0][1]


def test_a_lost_system_prompt_is_counted(base: Path, tmp_path: Path, capsys: Any) -> None:
    code, out, _ = scored(base, tmp_path, LASTSYS, "wsystem.jsonl", capsys)
    assert code == 0
    assert "leaves out system prompts: 2 in 2 rows of train.0" in out


def test_reasoning_that_the_template_drops_is_counted(base: Path, tmp_path: Path, capsys: Any) -> None:
    code, err, _ = scored(base, tmp_path, DATE, "reason.jsonl", capsys)
    assert code == 2
    assert "reasoning of 4 messages in 2 rows" in err


def test_nulls_of_a_unified_table_reach_no_text(base: Path, tmp_path: Path, capsys: Any) -> None:
    code, _, rows = scored(base, tmp_path, THINK, "nulls.parquet", capsys)
    assert code == 0
    assert rows
    assert not any("null" in text or "None" in text for text, _ in rows)


def test_equal_rows_stay_on_one_side(base: Path, tmp_path: Path, capsys: Any) -> None:
    code, out, rows = scored(base, tmp_path, DATE, "dups.jsonl", capsys, "data.eval={heldout: {fraction: 0.2}}")
    assert code == 0
    assert len({text for text, _ in rows}) < 5  # of five different rows some are held out, with all their copies
    assert "heldout" in out
