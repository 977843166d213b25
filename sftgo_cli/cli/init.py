"""`sftgo init`: write a commented recipe to start from, a copy of a shipped one, or one converted from another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes that begin as typed, for shell completion."""
    from sftgo_cli.recipe.starter import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


@app.command()
def init(
    path: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write it; - or nothing prints it")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Copy this shipped recipe, such as quickstart or models/qwen3-4b",
            autocompletion=complete_recipe,
        ),
    ] = None,
    from_config: Annotated[
        Path | None,
        typer.Option(help="Convert this configuration (YAML or JSON) of TRL, axolotl, LLaMA-Factory or ms-swift"),
    ] = None,
    model: Annotated[str, typer.Option(help="Base model to put into it")] = "builtin:tiny",
    train: Annotated[str, typer.Option(help="Training data to put into it")] = "builtin:instructions",
) -> int:
    """Write a commented recipe with every key; `--from NAME` copies a shipped one, `--from-config FILE` converts."""
    from sftgo_cli import methods
    from sftgo_cli.cli.output import emit, say, wants_json
    from sftgo_cli.errors import UserError
    from sftgo_cli.recipe.conversion import converted
    from sftgo_cli.recipe.starter import copies_of, starter_recipe

    left_out: list[str] = []
    if source is not None and from_config is not None:
        raise UserError("--from and --from-config exclude each other", "sftgo init", "give one of them")
    if from_config is not None:
        text, tool, left_out = converted(from_config, methods)
        files = {"": text}
        say(
            f"converted from {tool}; "
            + (f"{len(left_out)} could not be converted:" if left_out else "nothing is left out")
        )
        for line in left_out:
            say(f"  {line}")
    else:
        files = {"": starter_recipe(methods, model=model, train=train)} if source is None else copies_of(source)
    targets = _written(path, files, source)
    emit({"recipe": files[""], "files": targets, "not_converted": left_out})
    if not targets and not wants_json():
        print(files[""], end="")
    return 0


def _written(path: Path | None, files: dict[str, str], source: str | None) -> list[Path]:
    """Write the recipe and those that it extends; nothing where it is to be printed."""
    from sftgo_cli import durable
    from sftgo_cli.cli.output import say
    from sftgo_cli.errors import UserError

    if path is None or str(path) == "-":
        if len(files) > 1:
            parents = ", ".join(name for name in files if name)
            raise UserError(f"{source} extends {parents}", "sftgo init", "name a file, so that all can be written")
        return []
    targets = {(path.parent / name if name else path): text for name, text in files.items()}
    for target, text in targets.items():
        if target.exists() and (target == path or target.read_text(encoding="utf-8") != text):
            raise UserError("the file exists", str(target), "choose another name, or remove it")
    for target, text in targets.items():
        durable.write_text(target, text)
    say(f"wrote {', '.join(map(str, targets))}; next: sftgo validate {path}")
    return list(targets)
