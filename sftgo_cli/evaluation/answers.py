"""How many questions of an evaluation set a model answers right: it generates, a judge of the recipe decides.

    answer_accuracy = accepted answers / questions            one that is cut or empty is wrong

Greedy, through the chat template, the question up to the row's last answer. Answers and verdicts are cached steps like
those of a curation, so measuring again asks for nothing. `<set>.answers.jsonl` beside the results has every answer with
its verdict; `sftgo compare` pairs the rows of two runs by it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli import durable
from sftgo_cli.columns import ROW_ID
from sftgo_cli.curation import workbench
from sftgo_cli.curation.questions import Answer, CurationContext, Question, Request, Verdict, unusable
from sftgo_cli.curation.rows import read_source
from sftgo_cli.recipe.data_section import EvalSource, TrainSource
from sftgo_cli.recipe.options import GeneratorChoice
from sftgo_cli.recipe.schema import AnswerCheck, Recipe

if TYPE_CHECKING:
    from sftgo_cli.data.stages import Rows

SUFFIX = ".answers.jsonl"


@dataclass(frozen=True)
class AnswerJob:
    """What is asked: the sets that the recipe has a judge for, and the run's model (None: the base model)."""

    recipe: Recipe
    run_dir: Path | None
    sets: dict[str, Rows]
    context: CurationContext


def measure_answers(job: AnswerJob) -> dict[str, dict[str, Any]]:
    """`answer_accuracy` and `num_answers` of every set; with a run, its answers are written beside the results.

    Raises:
        UserError: a judge does not fit the rows, or the model cannot be asked.
    """
    return {name: _measured(name, questions, check, job) for name, (questions, check) in check_answers(job).items()}


def check_answers(job: AnswerJob) -> dict[str, tuple[list[Question], AnswerCheck]]:
    """The questions of every set that is asked, with all checked that can be known before the first answer.

    Raises:
        UserError: a judge does not fit the rows, or the model cannot be asked.
    """
    asked = {name: (_questions(job, name), check) for name, check in job.recipe.evaluation.answers.items()}
    asked = {name: pair for name, pair in asked.items() if name in job.sets}
    for questions, check in asked.values():
        workbench.check(check.judge, questions, job.context)
        workbench.check(_generator(check, job.run_dir), questions, job.context)
    return asked


def _questions(job: AnswerJob, name: str) -> list[Question]:
    """The questions behind the rows of a set; of one held out by fraction, from every training source."""
    if name not in job.sets:
        return []
    source = job.recipe.data.eval[name]
    sources: Sequence[EvalSource | TrainSource] = [source] if source.fraction is None else job.recipe.data.train
    pairs = zip(sources, job.sets[name].datasets, strict=True)
    return [
        replace(row.question, row_id=f"{number}:{row.question.row_id}" if number else row.question.row_id)
        for number, (one, dataset) in enumerate(pairs)
        for row in read_source(
            one, job.context.recipe_dir, name, dataset[ROW_ID][:], system_prompt=job.context.system_prompt
        )
    ]


def _generator(check: AnswerCheck, run_dir: Path | None) -> GeneratorChoice:
    default = workbench.generator_choice(None)
    module = importlib.import_module(f"sftgo_cli.curation.generators.{default.name}")
    model = None if run_dir is None else str(run_dir.resolve())
    return GeneratorChoice(name=default.name, options=module.Options(model=model, max_new_tokens=check.max_new_tokens))


def _measured(name: str, questions: list[Question], check: AnswerCheck, job: AnswerJob) -> dict[str, Any]:
    bench = workbench.Workbench(job.context)
    job.context.say(f"answering the questions of {name}")
    wanted = [Request(question, question.messages, 0) for question in questions]
    answers = bench.answers(wanted, _generator(check, job.run_dir))
    early = [unusable(answer) for answer in answers]
    open_ = [number for number, verdict in enumerate(early) if verdict is None]
    judged = bench.verdicts([(questions[number], answers[number].text) for number in open_], check.judge)
    found = dict(zip(open_, judged, strict=True))
    verdicts = [verdict or found[number] for number, verdict in enumerate(early)]
    if job.run_dir is not None:
        _write(job.run_dir / "evaluation" / f"{name}{SUFFIX}", questions, answers, verdicts)
    accepted = sum(verdict.accepted for verdict in verdicts)
    return {
        "answer_accuracy": accepted / len(answers) if answers else None,
        "num_answers": len(answers),
        "num_answers_cut": sum(not answer.finished for answer in answers),
    }


def _write(path: Path, questions: Sequence[Question], answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> None:
    lines = [
        {
            "row_id": question.row_id,
            "prompt": question.prompt,
            "gold": question.gold,
            "answer": answer.text,
            "accepted": verdict.accepted,
            "verdict": verdict.reason,
        }
        for question, answer, verdict in zip(questions, answers, verdicts, strict=True)
    ]
    path.parent.mkdir(exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    durable.write_bytes(path, text.encode("utf-8", "replace"))  # a lone surrogate of the data cannot be written
