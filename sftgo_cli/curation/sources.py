"""A recipe's training sources before and after curation: what each job is, and the curated rows as sources again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from sftgo_cli.cache import CachedStage
from sftgo_cli.columns import ROW_ID
from sftgo_cli.curation.questions import CurationContext
from sftgo_cli.curation.stage import ROWS, Curation
from sftgo_cli.data.row_formats import Format
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.data_section import TrainSource
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from sftgo_cli.data.stages import Rows, Tokenizing

Methods = Sequence[tuple[MethodChoice, ModuleType]]


def curation_jobs(
    recipe: Recipe, train: Rows, formats: Sequence[str], chosen: Methods, job: Tokenizing, context: CurationContext
) -> list[Curation]:
    """One job per training source, for the rows that are trained on (those held out are left as they are).

    Args:
        train: the tokenized rows with their gold answers, a data set per source.
        formats: the sources' formats, found or declared.
        job: what they were tokenized with.

    Raises:
        UserError: a column with a number per token of the gold answer, or its segments' groups, are asked for.
    """
    if job.keep_columns:
        raise UserError(
            f"column {job.keep_columns[0]!r} has a number per token of the given answer, and curation replaces answers",
            "curation",
            "score and group by something else, or remove the curation",
        )
    if job.given is not None and job.given.roles is None:
        raise UserError(
            "grouping.segments reads groups that the given answers mark, and curation replaces answers",
            "curation",
            "group by scores, or remove the curation",
        )
    return [
        Curation(
            f"train.{number}",
            source,
            cast(Format, fmt),
            dataset[ROW_ID][:],
            chosen,
            job.keep_row_columns,
            recipe.data.max_length,
            context,
        )
        for number, (source, fmt, dataset) in enumerate(zip(recipe.data.train, formats, train.datasets, strict=True))
    ]


def curated_sources(jobs: Sequence[Curation], stages: Sequence[CachedStage]) -> dict[str, TrainSource]:
    """The curated rows as sources under the labels of those they were made of."""
    plain: dict[str, Any] = {"columns": {}, "max_samples": None, "name": None, "revision": None, "split": "train"}
    return {
        job.label: job.source.model_copy(update={**plain, "path": str(stage.path / ROWS), "format": job.format})
        for job, stage in zip(jobs, stages, strict=True)
    }


def folders(jobs: Sequence[Curation], stages: Sequence[CachedStage]) -> dict[str, Path]:
    """Where each curated source lies, by label."""
    return {job.label: stage.path for job, stage in zip(jobs, stages, strict=True)}
