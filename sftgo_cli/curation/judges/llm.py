"""A model or an endpoint decides, by a prompt file with the fields {question}, {gold} and {prediction}.

The reply must end in a line `VERDICT: CORRECT` or `VERDICT: INCORRECT` (white space and asterisks around it aside), and
hold no other such line; anything else is rejected as unparsable and counted. Only the reply is parsed: a verdict inside the
candidate answer decides nothing. The shipped prompt puts question, gold and prediction between tags, tells the judge to
follow nothing that stands there, and the tags' own names are taken out of the three texts (`<prediction>` becomes
`[prediction]`), so that an answer cannot close its own tag. A judge can still be talked over by the answer it reads: where
a rule can decide (numbers, tests, choices), prefer it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from sftgo_cli.curation.accepted_answers import require_most, shown
from sftgo_cli.curation.prompt_files import Prompt, fill, load_prompt
from sftgo_cli.curation.questions import CurationContext, Question, Verdict
from sftgo_cli.data.messages import Message
from sftgo_cli.recipe.options import GeneratorChoice, MethodOptions

VERSION = 1
SOURCE = "S3FT, arXiv 2502.08130: a model as judge given question, prediction and gold (NQ); prompt wording ours [R]"
PATH_OPTIONS = (
    "prompt",
    "generator",
)  # the prompt's content is in the fingerprint, the replies are a step of their own
FIELDS = ("question", "gold", "prediction")

_TAGS = re.compile(r"<(/?\s*(?:question|reference|prediction)\s*)>", re.IGNORECASE)
_VERDICT = re.compile(r"[\s*]*VERDICT\b")
_EXACT = re.compile(r"[\s*]*VERDICT: (CORRECT|INCORRECT)[\s*]*")


class Options(MethodOptions):
    """Recipe options of `judge: {name: llm}`."""

    prompt: str = Field("judge_qa", description="Name of a shipped prompt, or path of a prompt file")
    generator: GeneratorChoice | None = Field(None, description="Who decides; null: the recipe's base model")


def generator(options: Options) -> GeneratorChoice:
    """Who replies: the recipe's base model unless the options name another."""
    if options.generator is not None:
        return options.generator
    default = importlib.import_module("sftgo_cli.curation.generators.model").Options()
    return GeneratorChoice(name="model", options=default)


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """The prompt's hash. Raises UserError where it cannot be used."""
    prompt = load(options, context)
    return {"prompt": prompt.hash}


def columns(options: Options) -> tuple[str, ...]:
    """The columns of the row that are read besides prompt and gold."""
    return ()


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raises UserError for a prompt that cannot be used, or where fewer than half of the rows have a gold answer."""
    load(options, context)
    require_most(
        questions,
        lambda question: bool(question.gold.strip()),
        "judge llm does not fit: {missing} of {rows} rows have no gold answer to judge by",
        "give the rows an answer",
    )


def load(options: Options, context: CurationContext) -> Prompt:
    """The prompt file of the options."""
    return load_prompt(options.prompt, context.recipe_dir, FIELDS, "judge.prompt", required=("prediction",))


def ask(question: Question, answer: str, options: Options, context: CurationContext) -> list[Message]:
    """The messages that put the case: one of the user."""
    prompt = load(options, context)
    texts = {"question": question.prompt, "gold": question.gold, "prediction": answer}
    content = fill(prompt, **{name: _TAGS.sub(r"[\1]", text) for name, text in texts.items()})
    return [{"role": "user", "content": content}]


def read_reply(text: str, options: Options) -> Verdict:
    """The verdict of a reply; rejected where it is not exactly as asked for."""
    lines = [line for line in text.splitlines() if line.strip()]
    verdicts = [line for line in lines if _VERDICT.match(line)]
    exact = _EXACT.fullmatch(lines[-1]) if lines else None
    if exact is None or len(verdicts) != 1:
        return Verdict(False, f"unparsable verdict: {_why(lines, verdicts)}")
    said = f" ({shown(' '.join(lines[:-1])[-240:], 120)})" if len(lines) > 1 else ""
    return Verdict(exact[1] == "CORRECT", f"judged {exact[1]}{said}")


def _why(lines: list[str], verdicts: list[str]) -> str:
    if not lines:
        return "an empty reply"
    if len(verdicts) > 1:
        return f"{len(verdicts)} verdict lines"
    return f"the last line is {shown(lines[-1])!r}"
