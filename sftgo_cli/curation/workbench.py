"""What a curation method works with: answers from a generator and verdicts from a judge, each a cached step of its own.

A step's key is the content of everything that its results depend on: method, version and options, what it reads, and
all questions. So another judge asks for no new answers, and what a killed process had finished is not asked for again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

from sftgo_cli.curation.questions import Answer, CurationContext, Question, Request, Verdict
from sftgo_cli.curation.steps import Keep, Step, digest, results_of
from sftgo_cli.progress import Work
from sftgo_cli.recipe.options import GeneratorChoice, JudgeChoice, NestedChoice

ANSWERS, VERDICTS = "answers", "verdicts"  # the steps' names in the cache
JUDGED_AT_ONCE = 128
DEFAULT_GENERATOR = "model"
UNASKED = Answer("", finished=False, num_tokens=0)  # its prompt does not fit the generator's context

Pair = tuple[Question, str]


@dataclass(frozen=True)
class Workbench:
    """The steps for one set of questions."""

    context: CurationContext

    def answers(self, wanted: Sequence[Request], choice: GeneratorChoice | None) -> list[Answer]:
        """The answer to each request, in their order.

        Raises:
            UserError, EnvironmentProblem: as the generator; what it had finished stays for the next run.
        """
        choice = generator_choice(choice)
        module = module_of(choice)
        reads = getattr(module, "columns", lambda options: ())(choice.options)

        def compute(todo: Sequence[int], keep: Keep) -> None:
            def done(answers: list[tuple[int, Answer]]) -> None:
                keep([(todo[number], asdict(answer)) for number, answer in answers])

            unfit = set(_too_long(module)([wanted[number] for number in todo], choice.options, self.context))
            if unfit:
                keep([(todo[place], asdict(UNASKED)) for place in sorted(unfit)])
            todo = [number for place, number in enumerate(todo) if place not in unfit]
            module.generate([wanted[number] for number in todo], choice.options, self.context, done)

        asked = [
            [request.messages, request.question.tools, request.seed, _cells(request.question, reads)]
            for request in wanted
        ]
        ingredients = {"generator": fingerprint(choice, self.context), "wanted": digest(asked)}
        work = Work("answering", choice.name, "answers", len(wanted), len(wanted))
        return [Answer(**result) for result in results_of(Step(ANSWERS, work, ingredients, compute), self.context)]

    def verdicts(self, pairs: Sequence[Pair], choice: JudgeChoice, seed: int = 0) -> list[Verdict]:
        """The verdict on each (question, answer), in their order.

        Raises:
            UserError, EnvironmentProblem: as the judge; what it had finished stays for the next run.
        """
        module = module_of(choice)
        if hasattr(module, "ask"):
            return self._asked_verdicts(pairs, choice, module, seed)
        reads = module.columns(choice.options)

        def compute(todo: Sequence[int], keep: Keep) -> None:
            judge = module.open_judge(choice.options, self.context)
            for start in range(0, len(todo), JUDGED_AT_ONCE):
                numbers = todo[start : start + JUDGED_AT_ONCE]
                judged = judge([pairs[number] for number in numbers])
                keep([(number, asdict(verdict)) for number, verdict in zip(numbers, judged, strict=True)])

        cases = [[question.prompt, question.gold, answer, _cells(question, reads)] for question, answer in pairs]
        ingredients = {"judge": fingerprint(choice, self.context), "cases": digest(cases)}
        work = Work("judging", choice.name, "answers", len(pairs), len(pairs))
        return [Verdict(**result) for result in results_of(Step(VERDICTS, work, ingredients, compute), self.context)]

    def _asked_verdicts(
        self, pairs: Sequence[Pair], choice: JudgeChoice, module: ModuleType, seed: int
    ) -> list[Verdict]:
        """A judge that asks a generator: its replies are answers like any other."""
        prompt_hash = str(module.fingerprint(choice.options, self.context).get("prompt", ""))
        wanted = []
        for question, answer in pairs:
            asked = replace(question, messages=module.ask(question, answer, choice.options, self.context), tools=None)
            wanted.append(Request(asked, asked.messages, seed_of(seed, question.row_id, "judge"), prompt_hash))
        replies = self.answers(wanted, module.generator(choice.options))
        return [
            Verdict(False, f"no verdict: {reply.failure}")
            if reply.failure
            else module.read_reply(reply.text, choice.options)
            for reply in replies
        ]


def generator_choice(choice: GeneratorChoice | None) -> GeneratorChoice:
    """The generator of an option that may be left out: the recipe's base model."""
    if choice is not None:
        return choice
    module = importlib.import_module(f"{__package__}.generators.{DEFAULT_GENERATOR}")
    return GeneratorChoice(name=DEFAULT_GENERATOR, options=module.Options())


def _too_long(module: ModuleType) -> Callable[[Sequence[Request], Any, CurationContext], Sequence[int]]:
    """The generator's own function, or one that finds nothing too long."""
    found: Callable[[Sequence[Request], Any, CurationContext], Sequence[int]]
    found = getattr(module, "too_long", lambda wanted, options, context: ())
    return found


def answers_alike(choice: GeneratorChoice) -> bool:
    """Whether a generator has one text for a question, however it is asked: a column without a second one."""
    return choice.name == "column" and getattr(choice.options, "paraphrase_column", None) is None


def module_of(choice: NestedChoice) -> ModuleType:
    """The module of a judge or a generator."""
    return importlib.import_module(f"{__package__}.{choice.section}s.{choice.name}")


def fingerprint(choice: NestedChoice, context: CurationContext) -> dict[str, Any]:
    """What the results of a judge or a generator depend on besides the questions."""
    module = module_of(choice)
    found = {
        "name": choice.name,
        "version": module.VERSION,
        "options": choice.options.model_dump(mode="json", exclude=set(module.PATH_OPTIONS)),
        "content": module.fingerprint(choice.options, context),
    }
    return (
        {**found, "asks": fingerprint(module.generator(choice.options), context)} if hasattr(module, "ask") else found
    )


def check(choice: NestedChoice, questions: Sequence[Question], context: CurationContext) -> None:
    """Raise every UserError of a judge or a generator that can be known before the first answer."""
    module = module_of(choice)
    module.check(questions, choice.options, context)
    if hasattr(module, "ask"):
        check(module.generator(choice.options), questions, context)


def seed_of(seed: int, row_id: str, step: str, number: int = 0) -> int:
    """int in [0, 2^31): the seed of one answer, a hash of all that tells it from the others."""
    text = f"{seed}\0{row_id}\0{step}\0{number}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1


def _cells(question: Question, names: Sequence[str] | None) -> dict[str, Any]:
    """The columns of a row that a judge or a generator reads; None: all of them."""
    chosen = question.values if names is None else {name: question.values.get(name) for name in names}
    plain: dict[str, Any] = json.loads(json.dumps(chosen, default=str), parse_constant=str)
    return plain
