"""`sftgo inspect RECIPE --why ROW:TOKEN`: how one token of the prepared rows came into its group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from sftgo_cli import methods, pipeline
from sftgo_cli.columns import INPUT_IDS, LABELS, ROW_ID, TOKEN_SCORES
from sftgo_cli.data.stages import Rows
from sftgo_cli.errors import UserError
from sftgo_cli.grouping import ranked_tokens
from sftgo_cli.pipeline import PreparedData
from sftgo_cli.recipe.load import LoadedRecipe
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.report.number_text import value_text
from sftgo_cli.report.segments import row_tokens
from sftgo_cli.report.why import asked_token, why
from sftgo_cli.row_choice import select_rows
from sftgo_cli.scoring.group_stage import given_column, shared_thresholds
from sftgo_cli.scoring.stages import table_of


def explanation(
    loaded: LoadedRecipe, asked: str, set_name: str | None, say: Callable[[str], None], console: Any
) -> list[tuple[str, str]]:
    """Name and text of each line about the token `ROW:TOKEN` of the training rows, or of an evaluation set.

    Raises:
        UserError: there is no such row or token; and whatever `pipeline.prepare` raises.
    """
    wanted = asked_token(asked)
    data = pipeline.prepare(loaded, say, console=console)
    try:
        row = row_tokens(select_rows(data, set_name, 0, 1, wanted.row_id)[0])
    except UserError as error:
        raise UserError(error.what, f"--why {asked}" if error.where == "--row" else error.where, error.fix) from None
    parts: list[tuple[str, str]] = []
    if wanted.token < row.num_tokens and row.supervised[wanted.token]:
        parts = _parts(loaded, data, set_name, wanted.row_id, wanted.token, say, console)
    grouping = loaded.recipe.grouping
    thresholds = None if given_column(grouping) is not None else shared_thresholds(data.train, grouping)
    return why(row, wanted.token, grouping, loaded.recipe.scoring.name, parts, thresholds, data.tokenizer)


def _parts(
    loaded: LoadedRecipe,
    data: PreparedData,
    set_name: str | None,
    row_id: str,
    token: int,
    say: Callable[[str], None],
    console: Any,
) -> list[tuple[str, str]]:
    """What the token's score is made of: as the scorer explains it, its parts' scores, or what else it has written."""
    choice = loaded.recipe.scoring
    scorer = methods.module("scoring", choice.name)
    if hasattr(scorer, "explain"):
        rows = data.train if set_name is None else data.evaluation[set_name]
        columns = scorer.columns(choice.options)
        place = _place(rows, row_id)
        found: list[tuple[str, str]] = scorer.explain(
            table_of(rows.datasets, *columns), table_of(data.train.datasets, *columns), choice.options, place, token
        )
        return found
    if hasattr(scorer, "parts"):
        return [
            _part(loaded, number, part, set_name, row_id, token, say, console)
            for number, part in enumerate(scorer.parts(choice.options))
        ]
    written = scorer.written(choice.options) if hasattr(scorer, "written") else ()
    row = select_rows(data, set_name, 0, 1, row_id)[0]
    return [(name, f"{value_text(float(row[name][token]))} nats") for name in written if name != TOKEN_SCORES]


def _part(
    loaded: LoadedRecipe,
    number: int,
    part: Any,
    set_name: str | None,
    row_id: str,
    token: int,
    say: Callable[[str], None],
    console: Any,
) -> tuple[str, str]:
    """A part's own score and rank, from its own cached stage."""
    recipe = loaded.recipe.model_copy(update={"scoring": MethodChoice(name=part.name, options=part.options)})
    data = pipeline.prepare(dataclasses.replace(loaded, recipe=recipe), say, console=console)
    row = row_tokens(select_rows(data, set_name, 0, 1, row_id)[0])
    ranked = ranked_tokens(row.supervised, row.pinned, recipe.grouping.special_tokens)
    scores = row.scores[ranked]
    text = f"{value_text(float(row.scores[token]))}, weight {part.weight:g}"
    if ranked[token]:
        text += f", rank {1 + int((scores > row.scores[token]).sum())} of {len(scores)}"
    return f"part {number}, {part.name}", text


def _place(rows: Rows, row_id: str) -> int:
    """The row's number among all data sets of `rows`."""
    table = table_of(rows.datasets, (INPUT_IDS, LABELS), (ROW_ID,))
    for chunk in table.chunks():
        found = np.flatnonzero([one == row_id for one in chunk.columns[ROW_ID]])
        if len(found):
            return chunk.first_row + int(found[0])
    raise KeyError(row_id)
