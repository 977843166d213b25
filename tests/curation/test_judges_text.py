"""The judges `exact`, `token_f1` and `choice`: tables of cases, SQuAD's own definitions, ambiguity."""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sftgo_cli.curation.accepted_answers import normalized
from sftgo_cli.curation.chosen_option import read_choice
from sftgo_cli.curation.judges import choice, exact, token_f1
from sftgo_cli.curation.questions import CurationContext, Question, Verdict
from sftgo_cli.errors import UserError


def question(answer: str, /, **values: Any) -> Question:
    return Question("0", "rows.jsonl:7", [{"role": "user", "content": "Which?"}], answer, values)


def context() -> CurationContext:
    arguments: Any = (None, Path(), None, None, None, 1, True, print, None)
    return CurationContext(*arguments)


def judged(judge: ModuleType, asked: Question, answer: str, **options: Any) -> Verdict:
    verdict: Verdict = judge.open_judge(judge.Options(**options), context())([(asked, answer)])[0]
    return verdict


def squad_normalized(text: str) -> str:
    """SQuAD's evaluation script, version 1.1."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(prediction: str, truth: str) -> float:
    """SQuAD's evaluation script, version 1.1."""
    mine, right = squad_normalized(prediction).split(), squad_normalized(truth).split()
    same = sum((Counter(mine) & Counter(right)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(mine), same / len(right)
    return 2 * precision * recall / (precision + recall)


def test_normalization_and_f1_are_squads_on_ascii() -> None:
    generator = random.Random(0)
    words = ["the", "a", "an", "The", "Paris", "paris", "city", "of", "x-y", "it's", "U.S.", "18", "!", "  ", "theme"]
    for _ in range(1000):
        left, right = (" ".join(generator.choices(words, k=generator.randint(1, 6))) for _ in range(2))
        assert normalized(left) == squad_normalized(left)
        if squad_normalized(left) and squad_normalized(right):
            assert token_f1.f1(left, right) == pytest.approx(squad_f1(left, right), abs=1e-12)


@pytest.mark.parametrize(
    ("gold", "answer", "accepted"),
    [
        ("Paris", "paris", True),
        ("Paris", "  Paris.\n", True),
        ("the Eiffel Tower", "Eiffel  tower!", True),
        ("It's", "its", True),
        ("“Paris”", '"Paris"', True),
        ("São Paulo", "são paulo", True),
        ("Paris", "Paris, France", False),
        ("Paris", "", False),
        ("theme", "me", False),
        ("The", "", False),
        ("The", "a", False),
        ("The", "The", True),
        ("-", "-", True),
        ("-", "+", False),
        ("", "", False),
        ("   ", "", False),
    ],
)
def test_exact(gold: str, answer: str, accepted: bool) -> None:
    assert judged(exact, question(gold), answer).accepted is accepted


def test_exact_without_normalization() -> None:
    assert judged(exact, question("Paris"), " Paris ", normalize=False).accepted
    assert not judged(exact, question("Paris"), "paris", normalize="none").accepted
    assert not judged(exact, question("Paris"), "paris", normalize=False).accepted
    assert not judged(exact, question("the city"), "city", normalize=False).accepted


def test_accepted_answers_from_a_column() -> None:
    row = question("long text", answers=["Paris", "City of Light", 18, " "])
    assert judged(exact, row, "city of light", answer_column="answers").accepted
    assert judged(exact, row, "18", answer_column="answers").accepted
    assert not judged(exact, row, "long text", answer_column="answers").accepted
    assert not judged(exact, row, "", answer_column="answers").accepted
    assert judged(exact, question("x", answers="Paris"), "paris", answer_column="answers").accepted
    assert not judged(exact, question("x", answers=None), "None", answer_column="answers").accepted
    assert judged(exact, row, "Rome", answer_column="answers").reason == "got 'Rome', gold is 'Paris' (or 2 others)"
    with pytest.raises(UserError, match="column answers holds dict"):
        judged(exact, question("x", answers={"text": ["Paris"]}), "Paris", answer_column="answers")


@pytest.mark.parametrize("judge", [exact, token_f1], ids=["exact", "token_f1"])
def test_checks(judge: Any) -> None:
    judge.check([question("Paris"), question("")], judge.Options(), context())
    with pytest.raises(UserError, match=r"2 of 3 rows have no accepted answer.*rows.jsonl:7"):
        judge.check([question("Paris"), question(""), question(" ")], judge.Options(), context())
    with pytest.raises(UserError, match="did you mean answers"):
        judge.check([question("Paris", answers=[])], judge.Options(answer_column="answer"), context())
    assert judge.columns(judge.Options(answer_column="answers")) == ("answers",)
    assert judge.columns(judge.Options()) == ()


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [
        ("Paris", "Paris", 1.0),
        ("Paris France", "Paris", 2 / 3),
        ("Paris", "It is Paris of course", 2 / 6),
        ("Paris Paris", "Paris", 2 / 3),
        ("Paris", "Rome", 0.0),
        ("Paris", "", 0.0),
        ("the", "", 0.0),
        ("the", "the", 1.0),
    ],
)
def test_token_f1(gold: str, answer: str, score: float) -> None:
    assert token_f1.f1(answer, gold) == pytest.approx(score)
    verdict = judged(token_f1, question(gold), answer)
    assert verdict.accepted is (score >= 0.5)
    assert f"F1 {score:.3f}" in verdict.reason


def test_token_f1_takes_the_best_answer_and_includes_the_threshold() -> None:
    row = question("", answers=["Rome", "Paris France"])
    assert judged(token_f1, row, "Paris", answer_column="answers").accepted
    squad = {"threshold": 0.5, "normalize": "squad"}
    assert judged(token_f1, question("a b c d"), "b", **squad).accepted  # 2 * 1 / (1 + 3), articles gone
    assert not judged(token_f1, question("b c d e"), "b", **squad).accepted  # 2 / 5


CITIES = ["Rome", "Paris", "New York", "York"]
CHOICES: list[tuple[str, list[str], int | None]] = [
    ("B", CITIES, 1),
    ("b", CITIES, 1),
    ("B.", CITIES, 1),
    ("(B)", CITIES, 1),
    ("[b]", CITIES, 1),
    ("B)", CITIES, 1),
    ("B) Paris", CITIES, 1),
    ("B: Paris", CITIES, 1),
    ("B. Paris is the capital.", CITIES, 1),
    ("B - Paris", CITIES, 1),
    ("B because it is.", CITIES, 1),
    ("**B**", CITIES, 1),
    ("Paris", CITIES, 1),
    ("paris.", CITIES, 1),
    ("The answer is B.", CITIES, 1),
    ("The answer is (B).", CITIES, 1),
    ("the answer is **B**", CITIES, 1),
    ("The answer is B) Paris", CITIES, 1),
    ("The correct answer is: B", CITIES, 1),
    ("Answer: B", CITIES, 1),
    ("Answer: Paris", CITIES, 1),
    ("**Answer:** B", CITIES, 1),
    ("A: B", CITIES, 1),
    ("The answer is Paris.", CITIES, 1),
    ("The answer is Paris, as everyone knows.", CITIES, 1),
    ("\\boxed{B}", CITIES, 1),
    ("$\\boxed{\\text{(B)}}$", CITIES, 1),
    ("\\boxed{Paris}", CITIES, 1),
    ("Rome is old. So the answer is B.", CITIES, 1),
    ("The answer is A. No: the answer is B.", CITIES, 1),
    ("I choose option B", CITIES, 1),
    ("It must be Paris, since it is the capital.", CITIES, 1),
    ("New York", CITIES, 2),
    ("I would say New York", CITIES, 2),  # and not York
    ("York", CITIES, 3),
    ("A", CITIES, 0),
    ("A.", CITIES, 0),
    ("The answer is A", CITIES, 0),
    ("The answer is A because it is old", CITIES, 0),
    ("yes", ["no", "yes"], 1),
    ("Yes, it is.", ["no", "yes"], 1),
    ("7", ["3", "7"], 1),
    # none, or more than one
    ("", CITIES, None),
    ("E", CITIES, None),
    ("The answer is E.", CITIES, None),
    ("London", CITIES, None),
    ("A good choice", CITIES, None),
    ("Rome or Paris", CITIES, None),
    ("A or B", CITIES, None),
    ("The answer is A or B", CITIES, None),
    ("(A) and (B)", CITIES, None),
    ("B) Rome", CITIES, None),
    ("The answer is B) Rome", CITIES, None),
    ("It is not Paris", CITIES, None),
    ("It isn't Paris", CITIES, None),
    ("Anything except Paris", CITIES, None),
    ("Parisian", CITIES, None),
    ("dog", ["dog", "Dog."], None),
]


@pytest.mark.parametrize(("answer", "options", "expected"), CHOICES, ids=lambda value: repr(value)[:30])
def test_read_choice(answer: str, options: list[str], expected: int | None) -> None:
    got = read_choice(answer, options)
    assert got == expected if expected is not None else isinstance(got, str)


@pytest.mark.parametrize(("gold", "index"), [(1, 1), ("B", 1), ("(B)", 1), ("Paris", 1), ("paris.", 1), (0, 0)])
def test_gold_as_index_letter_or_text(gold: Any, index: int) -> None:
    row = question("", choices=CITIES, gold=gold)
    for number, city in enumerate(CITIES):
        assert judged(choice, row, city).accepted is (number == index)
        assert judged(choice, row, f"({'ABCD'[number]})").accepted is (number == index)


def test_choice_reasons_and_columns() -> None:
    row = question("Paris", options=CITIES, right="B")
    options = {"choices_column": "options", "gold_column": "right"}
    assert judged(choice, row, "A", **options).reason == "got A (Rome), gold is B (Paris)"
    assert judged(choice, row, "(A) or (B)", **options).reason == "ambiguous: A, B, gold is B (Paris)"
    assert judged(choice, row, "B", choices_column="options", gold_column=None).accepted
    assert choice.columns(choice.Options(**options)) == ("options", "right")
    assert not judged(choice, question("", choices=CITIES, gold=4), "A").accepted
    assert not judged(choice, question("", choices=CITIES, gold=-1), "D").accepted
    assert not judged(choice, question("", choices=CITIES, gold=True), "B").accepted


def test_choice_check() -> None:
    good, bad = question("", choices=CITIES, gold=1), question("Rome", choices=CITIES, gold="E")
    choice.check([good, bad], choice.Options(), context())
    with pytest.raises(UserError, match="2 of 3 rows have no option that is clearly the right one"):
        choice.check([good, bad, bad], choice.Options(), context())
    with pytest.raises(UserError, match="no column choices"):
        choice.check([question("", gold=1)], choice.Options(), context())
    for strange in ("Rome", ["Rome"], [["Rome"], ["Paris"]], None, [str(number) for number in range(27)]):
        with pytest.raises(UserError, match="not a list of 2 to 26 texts"):
            choice.check([question("", choices=strange, gold=1)], choice.Options(), context())


def test_random_text_never_fails() -> None:
    generator = random.Random(2)
    pieces = [
        "A",
        "B",
        "(",
        ")",
        " ",
        ".",
        "answer is ",
        "Answer:",
        "Paris",
        "New York",
        "York",
        "not",
        "\\boxed{",
        "}",
        "\n",
        "or",
    ]
    for _ in range(3000):
        got = read_choice("".join(generator.choices(pieces, k=generator.randint(0, 8))), CITIES)
        assert isinstance(got, str) or 0 <= got < 4
