"""The cached stages that turn tokenized rows into scored and grouped ones, whatever the scorer.

Scores and groups are separate: changing `important_fraction` never rescores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sftgo_cli.cache import cached
from sftgo_cli.columns import GROUP_IDS, LABELS, PINNED, TOKEN_SCORES
from sftgo_cli.data.stages import Rows, beside, write_column
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.recipe.schema import GroupingSection

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

    from sftgo_cli.data.rows import TokenChunk, TokenTable

Say = Callable[[str], None]
SCORE_VERSION = 1
GROUP_VERSION = 1


def scored(rows: Rows, fit_on: Rows, choice: MethodChoice, module: ModuleType, say: Say) -> Rows:
    """The rows with `token_scores` beside them, from the scorer `module` with the statistics of `fit_on`."""
    token_columns, row_columns = module.columns(choice.options)

    def build(folder: Path) -> None:
        import numpy as np

        say(f"scoring {rows.num_rows} rows with {choice.name}")
        fitted = _table(fit_on.datasets, token_columns, row_columns)
        for number, dataset in enumerate(rows.datasets):
            table = _table([dataset], token_columns, row_columns)
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


def grouped(rows: Rows, grouping: GroupingSection, say: Say) -> Rows:
    """Scored rows with `group_ids` beside them."""

    def build(folder: Path) -> None:
        import numpy as np

        for number, dataset in enumerate(rows.datasets):
            chunks = _table([dataset], (LABELS, PINNED, TOKEN_SCORES)).chunks()
            pairs = ((chunk.row_offsets, _group_ids(chunk, grouping)) for chunk in chunks)
            write_column(folder / f"{number}.arrow", GROUP_IDS, np.int8, pairs)

    settings = {"cuts": grouping.cuts(), **grouping.model_dump(include={"special_tokens", "invert"})}
    return beside(rows, cached("group", GROUP_VERSION, {"scores": rows.keys, "grouping": settings}, build, say))


def _group_ids(chunk: TokenChunk, grouping: GroupingSection) -> npt.NDArray[np.int8]:
    from sftgo_cli.grouping import group_tokens

    return group_tokens(
        chunk.columns[TOKEN_SCORES],
        chunk.row_offsets,
        chunk.supervised,
        chunk.columns[PINNED],
        grouping.cuts(),
        grouping.special_tokens,
        grouping.invert,
    )


def _table(datasets: Sequence[Dataset], token_columns: Sequence[str], row_columns: Sequence[str] = ()) -> TokenTable:
    from sftgo_cli.data.rows import TokenTable

    return TokenTable(datasets, token_columns, row_columns)
