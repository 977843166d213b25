"""`sftgo init`: write a commented recipe to start from, or a copy of a shipped one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def init(
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to write it; default: print it")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Copy this shipped recipe, such as quickstart")] = None,
    model: Annotated[str, typer.Option(help="Base model to put into it")] = "builtin:tiny",
    train: Annotated[str, typer.Option(help="Training data to put into it")] = "builtin:instructions",
) -> int:
    """Write a commented recipe with every key; `--from NAME` copies a shipped one."""
    from sftgo_cli import durable, methods
    from sftgo_cli.cli.output import say
    from sftgo_cli.errors import UserError
    from sftgo_cli.recipe.starter import copies_of, starter_recipe

    files = {"": starter_recipe(methods, model=model, train=train)} if source is None else copies_of(source)
    if path is None:
        if len(files) > 1:
            parents = ", ".join(name for name in files if name)
            raise UserError(f"{source} extends {parents}", "sftgo init", "name a file, so that all can be written")
        print(files[""], end="")
        return 0
    targets = {(path.parent / name if name else path): text for name, text in files.items()}
    for target, text in targets.items():
        if target.exists() and (target == path or target.read_text(encoding="utf-8") != text):
            raise UserError("the file exists", str(target), "choose another name, or remove it")
    for target, text in targets.items():
        durable.write_text(target, text)
    say(f"wrote {', '.join(map(str, targets))}; next: sftgo validate {path}")
    return 0
