"""The cached stage that puts group ids beside scored rows: changing `important_fraction` never rescores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sftgo_cli.cache import cached
from sftgo_cli.columns import GROUP_IDS, LABELS, PINNED, TOKEN_SCORES
from sftgo_cli.data.stages import Rows, beside, write_column
from sftgo_cli.recipe.schema import GroupingSection
from sftgo_cli.scoring.stages import table_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenChunk

Say = Callable[[str], None]
GROUP_VERSION = 1


def grouped(rows: Rows, grouping: GroupingSection, say: Say) -> Rows:
    """Scored rows with `group_ids` beside them."""

    def build(folder: Path) -> None:
        import numpy as np

        for number, dataset in enumerate(rows.datasets):
            chunks = table_of([dataset], (LABELS, PINNED, TOKEN_SCORES)).chunks()
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
