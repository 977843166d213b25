"""Merges an adapter into its base model: W + (alpha / r) B A, saved as a plain model that any tool loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.model_section import ModelSection


def merge_adapter(run_dir: Path, section: ModelSection, recipe_dir: Path, output: Path, tokenizer: Any) -> None:
    """Write the merged model and its tokenizer to `output`. Sums are made in float32, then cast to the compute type.

    Raises:
        UserError: the run has no adapter.
    """
    from sftgo_cli.base_model import load_trained_model, torch_dtype

    if not (run_dir / "adapter_config.json").is_file():
        raise UserError("the run has no adapter to merge", str(run_dir), "a full fine-tuning is a whole model already")
    model: Any = load_trained_model(run_dir, section, recipe_dir, "float32")
    merged = model.merge_and_unload().to(torch_dtype(section.dtype))
    merged.config.dtype = torch_dtype(section.dtype)
    merged.save_pretrained(output)
    tokenizer.save_pretrained(output)
