"""The generator `column`: answers that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.cli.main import main
from sftgo_cli.curation.generators import column
from sftgo_cli.curation.questions import Answer, Question, Request
from sftgo_cli.errors import UserError
from tests.curation.conftest import write_rows

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


def test_paraphrases_come_from_a_second_column() -> None:
    options = column.Options(column="candidate", paraphrase_column="again")
    asked = question("1", candidate="own", again="restated")
    got: dict[int, Answer] = {}
    wanted = [Request(asked, asked.messages, 0), Request(asked, asked.messages, 0, prompt_hash="abc")]
    column.generate(wanted, options, NO_CONTEXT, got.update)
    assert [got[0].text, got[1].text] == ["own", "restated"]
    assert column.columns(options) == ("candidate", "again")
    with pytest.raises(UserError, match=r"no answer in column 'again' .* - train.jsonl:2"):
        column.check([question("2", candidate="own")], options, NO_CONTEXT)


def test_one_column_is_no_paraphrase(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a second column the paraphrase of s3ft would be the own answer again."""
    rows = [{"id": "1", "prompt": "2 + 3?", "completion": "It is 5", "own": "6", "again": "So it is 5"}]
    write_rows(project / "rows.jsonl", rows)

    def curated(more: str, method: str = "s3ft") -> int:
        generator = f"{{name: column, column: own{more}}}"
        override = f"curation=[{{name: {method}, judge: numeric, log_probabilities: false, generator: {generator}}}]"
        return main(["curate", str(project / "recipe.yaml"), override])

    assert curated("") == 2
    said = capsys.readouterr().err
    assert "gives the same text for the own answer and for the paraphrase" in said
    assert "paraphrase_column" in said
    assert curated(", paraphrase_column: again") == 0
    assert "paraphrase" in capsys.readouterr().out
    assert curated("", "ssr") == 0
    assert curated("", "sdft") == 0
