"""The cached stage that gives a training source its targets: the recipe's curation methods, one after the other.

    rows.jsonl         the curated rows in the source's own format, read by tokenization like any file
    provenance.jsonl   per row: gold and target, where the target is from, verdicts, log-probabilities
    summary.json       counts for the table

What a row's later method leaves at gold keeps the target of the earlier one. Rows keep their order; a method that drops
or adds rows says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from sftgo_cli.cache import CachedStage, cached, is_cached
from sftgo_cli.curation.log_probabilities import Likelihood, likelihoods, token_lengths
from sftgo_cli.curation.log_probabilities import fingerprint as likelihood_fingerprint
from sftgo_cli.curation.questions import Choice, CurationContext
from sftgo_cli.curation.rows import Row, chosen_values, read_source
from sftgo_cli.curation.steps import digest
from sftgo_cli.curation.workbench import Workbench
from sftgo_cli.data.formats import to_sample, with_system_prompt
from sftgo_cli.data.row_formats import Format, used_columns
from sftgo_cli.data.samples import Sample
from sftgo_cli.data.sources import RawRow, resolve_source, source_fingerprint
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.data_section import TrainSource
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.recipe.unknown_keys import nested_keys

NAME = "curate"
VERSION = 1
GOLD = "gold"
ORIGIN = ("judge", "generator", "seed", "prompt_hash")  # columns about how the target came to be
ROWS, PROVENANCE, SUMMARY = "rows.jsonl", "provenance.jsonl", "summary.json"


@dataclass(frozen=True)
class Curation:
    """One training source to curate."""

    label: str
    source: TrainSource
    format: Format
    row_ids: Sequence[str]  # of the rows that are trained on, in order
    methods: Sequence[tuple[MethodChoice, ModuleType]]
    keep_columns: tuple[str, ...]  # the rows' own columns that training reads besides those of the format
    max_length: int
    context: CurationContext

    @property
    def with_likelihoods(self) -> bool:
        """Whether a method asks for the log-probabilities."""
        return any(getattr(choice.options, "log_probabilities", False) for choice, _ in self.methods)


def curated(jobs: Sequence[Curation]) -> list[CachedStage]:
    """The folder of every curated source, as above. All are checked before the first answer.

    Raises:
        UserError: rows, judge, generator or prompts are wrong.
        EnvironmentProblem, KeyboardInterrupt: finished answers and verdicts stay for the next run.
    """
    unfinished(jobs)
    return [_curated(job, _ingredients(job)) for job in jobs]


def unfinished(jobs: Sequence[Curation]) -> list[Curation]:
    """The jobs that are not cached, with all that can be known before the first answer checked.

    Raises:
        UserError: as `curated`.
    """
    missing = [job for job in jobs if not is_cached(NAME, VERSION, _ingredients(job))]
    for job in missing:
        _check(job, _read(job))
    return missing


def _curated(job: Curation, ingredients: dict[str, Any]) -> CachedStage:
    def build(folder: Path) -> None:
        rows = _read(job)
        job.context.say(f"curating {job.label} ({job.source.path}): {len(rows):,} rows")
        finals, notes = _chosen(rows, job)
        if not finals:
            names = ", ".join(choice.name for choice, _ in job.methods)
            raise UserError(
                f"the curation dropped all {len(rows):,} rows: no answer was accepted",
                f"{job.label}, curation: {names}",
                "keep gold with fallback: gold, or look at the judge with sftgo curate",
            )
        finals, unfit = _fitting(finals, job)
        weighed = _likelihoods(finals, job) if job.with_likelihoods else None
        _write(folder, finals, weighed, job)
        summary = {**_counts(finals), "rows_in": len(rows), "notes": [*notes, *unfit]}
        (folder / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")

    return cached(NAME, VERSION, ingredients, build, job.context.say)


def _ingredients(job: Curation) -> dict[str, Any]:
    ingredients: dict[str, Any] = {
        "content": source_fingerprint(resolve_source(job.source, job.context.recipe_dir, job.label)),
        "source": {"format": job.format, "columns": job.source.columns},
        "rows": digest(list(job.row_ids)),
        "keep_columns": list(job.keep_columns),
        "methods": [_method_ingredients(choice, module, job.context) for choice, module in job.methods],
    }
    if job.context.system_prompt:
        ingredients["system_prompt"] = job.context.system_prompt
    if job.with_likelihoods:
        ingredients["likelihoods"] = {**likelihood_fingerprint(job.context), "max_length": job.max_length}
    return ingredients


def _method_ingredients(choice: MethodChoice, module: ModuleType, context: CurationContext) -> dict[str, Any]:
    by_content = {*nested_keys(type(choice.options)), *getattr(module, "PATH_OPTIONS", ())}
    return {
        "name": choice.name,
        "version": module.VERSION,
        "options": choice.options.model_dump(mode="json", exclude=by_content),
        "content": module.fingerprint(choice.options, context),
    }


def _read(job: Curation) -> dict[str, Row]:
    """The rows that are trained on, by id, in their order."""
    system_prompt = job.context.system_prompt
    rows = read_source(job.source, job.context.recipe_dir, job.label, job.row_ids, job.format, system_prompt)
    return {row.question.row_id: row for row in rows}


def _check(job: Curation, rows: dict[str, Row]) -> None:
    for choice, module in job.methods:
        module.check([row.question for row in rows.values() if row.askable], choice.options, job.context)


@dataclass(frozen=True)
class _Final:
    """A row that comes out: the row it was made of, and its choice."""

    row_id: str
    row: Row
    choice: Choice


def _chosen(rows: dict[str, Row], job: Curation) -> tuple[list[_Final], list[str]]:
    """What the methods make of the rows, one method after the other, and what a person must know about it."""
    finals = [_Final(row_id, row, Choice(row.question, row.question.gold, GOLD)) for row_id, row in rows.items()]
    notes = []
    kept = sum(not row.askable for row in rows.values())
    if kept:
        notes.append(f"{kept:,} rows end in a tool call or an answer of weight 0: they keep their answers")
    for number, (choice, module) in enumerate(job.methods):
        asked = [final for final in finals if final.row.askable]
        questions = [replace(final.choice.question, row_id=final.row_id, gold=final.choice.target) for final in asked]
        answered = iter(module.curate(questions, Workbench(job.context), choice.options))
        made = [next(answered) if final.row.askable else [final.choice] for final in finals]
        before, finals = finals, _renewed(finals, made, number)
        dropped, added = sum(not several for several in made), sum(max(0, len(several) - 1) for several in made)
        if dropped or added:
            notes.append(
                f"{choice.name}: of {len(before):,} rows {dropped:,} dropped, {added:,} added: {len(finals):,} rows"
            )
    return finals, notes


def _renewed(finals: Sequence[_Final], made: Sequence[Sequence[Choice]], number: int) -> list[_Final]:
    """The rows after method `number`; every row has an id that no other has."""
    taken = {final.row_id for final in finals}
    renewed = []
    for final, several in zip(finals, made, strict=True):
        for choice in several:
            row_id, place = final.row_id, choice.copy
            while choice.copy and row_id in taken:
                row_id, place = f"{final.row_id}/{place}", place + 1
            taken.add(row_id)
            renewed.append(_next(row_id, final, choice, number))
    return renewed


def _next(row_id: str, final: _Final, choice: Choice, number: int) -> _Final:
    """The row after one more method. What that leaves at gold keeps where the earlier target was from."""
    if not final.row.askable:
        return final
    earlier = final.choice
    stays = bool(number) and choice.target_source == GOLD
    source = earlier.target_source if stays else choice.target_source
    facts = {**earlier.facts, **{key: value for key, value in choice.facts.items() if value is not None}}
    facts = {**dict.fromkeys(choice.facts), **facts}
    if stays:
        facts |= {key: earlier.facts[key] for key in ORIGIN if key in earlier.facts}
    return _Final(row_id, final.row, replace(choice, target_source=source, facts=facts))


def _fitting(finals: Sequence[_Final], job: Curation) -> tuple[list[_Final], list[str]]:
    """Without the targets that data.max_length would cut: gold stands in for them, and further answers are left out."""
    chosen = [final for final in finals if final.choice.target != final.row.question.gold]
    lengths = token_lengths([_sample(final, job) for final in chosen], job.context)
    long = {final.row_id for final, length in zip(chosen, lengths, strict=True) if length > job.max_length}
    if not long:
        return list(finals), []
    kept = [
        replace(final, choice=_back_to_gold(final.choice, final.row)) if final.row_id in long else final
        for final in finals
        if final.row_id not in long or not final.choice.copy
    ]
    return kept, [f"{len(long):,} targets do not fit data.max_length ({job.max_length} tokens) and are not used"]


def _back_to_gold(choice: Choice, row: Row) -> Choice:
    unused = {"prompt_hash": None, "seed": None, "unfit_target": choice.target}
    return replace(choice, target=row.question.gold, target_source=GOLD, facts={**choice.facts, **unused})


def _sample(final: _Final, job: Curation) -> Sample:
    """The row with its target, as tokenization will read it."""
    values = chosen_values(final.row, job.format, final.choice)
    sample = to_sample(RawRow(final.row.question.where, final.row_id, values), job.format, {})
    return with_system_prompt(sample, job.context.system_prompt)


def _likelihoods(finals: Sequence[_Final], job: Curation) -> list[tuple[Likelihood, Likelihood]]:
    """Of gold and of the target, for every row."""
    gold = [final.row.sample for final in finals]
    target = [_sample(final, job) for final in finals]
    weighed = likelihoods([*gold, *target], job.max_length, job.context)
    return list(zip(weighed[: len(gold)], weighed[len(gold) :], strict=True))


def _write(
    folder: Path, finals: Sequence[_Final], weighed: list[tuple[Likelihood, Likelihood]] | None, job: Curation
) -> None:
    known = used_columns(job.format) | set(job.keep_columns)
    with (
        (folder / ROWS).open("w", encoding="ascii") as rows,
        (folder / PROVENANCE).open("w", encoding="ascii") as facts,
    ):
        for number, final in enumerate(finals):
            values = chosen_values(final.row, job.format, final.choice)
            kept = {name: value for name, value in values.items() if name in known} | {"id": final.row_id}
            rows.write(json.dumps(kept, default=str) + "\n")
            others = {name: value for name, value in values.items() if name not in known}
            described = _provenance(final, weighed[number] if weighed else None) | {"others": others}
            facts.write(json.dumps(described, default=str) + "\n")


def _provenance(final: _Final, weighed: tuple[Likelihood, Likelihood] | None) -> dict[str, Any]:
    described = {
        "row_id": final.row_id,
        "prompt": final.row.question.prompt,
        "gold": final.row.question.gold,
        "target": final.choice.target,
        "target_source": final.choice.target_source,
        **final.choice.facts,
    }
    for name, likelihood in zip(("gold", "target"), weighed or (), strict=False):
        described[f"{name}_log_probability"] = likelihood.log_probability
        described[f"{name}_num_tokens"] = likelihood.num_tokens
    return described


def _counts(finals: Sequence[_Final]) -> dict[str, Any]:
    return {
        "rows_out": len(finals),
        "target_sources": dict(Counter(final.choice.target_source for final in finals)),
    }
