"""The leak guard: what gives a paraphrase away, and ordinary text that must pass."""

from __future__ import annotations

import time

import pytest

from sftgo_cli.curation.leak_guard import leaked

LEAKS = [
    ("My response, which is similar to the reference answer, is 18.", "My response"),
    ("As in the reference answer, 18.", "the reference answer"),
    ("The Reference Solution multiplies first.", "The Reference Solution"),
    ("Your response is right: 18.", "Your response"),
    ("Based on the reference, the result is 18.", "Based on the reference"),
    ("As given in the reference, 9 * 2 = 18.", "As given in the reference"),
    ("The reference says 18.", "The reference says"),
    ("The provided solution multiplies 9 by 2.", "The provided solution"),
    ("According to the given answer, it is 18.", "the given answer"),
    ("The answer you provided is right.", "answer you provided"),
    ("The solution you've given adds them.", "solution you've given"),
    ("In my own words: she has 18.", "In my own words"),
    ("Here it is rephrased: she has 18.", "rephrased"),
    ("Paraphrasing: she has 18.", "Paraphrasing"),
    ("This matches the ground truth answer.", "the ground truth answer"),
    ("Here's a rewritten solution: ...", "Here's a rewritten"),
    ("The original answer was 18.", "original answer"),
    ("The above solution shows it.", "above solution"),
    ("the model\nanswer is 18", "the model answer"),
    ("<reference>18</reference>", "<reference>"),
    ("The model\u2019s and the solution you\u2019ve given", "solution you've given"),
]
ORDINARY = [
    "She has 18 apples.",
    "The answer is 18.",
    "With reference to the map, she walks 3 miles.",
    "He borrowed 3 reference books from the library.",
    "From the reference point, the car moves 5 meters.",
    "Given the answer to part one, she has 18.",
    "He was given 5 dollars and provided 3 snacks.",
    "The response time is 5 seconds.",
    "Her own words per minute are 40.",
    "She wrote the answer sheet in 3 minutes.",
    "The original price was $20, so he saved $2.",
    "The solution contains 5 liters of water.",
    "Based on the above, each gets 9.",
    "The survey had 30 responses; 3 answers were blank.",
    "A phrase of 5 words is reworked 3 times.",
    "The sample is 18 grams, the model has 4 wheels.",
    "def solution(answer): return answer",
]


@pytest.mark.parametrize(("text", "phrase"), LEAKS, ids=lambda value: value[:30])
def test_leaks_are_named(text: str, phrase: str) -> None:
    found = leaked(text)
    assert found is not None
    assert phrase.lower() in found.lower()


@pytest.mark.parametrize("text", ORDINARY, ids=lambda value: value[:30])
def test_ordinary_text_passes(text: str) -> None:
    assert leaked(text) is None


def test_words_of_the_user_count_as_whole_words() -> None:
    assert leaked("As the Teacher  Key says", prompt_words=["teacher key"]) == "Teacher Key"
    assert leaked("teacher keys", prompt_words=["teacher key"]) is None
    assert leaked("a (b) c", prompt_words=["(b)"]) == "(b)"
    assert leaked("anything", prompt_words=["", " "]) is None


def test_the_first_leak_is_named() -> None:
    assert leaked("my response ... teacher key", prompt_words=["teacher key"]) == "my response"
    assert leaked("teacher key ... my response", prompt_words=["teacher key"]) == "teacher key"


def test_long_texts_are_searched_in_linear_time() -> None:
    start = time.process_time()
    for piece in ("the reference ", "my ", "the given ", "answer ", "<", "re"):
        leaked(piece * (300_000 // len(piece)))
    assert time.process_time() - start < 10.0  # about 1 s
