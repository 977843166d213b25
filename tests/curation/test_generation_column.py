"""The generator `column`: answers that were made elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from sftgo_cli.curation.generators import column
from sftgo_cli.curation.questions import Answer, Question, Request
from sftgo_cli.errors import UserError

OPTIONS = column.Options(column="candidate")
NO_CONTEXT: Any = None


def question(name: str, **values: Any) -> Question:
    return Question(name, f"train.jsonl:{name}", [{"role": "user", "content": "Q"}], "gold", values)


def taken(questions: list[tuple[Question, int]]) -> list[str]:
    got: dict[int, Answer] = {}
    wanted = [Request(question, question.messages, 0, sample=sample) for question, sample in questions]
    column.generate(wanted, OPTIONS, NO_CONTEXT, got.update)
    assert all(answer.finished and answer.cost == 0 for answer in got.values())
    return [got[number].text for number in range(len(questions))]


def test_the_text_of_the_column_is_the_answer() -> None:
    assert taken([(question("1", candidate=" 18 "), 0), (question("2", candidate=""), 0)]) == ["18", ""]
    assert taken([]) == []


def test_several_answers_are_taken_in_their_order() -> None:
    first, second = question("1", candidate=["a", "b", "c"]), question("2", candidate=["d", "e"])
    assert taken([(first, 2), (first, 0), (second, 1), (first, 1)]) == ["c", "a", "e", "b"]
    with pytest.raises(UserError, match=r"holds 2 answers, and number 3 is wanted - train.jsonl:2"):
        taken([(second, 2)])


@pytest.mark.parametrize(
    "values", [{}, {"candidate": None}, {"candidate": 3}, {"candidate": []}, {"candidate": ["a", None]}]
)
def test_a_row_without_a_text_is_refused_before_the_first_answer(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"no answer in column 'candidate' .* - train.jsonl:2 - give a text"):
        column.check([question("1", candidate="a"), question("2", **values)], OPTIONS, NO_CONTEXT)
