"""Shell completion: all verbs as one Typer application, which completes, and prints or installs the shell's script.

Only asked for by the shell, or by `--install-completion` and `--show-completion`; an ordinary command never builds it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence

import typer
import typer.main


def complete(arguments: Sequence[str], verbs: Mapping[str, str]) -> int:
    """Answer the shell (through `_SFTGO_COMPLETE`), or the two flags; returns the exit code."""
    if len(arguments) > 1 or "=" in (arguments or [""])[0]:
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = (
            "1"  # the shell is named: typer need not find it out
        )
    root = typer.Typer(rich_markup_mode=None, help="sftgo")
    for verb, text in verbs.items():
        app = importlib.import_module(f"sftgo_cli.cli.{verb}").app
        if len(app.registered_commands) == 1:
            root.command(verb, help=text)(app.registered_commands[0].callback)
        else:
            root.add_typer(app, name=verb, help=text)
    try:
        typer.main.get_command(root).main(args=list(arguments), prog_name="sftgo")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0
