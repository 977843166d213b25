"""RFT, rejection sampling fine-tuning (arXiv 2308.01825): gold, and own right answers that calculate differently.

    k answers per question, sampled
    kept: accepted by the judge, and every <<a*b=c>> in them right within 1e-3
    of those with the same list of equations (spaces stripped, in order) one: where two collide, the one with the
    larger sum of Levenshtein distances to the question's other kept answers; of equals the earlier
    rows: gold, then the kept answers
    an answer without <<...>> has no equations to be told apart by: its normalized text takes their place [R]

The paper samples k = 100 at temperature 0.7 from a fine-tuned model and trains the base model; k of 4 to 8 already helps.
[R] Gold takes no part in the collisions; a kept answer that is gold word for word is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sftgo_cli.curation import workbench
from sftgo_cli.curation.accepted_answers import normalized
from sftgo_cli.curation.questions import Answer, Choice, CurationContext, Question, Request, Verdict, unusable
from sftgo_cli.curation.workbench import Workbench, seed_of
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import GeneratorChoice, JudgeChoice, MethodOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VERSION = 2
SOURCE = "RFT, arXiv 2308.01825 section 3.3"
MODEL, GOLD = "model", "gold"
TEMPERATURE = 0.7  # the paper's
TOLERANCE = 1e-3  # of a calculation: that of the paper's released code


class Options(MethodOptions):
    """Recipe options of `curation: [{name: rft}]`."""

    judge: JudgeChoice = Field(description="Who decides whether the final answer is right: {name: numeric}, ...")
    generator: GeneratorChoice | None = Field(
        None, description="Who answers, as a rule a fine-tuned model; null: the recipe's base model at temperature 0.7"
    )
    num_samples: int = Field(4, ge=1, le=1000, description="Answers per question, k; the paper takes 100")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the samples; each answer's own follows from it")
    log_probabilities: bool = Field(
        True, description="Write the log-probability of gold and target under the base model to the rows"
    )


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """What the targets depend on besides questions and options."""
    generator = _generator(options)
    return {
        "judge": workbench.fingerprint(options.judge, context),
        "generator": workbench.fingerprint(generator, context),
        "described": workbench.module_of(generator).describe(generator.options, context),
    }


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raise every UserError that can be known before the first answer is generated."""
    generator = _generator(options)
    if options.num_samples > 1 and getattr(generator.options, "temperature", None) == 0:
        raise UserError(
            f"greedy decoding gives the same answer {options.num_samples} times",
            "curation: rft.generator",
            f"set its temperature, to {TEMPERATURE} for example",
        )
    workbench.check(options.judge, questions, context)
    workbench.check(generator, questions, context)


def curate(questions: Sequence[Question], bench: Workbench, options: Options) -> list[list[Choice]]:
    """The rows of every question: gold first, then the kept answers in the order in which they were sampled."""
    generator = _generator(options)
    k = options.num_samples
    wanted = [
        Request(question, question.messages, seed_of(options.seed, question.row_id, MODEL, sample), sample=sample)
        for question in questions
        for sample in range(k)
    ]
    answers = bench.answers(wanted, generator)
    verdicts = _judged(wanted, answers, bench, options)
    named = {
        "judge": options.judge.name,
        "generator": workbench.module_of(generator).describe(generator.options, bench.context),
    }
    rows, num_accepted, num_kept, num_plain = [], 0, 0, 0
    for start, question in zip(range(0, len(wanted), k), questions, strict=True):
        accepted = [n for n in range(start, start + k) if verdicts[n].accepted]
        kept = distinct(accepted, {n: answers[n].text for n in accepted})
        kept = [n for n in kept if answers[n].text != question.gold.strip()]
        num_plain += sum(not _has_equations(answers[n].text) for n in accepted)
        num_accepted, num_kept = num_accepted + len(accepted), num_kept + len(kept)
        facts = {**named, "num_samples": k, "num_accepted": len(accepted)}
        rejected = [verdicts[n].reason for n in range(start, start + k) if not verdicts[n].accepted]
        gold = Choice(question, question.gold, GOLD, {**facts, "rejected": rejected, "verdict": None, "seed": None})
        rows.append(
            [gold, *(_choice(question, place, n, wanted, answers, verdicts, facts) for place, n in enumerate(kept))]
        )
    bench.context.say(
        f"of {len(wanted):,} answers {num_accepted:,} are right, and {num_kept:,} of those are kept as distinct: "
        f"{len(questions) + num_kept:,} rows with gold"
    )
    if num_plain:
        bench.context.say(
            f"{num_plain:,} of the {num_accepted:,} right answers have no <<a*b=c>> calculations: those are told apart "
            "by their text (without case, punctuation and articles), not by how they calculate"
        )
    return rows


def _choice(
    question: Question,
    place: int,
    number: int,
    wanted: Sequence[Request],
    answers: Sequence[Answer],
    verdicts: Sequence[Verdict],
    facts: dict[str, Any],
) -> Choice:
    facts = {**facts, "verdict": verdicts[number].reason, "seed": wanted[number].seed}
    return Choice(question, answers[number].text, MODEL, facts, copy=place + 1)


def _generator(options: Options) -> GeneratorChoice:
    if options.generator is not None:
        return options.generator
    choice = workbench.generator_choice(None)
    return choice.model_copy(update={"options": choice.options.model_copy(update={"temperature": TEMPERATURE})})


def _judged(wanted: Sequence[Request], answers: Sequence[Answer], bench: Workbench, options: Options) -> list[Verdict]:
    """The verdicts; the judge is asked about answers that are finished and calculate right."""
    verdicts = [_rejected(answer) for answer in answers]
    open_ = [number for number, verdict in enumerate(verdicts) if verdict is None]
    pairs = [(wanted[number].question, answers[number].text) for number in open_]
    found = dict(zip(open_, bench.verdicts(pairs, options.judge, options.seed), strict=True))
    return [verdict or found[number] for number, verdict in enumerate(verdicts)]


def _rejected(answer: Answer) -> Verdict | None:
    from sftgo_cli.curation.equations import check_calculations

    verdict = unusable(answer)
    if verdict is not None:
        return verdict
    wrong = next((text for text, right in check_calculations(answer.text, TOLERANCE) if not right), None)
    return None if wrong is None else Verdict(False, f"calculates {wrong} wrong")


def distinct(numbers: Sequence[int], texts: dict[int, str]) -> list[int]:
    """The numbers of the texts that are kept, ascending: one for each list of equations, or each text; see above."""
    kept: dict[tuple[str, ...], int] = {}
    for number in numbers:
        key = _key(texts[number])
        rival = kept.get(key)
        if rival is not None:
            others = [texts[other] for other in kept.values() if other != rival]
            farther = _spread(texts[number], others) > _spread(texts[rival], others)
            number = number if farther else rival
        kept[key] = number
    return sorted(kept.values())


def _key(text: str) -> tuple[str, ...]:
    """What makes an answer the same as another: its equations in order, or, without any, its normalized text."""
    from sftgo_cli.curation.equations import equation_list

    equations = tuple(equation_list(text))
    return equations or ("", normalized(text) or text.strip())


def _has_equations(text: str) -> bool:
    from sftgo_cli.curation.equations import equation_list

    return bool(equation_list(text))


def _spread(text: str, others: Sequence[str]) -> int:
    return sum(levenshtein(text, other) for other in others)


def levenshtein(first: str, second: str) -> int:
    """The least number of characters to insert, delete or replace that makes one text the other (Levenshtein 1966).

        d[i, j] = min(d[i-1, j] + 1, d[i, j-1] + 1, d[i-1, j-1] + (first[i] != second[j]))

    A row at a time; the minimum over d[i, j-1] + 1 along the row is that of (value - place), accumulated.
    """
    import numpy as np

    codes: npt.NDArray[np.uint32] = np.frombuffer(second.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    places = np.arange(len(second) + 1)
    row = places
    for number, letter in enumerate(first, start=1):
        replaced = row[:-1] + (codes != ord(letter))
        best = np.concatenate([[number], np.minimum(row[1:] + 1, replaced)])
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])
