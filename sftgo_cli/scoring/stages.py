"""The cached stage that puts scores beside tokenized rows, whatever the scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sftgo_cli.cache import cached
from sftgo_cli.columns import TOKEN_SCORES
from sftgo_cli.data.stages import Rows, beside, write_column
from sftgo_cli.recipe.options import MethodChoice

if TYPE_CHECKING:
    from datasets import Dataset

    from sftgo_cli.data.rows import TokenTable

Say = Callable[[str], None]
SCORE_VERSION = 1


def scored(rows: Rows, fit_on: Rows, choice: MethodChoice, module: ModuleType, say: Say) -> Rows:
    """The rows with `token_scores` beside them, from the scorer `module` with the statistics of `fit_on`."""
    token_columns, row_columns = module.columns(choice.options)

    def build(folder: Path) -> None:
        import numpy as np

        say(f"scoring {rows.num_rows} rows with {choice.name}")
        fitted = table_of(fit_on.datasets, token_columns, row_columns)
        for number, dataset in enumerate(rows.datasets):
            table = table_of([dataset], token_columns, row_columns)
            offsets = (chunk.row_offsets for chunk in table.chunks())
            pairs = zip(offsets, module.score(table, fitted, choice.options), strict=True)
            write_column(folder / f"{number}.arrow", TOKEN_SCORES, np.float32, pairs)

    ingredients = {
        "scorer": choice.name,
        "scorer_version": module.VERSION,
        "options": choice.options.model_dump(),
        "rows": rows.keys,
        "fit_on": fit_on.keys,
    }
    return beside(rows, cached("score", SCORE_VERSION, ingredients, build, say))


def table_of(datasets: Sequence[Dataset], token_columns: Sequence[str], row_columns: Sequence[str] = ()) -> TokenTable:
    """The named columns of all data sets, in order."""
    from sftgo_cli.data.rows import TokenTable

    return TokenTable(datasets, token_columns, row_columns)
