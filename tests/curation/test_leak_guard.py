"""The leak guard: what gives a paraphrase away, and ordinary text that must pass."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.curation import s3ft, self_training
from sftgo_cli.curation.judges import numeric
from sftgo_cli.curation.leak_guard import leaked, prompt_runs
from sftgo_cli.curation.prompt_files import load_prompt
from sftgo_cli.curation.questions import Answer, CurationContext, Question, Request, Verdict
from sftgo_cli.recipe.options import JudgeChoice

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


SHIPPED = ("paraphrase", "paraphrase_code", "paraphrase_math", "paraphrase_qa")
KINDS = [
    "From the worked solution, she has 18.",
    "The answer provided is 18.",
    "The worked solution multiplies 9 by 2.",
    "As the solution above shows, 9 * 2 = 18.",
    "I was shown a solution, which gives 18.",
    "I was given the answer: it is 18.",
    "This is known to be right: 18.",
    "Following the same reasoning as the solution above, 9 * 2 = 18.",
    "According to the answer, she has 18.",
    "The solution says to multiply by 2.",
    "Based on the correct answer, it is 18.",
    "She has 18, which matches the expected answer.",
    "She has 18, consistent with the known answer.",
    "You gave me the solution, so: 18.",
    "The answer key says 18.",
    "As in the solution, we multiply.",
    "The given solution starts with 9.",
    "The example answer is 18.",
    "In my usual style: she has 18.",
    "In your own wording, she has 18.",
    "Without mentioning that I was shown it: 18.",
    "As requested, here is the solution: 18.",
    "The answer that was given above is 18.",
    "The solution below shows 18.",
    "The official solution multiplies.",
    "Confirmed by the provided answer: 18.",
]


@pytest.mark.parametrize("text", KINDS)
def test_kinds_of_leaks(text: str) -> None:
    assert leaked(text) is not None


@pytest.mark.parametrize("name", SHIPPED)
def test_the_words_of_every_shipped_prompt_give_it_away(name: str) -> None:
    """Any sentence of a prompt that comes back in an answer, and what its comment line lists."""
    prompt = load_prompt(name, Path(), ("question", "gold"), "here")
    runs = prompt_runs(prompt.text)
    sentences = [part.strip() for part in prompt.text.replace("\n", " ").split(".") if len(part.split()) > 8]
    assert len(sentences) >= 4
    for sentence in sentences:
        bare = sentence.split(">")[-1]
        assert leaked(f"She has 18. {bare}. So 18.", prompt.gives_away, runs) is not None, bare
    assert prompt.gives_away
    for phrase in prompt.gives_away:
        assert leaked(f"She has 18, {phrase.upper()}, so 18.", prompt.gives_away, runs) is not None
    for text in ORDINARY:
        assert leaked(text, prompt.gives_away, runs) is None


def test_what_question_or_gold_say_may_be_quoted() -> None:
    text = "The original solution has 5 liters."
    assert leaked(text) == "original solution"
    assert leaked(text, said=["How much is in the original solution?"]) is None
    assert leaked(f"{text} The reference answer is 5.", said=[text]) == "The reference answer"


def paraphrased(answer: str, prompt_hash: str, paraphrase: str = "paraphrase_math") -> Verdict | None:
    judge = JudgeChoice(name="numeric", options=numeric.Options())
    options = s3ft.Options(judge=judge, paraphrase=paraphrase)
    context: Any = CurationContext(*[None, Path(), *[None] * 7])  # type: ignore[arg-type]
    prompt = self_training._prompt(options, context)
    assert prompt is not None
    asked = Question("0", "rows.jsonl:1", [{"role": "user", "content": "How many?"}], "18", {})
    request = Request(asked, asked.messages, 0, prompt_hash)
    return self_training._rejected(request, Answer(answer, True, 9), options, prompt, prompt_runs(prompt.text))


def test_the_prompts_words_reach_the_guard_and_own_answers_do_not() -> None:
    """The own answer was shown nothing: whatever it says, a judge decides."""
    for text in ("The reference answer is 18.", "The worked solution, it is 18."):
        assert paraphrased(text, "") is None
        verdict = paraphrased(text, "abc")
        assert verdict is not None
        assert not verdict.accepted
    own_words = "for your eyes only"
    assert leaked(own_words.replace("your", "their")) is None
    verdict = paraphrased("It was shown a solution for their eyes. 18", "abc")
    assert verdict == Verdict(False, "gives its prompt away: 'shown a solution'")


def test_a_users_prompt_file_lists_its_own_phrases(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# gives away: teacher key; the cheat sheet\n# version: 7\nSay {gold} again for {question}.\n")
    prompt = load_prompt("mine.txt", tmp_path, ("question", "gold"), "here")
    assert (prompt.version, prompt.gives_away) == (7, ("teacher key", "the cheat sheet"))
    assert "gives away" not in prompt.text
    assert leaked("As the Cheat Sheet has it", prompt.gives_away) == "the Cheat Sheet"
