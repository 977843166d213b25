"""The generated data sets: the same everywhere, no overlap, right answers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from sftgo_cli import builtin
from sftgo_cli.builtin.words import ANIMALS, CATEGORIES, JOBS, OPPOSITES, PLACES, with_article
from sftgo_cli.errors import UserError

ALL = [(name, split) for name in ("instructions", "arithmetic") for split in ("train", "heldout")]


def _both(name: str) -> list[dict[str, Any]]:
    return [*builtin.data_rows(name, "train"), *builtin.data_rows(name, "heldout")]


def _prompt(row: dict[str, Any]) -> tuple[str, ...]:
    return (row["prompt"],) if "prompt" in row else (row["instruction"], row["input"])


def test_sizes_and_columns() -> None:
    assert [len(builtin.data_rows(*which)) for which in ALL] == [1500, 200, 480, 120]
    for row in _both("instructions"):
        assert list(row) == ["id", "instruction", "input", "output"]
        assert row["instruction"]
        assert row["output"]
    for row in _both("arithmetic"):
        assert list(row) == ["id", "prompt", "completion", "answer"]


@pytest.mark.parametrize("name", ["instructions", "arithmetic"])
def test_prompts_and_ids_are_distinct_over_both_splits(name: str) -> None:
    rows = _both(name)
    assert len({_prompt(row) for row in rows}) == len(rows)
    assert len({row["id"] for row in rows}) == len(rows)


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_other_processes_make_the_same_rows_whatever_the_hash_seed(hash_seed: str) -> None:
    code = (
        "from sftgo_cli.builtin import data_fingerprint\n"
        f"print(*[data_fingerprint(*which) for which in {ALL!r}], sep='\\n')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [builtin.data_fingerprint(*which) for which in ALL]


def test_fingerprint_is_the_hash_of_the_canonical_rows() -> None:
    rows = builtin.data_rows("arithmetic", "heldout")
    canonical = json.dumps(rows, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    assert builtin.data_fingerprint("arithmetic", "heldout") == hashlib.sha256(canonical).hexdigest()
    assert len({builtin.data_fingerprint(*which) for which in ALL}) == len(ALL)


def test_changing_a_returned_row_changes_nothing_for_the_next_caller() -> None:
    builtin.data_rows("instructions", "train")[0]["output"] = "spoiled"
    assert builtin.data_rows("instructions", "train")[0]["output"] != "spoiled"


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, sftgo_cli.builtin as b; b.data_rows('instructions', 'train'); b.model_folder('tiny')\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'datasets', 'tokenizers') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_unknown_names_are_user_errors_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"no built-in model 'tinny' - builtin:tinny - did you mean tiny\?"):
        builtin.model_folder("tinny")
    with pytest.raises(UserError, match=r"no built-in data set 'instruction' .* did you mean instructions\?"):
        builtin.data_rows("instruction", "train")
    with pytest.raises(UserError, match=r"no built-in split 'held_out' .* did you mean heldout\?"):
        builtin.data_rows("instructions", "held_out")
    with pytest.raises(UserError, match="choose one of: instructions, arithmetic"):
        builtin.data_fingerprint("zzz", "train")


def _recomputed(question: str) -> int:
    """The value of "What is 3 plus 4 minus 2?", read from the words alone."""
    tokens = re.fullmatch(r"What is (.+)\?", question).group(1).split()  # type: ignore[union-attr]
    total = int(tokens[0])
    for word, number in zip(tokens[1::2], tokens[2::2], strict=True):
        total += {"plus": 1, "minus": -1}[word] * int(number)
    return total


def test_arithmetic_answers_are_right_and_end_the_completion() -> None:
    for row in _both("arithmetic"):
        expected = _recomputed(row["prompt"])
        assert row["answer"] == str(expected)
        assert re.findall(r"\d+", row["completion"])[-1] == str(expected)
        for start, verb, number, got in re.findall(
            r"Start with (\d+) and (add|take away) (\d+) to get (\d+)", row["completion"]
        ):
            assert int(start) + (int(number) if verb == "add" else -int(number)) == int(got)


def test_arithmetic_has_one_and_two_steps_in_both_splits() -> None:
    for split in ("train", "heldout"):
        steps = Counter(len(row["prompt"].split()) for row in builtin.data_rows("arithmetic", split))
        assert set(steps) == {5, 7}
        assert min(steps.values()) >= 30


def test_sums_in_stories_are_right() -> None:
    operators = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__, "divided by": int.__floordiv__}
    rows = [row for row in _both("instructions") if row["id"].startswith("sum-")]
    assert len(rows) == 220
    for row in rows:
        first, operator, second, result = re.search(
            r"(\d+) (plus|minus|times|divided by) (\d+) is (\d+)", row["output"]
        ).groups()  # type: ignore[union-attr]
        assert operators[operator](int(first), int(second)) == int(result)
        asked = [int(number) for number in re.findall(r"\d+", row["instruction"])]
        assert {int(first), int(second)} <= {*asked, 2}  # 2: the people who share
        assert re.findall(r"\d+", row["output"])[-1] == result


def test_ordered_sentences_use_exactly_the_given_words() -> None:
    for row in (row for row in _both("instructions") if row["id"].startswith("order-")):
        said = row["output"].rstrip(".").split()
        assert Counter(word.lower() for word in said) == Counter(word.lower() for word in row["input"].split())
        assert row["output"][0].isupper()
        assert [word.lower() for word in said] != [word.lower() for word in row["input"].split()]


def test_answers_about_a_passage_take_their_names_and_numbers_from_it() -> None:
    rows = [row for row in _both("instructions") if row["id"].startswith("passage-")]
    assert len(rows) == 520
    for row in rows:
        known = set(re.findall(r"[A-Za-z]+|\d+", f"{row['input']} {row['instruction']}".lower()))
        facts = re.findall(r"\b[A-Z][a-z]+\b|\d+", row["output"])
        assert {fact.lower() for fact in facts} <= known | {"the"}


def test_odd_words_are_odd() -> None:
    of = {member: category.many for category in CATEGORIES for member in category.members}
    rows = [row for row in _both("instructions") if row["id"].startswith("word-") and "belong" in row["instruction"]]
    assert len(rows) > 50
    for row in rows:
        counts = Counter(of[word] for word in row["input"].split(", "))
        odd = re.match(r"The word (\w+) does not", row["output"]).group(1)  # type: ignore[union-attr]
        assert sorted(counts.values()) == [1, 3]
        assert counts[of[odd]] == 1


def test_word_lists_give_every_question_one_answer() -> None:
    for names in (
        [animal.name for animal in ANIMALS],
        [job.plain_task for job in JOBS],
        [job.tool for job in JOBS],
        [place.activity for place in PLACES],
        [word for word, _, other, _ in OPPOSITES for word in (word, other)],
        [member for category in CATEGORIES for member in category.members],
    ):
        assert len(names) == len(set(names)), [name for name, count in Counter(names).items() if count > 1]


def test_articles() -> None:
    assert [with_article(noun) for noun in ("fox", "owl", "umbrella", "horse")] == [
        "a fox",
        "an owl",
        "an umbrella",
        "a horse",
    ]
    text = " ".join(" ".join((row["instruction"], row["input"], row["output"])) for row in _both("instructions"))
    ordered = " ".join(row["input"] for row in _both("instructions") if row["id"].startswith("order-"))
    wrong = re.findall(r"\b[Aa] [aeiou]\w+|\b[Aa]n [^aeiou\W]\w*", text.replace(ordered, ""))
    assert not [pair for pair in wrong if pair not in ordered]
