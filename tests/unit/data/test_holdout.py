"""Held-out rows: equal prompts stay on one side, and what is trained on all the same is counted."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.data.holdout import Leakage, leakage, split_heldout
from sftgo_cli.data.row_keys import normalized, prompt_key, row_key
from sftgo_cli.data.samples import ChatBody, PairBody, Sample, TextBody, TokenBody
from sftgo_cli.data.stages import Rows, Tokenizing, held_out, tokenized
from sftgo_cli.recipe.data_section import DataSection, EvalSource, TrainSource


def keyed(prompts: list[int], start: int = 0) -> Any:
    from datasets import Dataset

    rows = range(start, start + len(prompts))
    return Dataset.from_dict({"row_id": [f"r{k}" for k in rows], "row_key": list(rows), "prompt_key": prompts})


@pytest.mark.parametrize(
    ("prompts", "fraction", "expected"),
    [
        ([k % 5 for k in range(40)], 0.2, 8),  # 5 prompts of 8 rows: one of them
        ([k % 5 for k in range(40)], 0.1, 8),  # none has 4 rows: one all the same
        (list(range(100)), 0.1, 10),
        ([k // 2 for k in range(100)], 0.1, 10),
        ([0] * 90 + list(range(1, 11)), 0.05, 5),  # the large prompt is too large
        ([7] * 50, 0.1, 5),  # all ask the same: rows are held out one by one
    ],
)
def test_equal_prompts_stay_on_one_side(prompts: list[int], fraction: float, expected: int) -> None:
    dataset = keyed(prompts)
    for seed in range(5):
        train, heldout = split_heldout(dataset, fraction, seed)
        assert len(heldout) == expected
        assert sorted(train + heldout) == list(range(len(prompts)))
        shared = {prompts[i] for i in train} & {prompts[i] for i in heldout}
        assert not shared or set(prompts) == {7}


def test_the_choice_follows_the_prompts_and_spreads_evenly() -> None:
    forward, backward = keyed(list(range(1000))), keyed(list(range(999, -1, -1)))
    prompts = [set(split_heldout(data, 0.1, 3)[1]) for data in (forward, backward)]
    assert prompts[0] == {999 - row for row in prompts[1]}
    assert prompts[0] != set(split_heldout(forward, 0.1, 4)[1])
    larger = set(split_heldout(forward, 0.2, 3)[1])
    assert prompts[0] <= larger
    gaps = [b - a for a, b in pairwise(sorted(larger))]
    assert max(gaps) < 60  # 200 of 1000: nothing is left out for long


def test_leakage_is_counted() -> None:
    train = [keyed([1, 2, 3]), keyed([4, 5], start=3)]
    evaluation = keyed([5, 9, 1, 9], start=4)  # row 4 is trained on; prompt 1 is; prompts 9 are not
    assert leakage([evaluation], train) == Leakage(4, 1, 1, ("r4", "r6"))
    assert leakage([evaluation], []) == Leakage(4, 0, 0, ())
    assert leakage([keyed([9], start=50), evaluation], train).first_rows == ("r4", "r6")


def test_normalized_prompts() -> None:
    for one, other in [
        ("What is  it?", "what is it"),
        ("Ｗhat is it", "what is it!"),
        ("1,000 eggs.", "1,000 eggs"),
        ("«Qué»", "qué"),
    ]:
        assert normalized(one) == normalized(other)
    for one, other in [("2+2", "2-2"), ("1.5", "15"), ("-4", "4"), ("a b", "ab"), ("1,5", "15")]:
        assert normalized(one) != normalized(other)


def keys(body: Any) -> tuple[int, int]:
    sample = Sample("r", "d:1", body)
    return row_key(sample), prompt_key(sample)


def chat(*texts: str, system: str = "", **more: Any) -> ChatBody:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return ChatBody(messages, **more)


def test_keys_of_every_kind_of_row() -> None:
    bodies = {
        "pair": (PairBody("Ask?", "a", "Ask?"), PairBody("ask", "b", "ask"), PairBody("other", "a", "other")),
        "chat": (chat("Ask?", "a"), chat("ask", "b", system="S"), chat("other", "a")),
        "turns": (chat("x", "y", "Ask?", "a"), chat("X", "z", "ask", "a"), chat("x", "y", "other", "a")),
        "text": (TextBody("Ask?"), TextBody("ask"), TextBody("other")),
        "tokens": tuple(TokenBody([a, b], [-100, b], None) for a, b in ((1, 2), (1, 3), (2, 2))),
        "no prompt": (PairBody("", "Ask?", ""), PairBody("", "ask", ""), PairBody("", "other", "")),
        "assistant only": (ChatBody([{"role": "assistant", "content": "Ask?"}]),
                           ChatBody([{"role": "assistant", "content": "ask"}]),
                           ChatBody([{"role": "assistant", "content": "other"}])),
    }  # fmt: skip
    for name, (one, same_prompt, other) in bodies.items():
        assert keys(one)[1] == keys(same_prompt)[1], name
        assert keys(one)[1] != keys(other)[1], name
        assert len({keys(body)[0] for body in (one, same_prompt, other)}) == 3, name
        assert keys(one) == keys(one)
    assert keys(chat("q", "a", weights=[1.0, 0.0])) == keys(chat("q", "a"))
    assert keys(chat("q", "a", tools=[{"name": "f"}]))[0] != keys(chat("q", "a"))[0]
    assert keys(PairBody("q\ud800", "a", "q")) != keys(PairBody("q", "a", "q"))


def prepared(
    tmp_path: Path, tokenizer: Any, files: dict[str, list[dict[str, Any]]], **data: Any
) -> tuple[Rows, Any, Tokenizing]:
    import json

    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = {f"train.{i}": TrainSource(path=f"{name}.jsonl") for i, name in enumerate(files)}
    job = Tokenizing(
        DataSection(train=list(sources.values()), **data), tmp_path, tokenizer, None, (), lambda line: None
    )
    rows, reports = tokenized(sources, job)
    return rows, reports, job


def pairs(*prompts: int, answer: str = "a") -> list[dict[str, Any]]:
    return [{"prompt": f"ask {k}", "completion": f"{answer}{i}"} for i, k in enumerate(prompts)]


def test_prompts_stay_on_one_side_over_all_sources(tmp_path: Path, bpe: Any) -> None:
    files = {
        "one": pairs(*[k % 10 for k in range(40)]),
        "two": pairs(*range(10), answer="b"),
        "tiny": pairs(3, answer="c"),
    }
    rows, _, _ = prepared(tmp_path, bpe, files)
    train, sets = held_out(rows, {"first": 0.1, "second": 0.2}, lambda line: None)
    parts = [train, sets["first"], sets["second"]]
    assert sum(part.num_rows for part in parts) == 51
    asked = [{text.split(".")[0][:5] for data in part.datasets for text in data["text"]} for part in parts]
    assert not asked[0] & asked[1]
    assert not asked[2] & (asked[0] | asked[1])
    assert all(len(part.datasets) == 3 for part in parts)
    assert len({key for part in parts for key in part.keys}) == 9
    for rows in (sets["first"], sets["second"]):
        assert leakage(rows.datasets, train.datasets).same_prompt == 0


def test_equal_rows_of_several_sources_are_trained_on_once(tmp_path: Path, bpe: Any) -> None:
    files = {"one": pairs(1, 2), "two": [*pairs(2, 1, answer="z"), *pairs(1)]}
    rows, reports, job = prepared(tmp_path, bpe, files, deduplicate=True)
    assert [len(data) for data in rows.datasets] == [2, 2]
    assert reports[1].dropped["duplicate"].num_rows == 1
    evaluation, _ = tokenized({"again": EvalSource(path="one.jsonl")}, job)
    assert evaluation.num_rows == 2
    assert leakage(evaluation.datasets, rows.datasets).same_row == 2
    assert prepared(tmp_path, bpe, files)[0].num_rows == 5


def test_a_source_has_its_own_template(tmp_path: Path, bpe: Any) -> None:
    import dataclasses

    rows, _, job = prepared(tmp_path, bpe, {"one": pairs(1)})
    job = dataclasses.replace(job, template=None)
    template = "{% for m in messages %}{{ m.content }}|{% endfor %}"
    sources = {"a": TrainSource(path="one.jsonl"), "b": TrainSource(path="one.jsonl", chat_template=template)}
    rows, _ = tokenized(sources, job)
    assert [data["text"][0] for data in rows.datasets] == ["ask 1a0</s>", "ask 1|a0|"]
