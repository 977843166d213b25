"""The cached stage that puts group ids beside scored rows: changing `important_fraction` never rescores.

Groups come from the scores of each sample, from scores compared over all training rows (`quantiles`; evaluation sets use
the training rows' thresholds), from scores against fixed `thresholds`, or from the rows themselves: a column, the roles
of messages, segments. The rows' own groups are checked before anything is scored, which may take hours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.cache import cached
from sftgo_cli.columns import GIVEN_GROUPS, GROUP_IDS, LABELS, PINNED, ROW_ID, TOKEN_SCORES
from sftgo_cli.data.stages import Rows, beside, write_column
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.grouping_section import GroupingSection
from sftgo_cli.scoring.stages import table_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenChunk

Say = Callable[[str], None]
GROUP_VERSION = 1
QUANTILES_VERSION = 1


def given_column(grouping: GroupingSection) -> str | None:
    """The column of the rows that holds the groups; None where scores decide."""
    if grouping.column is not None:
        return grouping.column.name
    return GIVEN_GROUPS if grouping.roles is not None or grouping.segments is not None else None


def check_given(sets: Sequence[Rows], grouping: GroupingSection) -> None:
    """Check the groups that the tokenized rows of all sets bring along; without such groups nothing is read.

    Raises:
        UserError: a supervised token's group is not an integer in 0..G-1; names the row and the token.
    """
    import numpy as np

    name, num_groups = given_column(grouping), grouping.num_groups()
    if name is None:
        return
    table = table_of([dataset for rows in sets for dataset in rows.datasets], (LABELS, name), (ROW_ID,))
    for chunk in table.chunks():
        groups_N = chunk.columns[name]
        is_group_N = (groups_N >= 0) & (groups_N < num_groups) & (groups_N == np.floor(groups_N))
        wrong = np.flatnonzero(chunk.supervised & ~is_group_N)
        if len(wrong):
            row = int(np.searchsorted(chunk.row_offsets, wrong[0], side="right")) - 1
            raise UserError(
                f"the group of token {int(wrong[0] - chunk.row_offsets[row])} is {groups_N[wrong[0]]:g}",
                f"row {chunk.columns[ROW_ID][row]}, {'its segments' if name == GIVEN_GROUPS else f'column {name}'}",
                f"give every supervised token a whole number from 0 to {num_groups - 1}, or raise num_groups",
            )


def grouped(rows: Rows, train: Rows, grouping: GroupingSection, say: Say) -> Rows:
    """Scored rows with `group_ids` beside them; `train` are the scored training rows, which `quantiles` are of."""
    settings = _settings(train, grouping, say)

    def build(folder: Path) -> None:
        import numpy as np

        token_columns = tuple(name for name in (LABELS, PINNED, TOKEN_SCORES, given_column(grouping)) if name)
        for number, dataset in enumerate(rows.datasets):
            chunks = table_of([dataset], token_columns).chunks()
            pairs = ((chunk.row_offsets, _group_ids(chunk, grouping, settings)) for chunk in chunks)
            write_column(folder / f"{number}.arrow", GROUP_IDS, np.int8, pairs)

    stage = cached("group", GROUP_VERSION, {"scores": rows.keys, "grouping": settings}, build, say)
    used_up = [GIVEN_GROUPS] if given_column(grouping) == GIVEN_GROUPS else []
    return beside(Rows([dataset.remove_columns(used_up) for dataset in rows.datasets], rows.keys), stage)


def _settings(train: Rows, grouping: GroupingSection, say: Say) -> dict[str, Any]:
    """What decides the groups besides the rows, as JSON; thresholds as the bits that `grouping.py` compares."""
    from sftgo_cli.grouping import score_bits

    name, ranking = given_column(grouping), grouping.model_dump(include={"special_tokens", "invert"})
    if name is not None:
        return {"given": name}
    if grouping.quantiles is not None:
        return {"thresholds": _quantiles(train, grouping, say), **ranking}
    if grouping.thresholds is not None:
        return {"thresholds": [score_bits(threshold) for threshold in grouping.thresholds], **ranking}
    return {"cuts": grouping.cuts(), **ranking}


def _quantiles(train: Rows, grouping: GroupingSection, say: Say) -> list[int]:
    """The thresholds over all training rows together, each row counted once, whatever its source's weight."""

    def build(folder: Path) -> None:
        thresholds = _computed_quantiles(train, grouping)
        (folder / "thresholds.json").write_text(json.dumps(thresholds), encoding="utf-8")

    settings = grouping.model_dump(include={"quantiles", "special_tokens", "invert"})
    stage = cached("quantiles", QUANTILES_VERSION, {"scores": train.keys, "grouping": settings}, build, say)
    found: list[int] = json.loads((stage.path / "thresholds.json").read_text(encoding="utf-8"))
    return found


def _computed_quantiles(train: Rows, grouping: GroupingSection) -> list[int]:
    from sftgo_cli.grouping import global_thresholds, ranked_tokens

    def scores() -> Iterator[npt.NDArray[np.float32]]:
        for chunk in table_of(train.datasets, (LABELS, PINNED, TOKEN_SCORES)).chunks():
            ranked_N = ranked_tokens(chunk.supervised, chunk.columns[PINNED], grouping.special_tokens)
            scores_M = chunk.columns[TOKEN_SCORES][ranked_N]
            yield -scores_M if grouping.invert else scores_M

    return global_thresholds(scores, grouping.quantiles or ())


def shared_thresholds(train: Rows, grouping: GroupingSection) -> list[float] | None:
    """The scores (negated under `invert`) at which groups begin where they are the same for all rows, highest first; None
    where every row has its own, or scores decide nothing."""
    from sftgo_cli.grouping import score_bits, score_of_bits

    if grouping.quantiles is not None:
        return sorted(map(score_of_bits, _computed_quantiles(train, grouping)), reverse=True)
    if grouping.thresholds is not None:
        return sorted((score_of_bits(score_bits(threshold)) for threshold in grouping.thresholds), reverse=True)
    return None


def _group_ids(chunk: TokenChunk, grouping: GroupingSection, settings: dict[str, Any]) -> npt.NDArray[np.int8]:
    import numpy as np

    from sftgo_cli.columns import NO_GROUP
    from sftgo_cli.grouping import group_by_thresholds, group_tokens

    if "given" in settings:
        return np.where(chunk.supervised, chunk.columns[settings["given"]], NO_GROUP).astype(np.int8)
    scores_N, pinned_N = chunk.columns[TOKEN_SCORES], chunk.columns[PINNED]
    rule = (grouping.special_tokens, grouping.invert)
    if "thresholds" in settings:
        return group_by_thresholds(scores_N, chunk.supervised, pinned_N, settings["thresholds"], *rule)
    return group_tokens(scores_N, chunk.row_offsets, chunk.supervised, pinned_N, settings["cuts"], *rule)
