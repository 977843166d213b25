"""The same rows scored and grouped in several ways, for `sftgo score --compare` and `sftgo inspect --compare`.

Every scorer goes through the recipe's own stages, so what a recipe with this scorer has cached is used, and what is
computed here is there for it. Only the evaluation sets that are asked for, or that take rows out of the training rows,
are prepared.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from sftgo_cli import methods, pipeline
from sftgo_cli.data.stages import Rows
from sftgo_cli.errors import UserError
from sftgo_cli.pipeline import PreparedData
from sftgo_cli.recipe.choices import read_choices
from sftgo_cli.recipe.load import LoadedRecipe
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.recipe.schema import DEFAULT_METHODS, Recipe
from sftgo_cli.scoring.group_stage import given_column

FLAG = "--compare"


def prepare_each(
    loaded: LoadedRecipe,
    scorers: str,
    say: Callable[[str], None],
    num_processes: int | None = None,
    console: Any = None,
    set_name: str | None = None,
) -> dict[str, PreparedData]:
    """The recipe's rows by scorer, in the order given; row r of one is row r of all.

    Args:
        scorers: the value of `--compare`, see `recipe/choices.py`.
        set_name: an evaluation set that is wanted besides the training rows.

    Raises:
        UserError: fewer than two scorers, one that does not exist or lacks an option, or groups that scores do not
            decide; and whatever `pipeline.prepare` raises.
    """
    choices = read_choices(scorers, FLAG, "scoring", loaded, methods)
    if len(choices) < 2:
        raise UserError("a comparison needs at least two scorers", f"{FLAG} {scorers}", f"for example {FLAG} a,b")
    if given_column(loaded.recipe.grouping) is not None:
        raise UserError(
            "the rows themselves give the groups, whatever the scorer",
            "grouping",
            "compare with grouping.important_fraction=0.3",
        )
    labels = choice_labels(choices)
    recipes = (_recipe_with(loaded.recipe, choice, set_name) for choice in choices)
    loads = (dataclasses.replace(loaded, recipe=recipe) for recipe in recipes)
    return {label: pipeline.prepare(one, say, num_processes, console) for label, one in zip(labels, loads, strict=True)}


def _recipe_with(recipe: Recipe, choice: MethodChoice, set_name: str | None) -> Recipe:
    """The recipe with another scorer. An objective that reads what a scorer writes gives way to the default one."""
    sets = {
        name: source for name, source in recipe.data.eval.items() if name == set_name or source.fraction is not None
    }
    changed: dict[str, Any] = {"scoring": choice, "data": recipe.data.model_copy(update={"eval": sets})}
    if hasattr(methods.module("objective", recipe.objective.name), "token_columns"):
        name = DEFAULT_METHODS["objective"]
        options = methods.module("objective", name).Options.model_validate({})
        changed["objective"] = MethodChoice(name=name, options=options)
    return recipe.model_copy(update=changed)


def choice_labels(choices: Sequence[MethodChoice]) -> list[str]:
    """What tells the choices apart: their names, and where two have the same, the options in which they differ.

    Raises:
        UserError: two of them are the same.
    """
    counts = Counter(choice.name for choice in choices)
    labels: list[str] = []
    for choice in choices:
        label = choice.name
        if counts[choice.name] > 1:
            values = [other.options.model_dump() for other in choices if other.name == choice.name]
            own = choice.options.model_dump()
            differing = [key for key in own if any(value[key] != own[key] for value in values)]
            label = " ".join([label, *(f"{key}={own[key]}" for key in differing)])
        if label in labels:
            raise UserError(f"{label} is named twice", FLAG, "name each scorer once, or with other options")
        labels.append(label)
    return labels


def rows_of(rows: Rows, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The rows with these numbers, counted over all data sets."""
    ends = list(accumulate(len(dataset) for dataset in rows.datasets))
    found = []
    for number in numbers:
        place = bisect_right(ends, number)
        dataset = rows.datasets[place]
        found.append(dataset[number - ends[place] + len(dataset)])
    return found
