"""`sftgo schema`: the recipe's JSON schema, for editors (`# yaml-language-server: $schema=...`)."""

from __future__ import annotations

import typer

from sftgo_cli.cli.output import print_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def schema() -> int:
    """Print the recipe's JSON schema."""
    from sftgo_cli import methods
    from sftgo_cli.recipe.json_schema import recipe_json_schema

    print_json(recipe_json_schema(methods))
    return 0
