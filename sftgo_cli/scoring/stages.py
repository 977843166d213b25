"""The cached stage that puts scores beside tokenized rows, whatever the scorer; see the package for the kinds."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sftgo_cli.cache import cache_root, cached, stage_key
from sftgo_cli.columns import LABELS, TOKEN_SCORES
from sftgo_cli.data.stages import Rows, beside, write_column, write_columns
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.scoring.checked_scores import checked_chunks
from sftgo_cli.scoring.context import ScoringContext

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

    from sftgo_cli.data.rows import TokenChunk, TokenTable

Say = Callable[[str], None]
STAGE = "score"
SCORE_VERSION = 1
SHARDS = "score_shards"  # folder of the cache; its results hold no manifest, so that it lists none of them


def scored(
    rows: Rows, fit_on: Rows, choice: MethodChoice, module: ModuleType, context: ScoringContext, say: Say
) -> Rows:
    """The rows with `token_scores` (and what else a model-based scorer writes) beside them.

    Args:
        fit_on: the rows whose statistics are used; a scorer that runs a model needs none.

    Raises:
        UserError, EnvironmentProblem, InterruptedRun: see errors.py. Finished shards stay for the next run.
    """
    if hasattr(module, "parts"):
        return _scored_by_parts(rows, fit_on, choice, module, context, say)
    if hasattr(module, "open_scorer"):
        return _scored_by_model(rows, choice, module, context, say)
    return _scored_by_statistics(rows, fit_on, choice, module, say)


def _scored_by_statistics(rows: Rows, fit_on: Rows, choice: MethodChoice, module: ModuleType, say: Say) -> Rows:
    token_columns, row_columns = module.columns(choice.options)

    def build(folder: Path) -> None:
        import numpy as np

        say(f"scoring {rows.num_rows} rows with {choice.name}")
        fitted = table_of(fit_on.datasets, token_columns, row_columns)
        for number, dataset in enumerate(rows.datasets):
            table = table_of([dataset], with_labels(token_columns), row_columns)
            pairs = checked_chunks(choice.name, module.score(table, fitted, choice.options), table, dataset)
            write_column(folder / f"{number}.arrow", TOKEN_SCORES, np.float32, pairs)

    ingredients = {
        "scorer": choice.name,
        "scorer_version": module.VERSION,
        "options": choice.options.model_dump(),
        "rows": rows.keys,
        "fit_on": fit_on.keys,
    }
    return beside(rows, cached(STAGE, SCORE_VERSION, ingredients, build, say))


def _scored_by_model(rows: Rows, choice: MethodChoice, module: ModuleType, context: ScoringContext, say: Say) -> Rows:
    from sftgo_cli.scoring import shards

    ingredients = {
        "scorer": choice.name,
        "scorer_version": module.VERSION,
        "options": choice.options.model_dump(mode="json", exclude=set(module.PATH_OPTIONS)),
        "content": module.fingerprint(choice.options, context),
        "shard_tokens": shards.SHARD_TOKENS,
        "rows": rows.keys,
    }
    # Not in the folder that `cached` fills: that one is emptied when a killed run is started again.
    kept = cache_root() / SHARDS / stage_key(STAGE, SCORE_VERSION, ingredients)
    context = dataclasses.replace(context, say=say)
    job = shards.ScoringJob(choice.name, module.__name__, choice.options, context, rows.datasets, kept)

    def build(folder: Path) -> None:
        import numpy as np

        say(f"scoring {rows.num_rows} rows with {choice.name}")
        finished = shards.score_in_shards(job, module)
        dtypes = dict.fromkeys(module.written(choice.options), np.float32)
        for number in range(len(rows.datasets)):
            write_columns(folder / f"{number}.arrow", dtypes, shards.read_back(job, module, finished, number))

    try:
        stage = cached(STAGE, SCORE_VERSION, ingredients, build, say)
    except BaseException:
        with contextlib.suppress(OSError):  # it holds finished shards
            kept.rmdir()
        raise
    shutil.rmtree(kept, ignore_errors=True)
    return beside(rows, stage)


def _scored_by_parts(
    rows: Rows, fit_on: Rows, choice: MethodChoice, module: ModuleType, context: ScoringContext, say: Say
) -> Rows:
    """Every part by its own cached stage, then their scores combined."""
    parts = module.parts(choice.options)
    scored_parts = []
    for number, part in enumerate(parts):
        part_module = importlib.import_module(f"{__package__}.{part.name}")
        try:
            scored_parts.append(scored(rows, fit_on, part, part_module, context, say))
        except UserError as error:
            where = f"{error.where} (part {number}, {part.name})"
            raise UserError(error.what, where, error.fix) from None

    def build(folder: Path) -> None:
        import numpy as np

        say(f"scoring {rows.num_rows} rows with {choice.name}")
        for number, dataset in enumerate(rows.datasets):
            token_columns, row_columns = module.columns(choice.options)
            table = table_of([dataset], with_labels(token_columns), row_columns)
            part_tables = [table_of([part.datasets[number]], (TOKEN_SCORES,)) for part in scored_parts]
            outputs = (
                module.combine(chunk, part_scores(part_tables, chunk), choice.options) for chunk in table.chunks()
            )
            pairs = checked_chunks(choice.name, outputs, table, dataset)
            write_column(folder / f"{number}.arrow", TOKEN_SCORES, np.float32, pairs)

    ingredients = {
        "scorer": choice.name,
        "scorer_version": module.VERSION,
        "options": choice.options.model_dump(mode="json", exclude=set(module.PART_OPTIONS)),
        "parts": [{"weight": part.weight, "scores": done.keys} for part, done in zip(parts, scored_parts, strict=True)],
        "rows": rows.keys,
    }
    return beside(rows, cached(STAGE, SCORE_VERSION, ingredients, build, say))


def part_scores(tables: Sequence[TokenTable], chunk: TokenChunk) -> list[npt.NDArray[np.float32]]:
    """The scores of the chunk's rows in tables of the same rows, whose files may be cut into other batches."""
    rows = chunk.first_row, chunk.first_row + chunk.num_rows
    return [table.slice(*rows).columns[TOKEN_SCORES] for table in tables]


def with_labels(token_columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that a scorer reads, and `labels`, by which its scores are checked."""
    return tuple(dict.fromkeys((*token_columns, LABELS)))


def table_of(datasets: Sequence[Dataset], token_columns: Sequence[str], row_columns: Sequence[str] = ()) -> TokenTable:
    """The named columns of all data sets, in order."""
    from sftgo_cli.data.rows import TokenTable

    return TokenTable(datasets, token_columns, row_columns)
