"""Targets from the model itself: the engine under s3ft, ssr and sdft.

    y1 = M(x)                 accepted -> target y1, source `model`        (where `own_answers`)
    y2 = M(paraphrase(x, y))  accepted -> target y2, source `paraphrase`   (where there is a paraphrase prompt)
    otherwise                 target y, source `gold`

The paraphrase is only asked for where y1 was not accepted. A paraphrase that speaks of its scaffolding ("reference
answer") is rejected whatever the judge says; so is an empty answer, and, unless `unfinished: judge`, one that was cut at
max_new_tokens [R]: trained on, it would teach the model not to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from sftgo_cli.curation import leak_guard, workbench
from sftgo_cli.curation.prompt_files import Prompt, fill, load_prompt
from sftgo_cli.curation.questions import CUT, Answer, Choice, CurationContext, Question, Request, Verdict, unusable
from sftgo_cli.curation.workbench import Workbench, seed_of
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import GeneratorChoice, JudgeChoice, MethodOptions

MODEL, PARAPHRASE, GOLD = "model", "paraphrase", "gold"
PARAPHRASE_FIELDS = ("question", "gold")


class SelfTrainingOptions(MethodOptions):
    """Options of every method that trains on the model's own answers; `own_answers` says whether it begins with y1."""

    own_answers: ClassVar[bool] = True

    judge: JudgeChoice = Field(description="Who decides whether an answer is right: {name: numeric}, ...")
    generator: GeneratorChoice | None = Field(None, description="Who answers; null: the recipe's base model, greedy")
    fallback: Literal["gold", "drop"] = Field("gold", description="Rows without an accepted answer: keep gold, or drop")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of sampled answers; each row's own follows from it")
    unfinished: Literal["reject", "judge"] = Field(
        "reject", description="Answers that were cut at max_new_tokens: reject them, or let the judge decide"
    )
    log_probabilities: bool = Field(
        True, description="Write the log-probability of gold and target under the base model to the rows"
    )


@dataclass(frozen=True)
class _Attempt:
    """An answer that was asked for, and what became of it."""

    request: Request
    answer: Answer
    verdict: Verdict


def fingerprint(options: SelfTrainingOptions, context: CurationContext) -> dict[str, Any]:
    """What the choices depend on besides the questions and the method's options."""
    generator = workbench.generator_choice(options.generator)
    content = {
        "judge": workbench.fingerprint(options.judge, context),
        "generator": workbench.fingerprint(generator, context),
        "described": workbench.module_of(generator).describe(generator.options, context),
    }
    prompt = _prompt(options, context)
    return content if prompt is None else {**content, "paraphrase": prompt.hash}


def check(questions: Sequence[Question], options: SelfTrainingOptions, context: CurationContext) -> None:
    """Raise every UserError that can be known before the first answer is generated."""
    prompt, generator = _prompt(options, context), workbench.generator_choice(options.generator)
    if prompt is not None and options.own_answers and workbench.answers_alike(generator):
        raise UserError(
            f"the generator {generator.name} gives the same text for the own answer and for the paraphrase",
            "curation.generator",
            "name a second column with generator.paraphrase_column, or set paraphrase: null",
        )
    workbench.check(options.judge, questions, context)
    workbench.check(generator, questions, context)


def curate(questions: Sequence[Question], bench: Workbench, options: SelfTrainingOptions) -> list[list[Choice]]:
    """The target of every question, in their order; none where it is dropped."""
    own: dict[int, _Attempt] = {}
    if options.own_answers:
        wanted = {
            number: Request(question, question.messages, seed_of(options.seed, question.row_id, MODEL))
            for number, question in enumerate(questions)
        }
        own = _attempts(wanted, bench, options)
    prompt = _prompt(options, bench.context)
    restated: dict[int, _Attempt] = {}
    if prompt is not None:
        rest = [n for n in range(len(questions)) if n not in own or not own[n].verdict.accepted]
        restated = _attempts({n: _paraphrase(questions[n], prompt, options) for n in rest}, bench, options)
    _tell_counts([*own.values(), *restated.values()], bench.context)
    judge, generator = options.judge.name, workbench.generator_choice(options.generator)
    named = {"judge": judge, "generator": workbench.module_of(generator).describe(generator.options, bench.context)}
    return [_chosen(q, own.get(n), restated.get(n), named, options.fallback) for n, q in enumerate(questions)]


def _prompt(options: SelfTrainingOptions, context: CurationContext) -> Prompt | None:
    name = getattr(options, "paraphrase", None)
    if name is None:
        return None
    return load_prompt(name, context.recipe_dir, PARAPHRASE_FIELDS, "curation.paraphrase")


def _paraphrase(question: Question, prompt: Prompt, options: SelfTrainingOptions) -> Request:
    """The question's conversation with the prompt, filled in, as its last message."""
    text = fill(prompt, question=question.prompt, gold=question.gold)
    last = max((n for n, message in enumerate(question.messages) if message["role"] == "user"), default=None)
    before = question.messages if last is None else question.messages[:last]
    messages = [*before, {"role": "user", "content": text}]
    return Request(question, messages, seed_of(options.seed, question.row_id, PARAPHRASE), prompt.hash)


def _attempts(wanted: dict[int, Request], bench: Workbench, options: SelfTrainingOptions) -> dict[int, _Attempt]:
    answers = bench.answers(list(wanted.values()), options.generator)
    verdicts = _judged(list(zip(wanted.values(), answers, strict=True)), bench, options)
    attempts = map(_Attempt, wanted.values(), answers, verdicts)
    return dict(zip(wanted, attempts, strict=True))


def _judged(
    answered: Sequence[tuple[Request, Answer]], bench: Workbench, options: SelfTrainingOptions
) -> list[Verdict]:
    """The verdicts on answers; what is cut, or gives its scaffolding away, is rejected without asking the judge."""
    prompt = _prompt(options, bench.context)
    runs = frozenset() if prompt is None else leak_guard.prompt_runs(prompt.text)
    verdicts = [_rejected(request, answer, options, prompt, runs) for request, answer in answered]
    open_ = [number for number, verdict in enumerate(verdicts) if verdict is None]
    pairs = [(answered[number][0].question, answered[number][1].text) for number in open_]
    found = dict(zip(open_, bench.verdicts(pairs, options.judge, options.seed), strict=True))
    return [verdict or found[number] for number, verdict in enumerate(verdicts)]


def _rejected(
    request: Request,
    answer: Answer,
    options: SelfTrainingOptions,
    prompt: Prompt | None,
    runs: frozenset[tuple[str, ...]],
) -> Verdict | None:
    verdict = unusable(answer)
    if verdict is not None and not (verdict == CUT and answer.text and options.unfinished == "judge"):
        return verdict
    if prompt is None or not request.prompt_hash:
        return None  # the model's own answer: it was shown nothing
    said = (request.question.prompt, request.question.gold)
    phrase = leak_guard.leaked(answer.text, prompt.gives_away, runs, said)
    return Verdict(False, f"gives its prompt away: {phrase!r}") if phrase else None


def _chosen(
    question: Question, own: _Attempt | None, restated: _Attempt | None, named: dict[str, Any], fallback: str
) -> list[Choice]:
    facts: dict[str, Any] = dict(named)
    for name, attempt in (("own_answer", own), ("paraphrase", restated)):
        facts |= _facts(name, attempt)
    if own is not None and own.verdict.accepted:
        return [Choice(question, own.answer.text, MODEL, facts | _origin(own.request))]
    if restated is not None and restated.verdict.accepted:
        return [Choice(question, restated.answer.text, PARAPHRASE, facts | _origin(restated.request))]
    return [] if fallback == "drop" else [Choice(question, question.gold, GOLD, facts | _origin(None))]


def _facts(name: str, attempt: _Attempt | None) -> dict[str, Any]:
    """The columns about an attempt; null where there was none."""
    return {
        name: None if attempt is None else attempt.answer.text,
        f"{name}_accepted": None if attempt is None else attempt.verdict.accepted,
        f"{name}_verdict": None if attempt is None else attempt.verdict.reason,
    }


def _origin(request: Request | None) -> dict[str, Any]:
    """How the target was asked for; null for gold."""
    if request is None:
        return {"prompt_hash": None, "seed": None}
    return {"prompt_hash": request.prompt_hash or None, "seed": request.seed}


def _tell_counts(attempts: Sequence[_Attempt], context: CurationContext) -> None:
    """What a person must know about the answers as a whole."""
    cut = sum(not attempt.answer.finished and attempt.answer.num_tokens > 0 for attempt in attempts)
    if cut:
        context.say(f"{cut:,} of {len(attempts):,} answers were cut at max_new_tokens")
    tied = sum(attempt.answer.near_ties > 0 for attempt in attempts)
    if tied:
        context.say(
            f"{tied:,} of {len(attempts):,} answers have a token that another one ties with up to rounding: "
            "another batch size or machine may choose differently there"
        )
    cost = sum(attempt.answer.cost for attempt in attempts)
    if cost:
        context.say(f"the answers cost {cost:,.4f} in all, those found in the cache included")
