"""What a scorer that runs a model gets besides its options: the recipe's base model, its tokenizer, where paths begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftgo_cli.recipe.model_section import ModelSection


@dataclass(frozen=True)
class ScoringContext:
    """Plain data, the same in every scoring process."""

    model: ModelSection  # the base model of the recipe
    recipe_dir: Path  # relative paths in options begin here
    tokenizer: Any  # the base model's
    find_run: Callable[[Path], Path]  # a recipe's file -> the folder of its finished run; raises UserError
    num_processes: int  # scoring processes, `-n`
    say: Callable[[str], None]
    console: Any  # rich console for progress, or None
