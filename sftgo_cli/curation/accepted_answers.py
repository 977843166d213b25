"""What judges that compare texts share: the accepted answers of a question, SQuAD's normalization, who has no answer.

`normalize: careful` (careful_words.py) keeps signs, decimal points and operators, which SQuAD's takes out.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from sftgo_cli.curation.questions import Question
from sftgo_cli.errors import UserError, nearest

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def normalized(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces.

    SQuAD's `normalize_answer` (arXiv 1606.05250), which removes ASCII punctuation; here Unicode's too [R], so that curly
    quotes and dashes count like straight ones.
    """
    text = "".join(
        character
        for character in text.lower()
        if character not in _PUNCTUATION
        and (character.isascii() or not unicodedata.category(character).startswith("P"))
    )
    return " ".join(_ARTICLES.sub(" ", text).split())


def cell(question: Question, column: str) -> Any:
    """A column of the question's row. Raises UserError naming the nearest column where there is none."""
    if column not in question.values:
        near = nearest(column, list(question.values))
        hint = f"did you mean {near}?" if near else f"its columns: {', '.join(question.values) or 'none'}"
        raise UserError(f"no column {column}, which the judge reads", question.where, hint)
    return question.values[column]


def accepted_answers(question: Question, column: str | None) -> list[str]:
    """The texts that count as right: gold, or what a column holds (a text, a number, or a list of them); blanks left out.

    Raises:
        UserError: the column is missing or holds something else.
    """
    if column is None:
        return [question.gold] if question.gold.strip() else []
    value = cell(question, column)
    values = value if isinstance(value, list) else [] if value is None else [value]
    for item in values:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            what = f"column {column} holds {type(item).__name__}, the judge needs a text or a list of texts"
            raise UserError(what, question.where, "name another column with answer_column")
    return [str(item) for item in values if str(item).strip()]


def require_most(questions: Sequence[Question], fits: Callable[[Question], bool], what: str, fix: str) -> None:
    """Raises UserError where fewer than half of the questions fit; `what` has the fields {missing} and {rows}."""
    unfit = [question for question in questions if not fits(question)]
    if 2 * (len(questions) - len(unfit)) < len(questions):
        where = f"first {unfit[0].where}: {shown(unfit[0].gold)!r}"
        raise UserError(what.format(missing=len(unfit), rows=len(questions)), where, fix)


def shown(text: str, most: int = 60) -> str:
    """A text for a message: one line, at most `most` characters."""
    text = " ".join(text[: 4 * most].split())
    return text if len(text) <= most else text[: most - 3] + "..."
