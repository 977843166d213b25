"""`sftgo generate RUN|RECIPE --prompt TEXT | --input FILE`: complete prompts with a run's (or recipe's) model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftgo_cli.cli.output import Overrides, console, emit, quiet_libraries, say, wants_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def generate(
    target: Annotated[Path, typer.Argument(metavar="RUN|RECIPE", help="A run's folder, or a recipe")],
    overrides: Overrides = None,
    prompt: Annotated[str | None, typer.Option("-p", "--prompt", help="Text to complete")] = None,
    input_file: Annotated[Path | None, typer.Option("--input", help="jsonl file of prompts")] = None,
    output_file: Annotated[Path | None, typer.Option("--output", help="Write jsonl here; default: print")] = None,
    column: Annotated[str, typer.Option(help="Column of the prompts")] = "prompt",
    base: Annotated[bool, typer.Option("--base", help="The base model, before training")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Without the chat template")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
) -> int:
    """Complete one prompt, or every prompt of a jsonl file."""
    from sftgo_cli import model_use
    from sftgo_cli.errors import UserError
    from sftgo_cli.evaluation.generate import Decoding, read_prompts, write_completions

    if (prompt is None) == (input_file is None):
        raise UserError("give a prompt or a file of prompts", "sftgo generate", "use --prompt TEXT or --input FILE")
    rows = [{column: prompt}] if input_file is None else read_prompts(input_file, column)
    quiet_libraries()
    decoding = Decoding(max_new_tokens, temperature, top_p, seed, batch_size)
    texts = [str(row[column]) for row in rows]
    completions = model_use.generate(target, overrides or [], base, texts, decoding, raw, say, console(stderr=True))
    pairs = [{"prompt": text, "completion": one} for text, one in zip(texts, completions, strict=True)]
    emit({"completions": pairs, "output": output_file})
    if output_file is not None:
        write_completions(output_file, rows, completions)
        say(f"wrote {len(completions)} completions to {output_file}")
    elif wants_json():
        return 0
    elif input_file is None:
        print(completions[0])
    else:
        for text, completion in zip(texts, completions, strict=True):
            print(f"> {text}\n{completion}\n")
    return 0
