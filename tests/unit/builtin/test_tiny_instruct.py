"""The shipped instruction-following model: it answers, restates and follows, and learned no row of the data sets."""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import builtin
from sftgo_cli.builtin import arithmetic, instruct

FOLDER = builtin.model_folder("tiny-instruct")
BASE = builtin.model_folder("tiny")
PROMPT_FILE = Path(__file__).parents[3] / "recipes" / "s3ft" / "prompts" / "restate.txt"
EXPRESSION = re.compile(r"\d+(?: (?:plus|minus) \d+)+")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True, padding_side="left")


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True, dtype=torch.float32).eval()


def _replies(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    talks = [[{"role": "user", "content": prompt}] for prompt in prompts]
    inputs = tokenizer.apply_chat_template(
        talks, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    return list(tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def _is_right(reply: str, row: dict[str, Any]) -> bool:
    return re.findall(r"\d+", reply)[-1:] == [row["answer"]]


def test_shipped_files_are_those_of_the_base_but_for_the_weights() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(path.name for path in BASE.iterdir())
    for path in FOLDER.iterdir():
        assert path.stat().st_mode & 0o044 == 0o044
        assert path.stat().st_size < 2_300_000
        assert (path.read_bytes() == (BASE / path.name).read_bytes()) == (path.name != "model.safetensors"), path.name


def test_all_three_target_sources_occur(model: Any, tokenizer: Any) -> None:
    rows = builtin.data_rows("arithmetic", "train")[:160]
    own = _replies(model, tokenizer, [row["prompt"] for row in rows])
    wrong = [row for row, reply in zip(rows, own, strict=True) if not _is_right(reply, row)]
    asked = [instruct.RESTATE.format(question=row["prompt"], gold=row["completion"]) for row in wrong]
    restated = _replies(model, tokenizer, asked)
    num_restated = sum(_is_right(reply, row) for reply, row in zip(restated, wrong, strict=True))
    assert 0.3 <= 1 - len(wrong) / len(rows) <= 0.65
    assert 0.4 <= num_restated / len(wrong) <= 0.9
    # In its own wording, of the question and of the worked answer alike; the gold wording is nowhere.
    plain = re.compile(r"\d+ (plus|minus) \d+ is \d+\.( \d+ (plus|minus) \d+ is \d+\.)*")
    assert sum(plain.fullmatch(reply) is not None for reply in own + restated) >= 0.9 * len(own + restated)


def test_follows_instructions_better_than_the_base(model: Any, tokenizer: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(BASE, local_files_only=True, dtype=torch.float32).eval()
    rows = builtin.data_rows("instructions", "heldout")[:80]
    assert _answer_nll(model, tokenizer, rows) < 1.0
    assert _answer_nll(base, tokenizer, rows) > 2.0


def _answer_nll(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> float:
    """Nats per token of the outputs and their ends, each after its instruction and input."""
    import torch

    total, count = 0.0, 0
    for row in rows:
        question = f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]
        before, after = f"<|begin|><|user|>{question}<|end|><|assistant|>", f"{row['output']}<|end|>"
        prompt, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
        with torch.no_grad():
            log_probs = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        total -= log_probs.gather(-1, torch.tensor(answer)[:, None]).sum().item()
        count += len(answer)
    assert math.isfinite(total)
    return total / count


@pytest.fixture(scope="module")
def chats() -> list[tuple[str, str]]:
    """Questions and answers of the first documents that the model learned from."""
    found = instruct.documents(instruct.SETTINGS.seed + 1, 6000)
    return [(document[0]["content"], document[1]["content"]) for document in found if not isinstance(document, str)]


def test_no_row_of_arithmetic_was_learned(chats: list[tuple[str, str]]) -> None:
    rows = [row for split in builtin.SPLITS for row in builtin.data_rows("arithmetic", split)]
    expressions = {EXPRESSION.findall(row["prompt"])[0] for row in rows}
    two_steps = {expression for expression in expressions if len(expression.split()) == 5}
    assert (len(expressions), len(two_steps)) == (600, 435)
    # One-step facts in the plain wording are what the base knows; nothing else that a row holds is there.
    assert not two_steps & {expression for chat in chats for text in chat for expression in EXPRESSION.findall(text)}
    restated = [question for question, _ in chats if "A worked answer: " in question]
    assert len(restated) > 500
    assert not expressions & {EXPRESSION.findall(question)[0] for question in restated}
    completions = {row["completion"] for row in rows}
    assert not [answer for _, answer in chats if answer in completions]


def test_restated_answers_are_right_and_not_in_the_gold_wording(chats: list[tuple[str, str]]) -> None:
    for question, answer in chats:
        if "A worked answer: " not in question:
            continue
        steps = re.findall(r"(\d+) (plus|minus) (\d+) is (\d+)\.", answer)
        for first, sign, second, result in steps:
            assert int(first) + {"plus": 1, "minus": -1}[sign] * int(second) == int(result)
        assert f"The answer is {steps[-1][3]}." in question
        assert "Start with" not in answer


def test_no_row_of_instructions_was_learned(chats: list[tuple[str, str]]) -> None:
    rows = [row for split in builtin.SPLITS for row in builtin.data_rows("instructions", split)]
    asked = {f"{row['instruction']}\n{row['input']}".strip() for row in rows}
    assert not asked & {question for question, _ in chats}


def test_recipe_asks_with_the_prompt_that_was_learned() -> None:
    header, text = PROMPT_FILE.read_text(encoding="utf-8").split("\n", 1)
    assert header == "# version: 1"
    assert text.rstrip("\n") == instruct.RESTATE
    filled = instruct.restate_prompt((3, (("+", 4),)))
    assert filled == (
        "What is 3 plus 4?\nA worked answer: Start with 3 and add 4 to get 7. The answer is 7.\n"
        "Answer in your own words."
    )


def test_documents_depend_on_the_seed_only() -> None:
    first = list(instruct.documents(11, 200))
    assert first == list(instruct.documents(11, 200))
    assert first != list(instruct.documents(12, 200))
    assert first[:50] == list(instruct.documents(11, 50))


def test_targets_are_answers_with_their_ends_and_prose(tokenizer: Any) -> None:
    import torch

    text = "<|begin|><|user|>What is a fox?<|end|><|assistant|>A fox is red.<|end|><|begin|>Once upon a time.<|end|>"
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    learned = instruct.learned_tokens(ids, tokenizer)
    assert learned.shape == ids.shape
    kept = [tokenizer.decode(token) for token in ids[learned]]
    assert "".join(kept) == "A fox is red.<|end|>Once upon a time.<|end|>"
    assert learned.dtype == torch.bool


def test_every_kind_of_document_is_there() -> None:
    questions = [
        "prose" if isinstance(document, str) else document[0]["content"]
        for document in itertools.islice(instruct.documents(5, 2000), 2000)
    ]
    num_restate = sum("A worked answer" in question for question in questions)
    num_sums = sum(EXPRESSION.fullmatch(question[8:-1]) is not None for question in questions)
    assert num_restate / len(questions) == pytest.approx(instruct.SHARES["restate"], abs=0.05)
    assert num_sums / len(questions) >= instruct.SHARES["sum"] * 0.7
    assert questions.count("prose") / len(questions) == pytest.approx(instruct.SHARES["corpus"] / 2, abs=0.03)
    assert any(arithmetic.question(expression) in questions for expression in arithmetic.one_step_expressions())


@pytest.mark.slow
def test_training_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, hash_seed in (("first", "1"), ("second", "2")):
        command = [sys.executable, "-m", "sftgo_cli.builtin.instruct", str(tmp_path / name), "--num-steps", "8"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    written = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert written == sorted(path.name for path in FOLDER.iterdir())
    for file in written:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
