"""What the verbs share: the console, one-line messages, results as JSON, and the arguments of every recipe verb.

Three flags of every verb decide how it speaks (`Manner`). They travel to the ranks in an environment variable, so that a
training of several processes keeps to them too.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftgo_cli.cli import heartbeat

if TYPE_CHECKING:
    from rich.console import Console

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML)")]


def complete_override(incomplete: str) -> list[str]:
    """The recipe's keys that begin as typed, for shell completion; an entry of a list by its number."""
    from sftgo_cli.recipe.unknown_keys import override_keys

    return [f"{key}=" for key in override_keys() if key.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Overrides such as training.max_steps=100", autocompletion=complete_override
    ),
]
MANNER = "SFTGO_OUTPUT"  # `json`, `quiet` or both, separated by a comma
NATURAL_WIDTH = 2_000  # of what goes to a file or a pipe: nothing is cut there
READING_WIDTH = 100  # of texts that are wrapped there


def wants_json() -> bool:
    """Whether stdout carries one JSON value and nothing else (`--json`)."""
    return "json" in os.environ.get(MANNER, "")


def is_quiet() -> bool:
    """Whether only errors and the result asked for are shown (`--quiet`)."""
    return "quiet" in os.environ.get(MANNER, "")


def console(stderr: bool = False, progress: bool = False) -> Console:
    """A rich console; silent in ranks other than the first.

    A pipe or a file is as wide as what is written to it, unless COLUMNS says otherwise. With `--json` all of it goes to
    stderr, so that stdout holds the result alone.

    Args:
        progress: it shows what is going on, not the result: silent with `--quiet`.
    """
    from rich.console import Console

    class Listened(Console):
        """Tells the heartbeat that something was shown."""

        def print(self, *objects: Any, **settings: Any) -> None:
            heartbeat.heard()
            super().print(*objects, **settings)

    stderr = stderr or wants_json()
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS", "").isdigit() else NATURAL_WIDTH
    quiet = not speaks() or (is_quiet() and (progress or stderr))
    return Listened(stderr=stderr, quiet=quiet, soft_wrap=False, width=width, markup=False, highlight=False)


def reading_width(out: Console) -> int | None:
    """How wide texts are wrapped where the console has no width of its own; None for its own."""
    return READING_WIDTH if out.width == NATURAL_WIDTH else None


def speaks() -> bool:
    """Whether this process is the one that prints."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """One plain line about what is going on, on stderr, so that tables and JSON on stdout can be piped."""
    if speaks():
        heartbeat.heard(line)
        if not is_quiet():
            print(line, file=sys.stderr, flush=True)


def emit(result: Any) -> None:
    """The verb's result: a dataclass or plain data. Printed as JSON with `--json`; otherwise its text was printed before."""
    if wants_json() and speaks():
        print_json(result)


def print_json(value: Any) -> None:
    """Readable JSON on stdout; what is not a number is null."""
    import json

    print(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """Dataclasses as objects, paths as texts, and null for what JSON has no number for."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return _plain(value.item()) if callable(getattr(value, "item", None)) else str(value)


def quiet_libraries() -> None:
    """Silence progress bars and notices of the libraries underneath; sftgo says what matters itself."""
    import warnings

    import datasets
    import transformers

    # peft 0.21.2 still reads the attribute that transformers 5.23 renamed
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
