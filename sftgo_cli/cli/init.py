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
    from sftgo_cli.errors import UserError, nearest
    from sftgo_cli.recipe.starter import shipped_recipes, starter_recipe

    if source is None:
        text = starter_recipe(methods, model=model, train=train)
    else:
        shipped = shipped_recipes()
        if source not in shipped:
            hint = nearest(source, list(shipped))
            fix = f"did you mean {hint}?" if hint else f"shipped: {', '.join(shipped) or 'none in this installation'}"
            raise UserError(f"there is no shipped recipe {source!r}", "--from", fix)
        text = shipped[source].read_text(encoding="utf-8")
    if path is None:
        print(text, end="")
        return 0
    if path.exists():
        raise UserError("the file exists", str(path), "choose another name, or remove it")
    durable.write_text(path, text)
    say(f"wrote {path}; next: sftgo validate {path}")
    return 0
