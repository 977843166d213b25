"""What the verbs share: the console, one-line messages, and the arguments that every recipe verb takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML)")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides such as training.max_steps=100")
]


def console(stderr: bool = False) -> Console:
    """A rich console; silent in ranks other than the first."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=not speaks(), soft_wrap=False)


def speaks() -> bool:
    """Whether this process is the one that prints."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """One plain line about what is going on, on stderr, so that tables and JSON on stdout can be piped."""
    if speaks():
        import sys

        print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Readable JSON on stdout."""
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))


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
