"""Merges an adapter into its base model: W + (alpha / r) B A, saved as a plain model that any tool loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.model_section import ModelSection


def merge_adapter(run_dir: Path, section: ModelSection, recipe_dir: Path, output: Path, tokenizer: Any) -> None:
    """Write the merged model and its tokenizer to `output`. Sums are made in float32, then cast to the compute type; what
    lies on disk is loaded once more and must be the same model.

    Raises:
        UserError: the run has no adapter, or the merged model gives other logits.
    """
    import shutil

    from sftgo_cli.adapter_merge import check_same_logits, merged, probe_logits
    from sftgo_cli.base_model import load_trained_model, torch_dtype

    if not (run_dir / "adapter_config.json").is_file():
        raise UserError("the run has no adapter to merge", str(run_dir), "a full fine-tuning is a whole model already")
    dtype = torch_dtype(section.dtype)
    model: Any = merged(load_trained_model(run_dir, section, recipe_dir, "float32"), str(run_dir))
    exact = probe_logits(model)
    model = model.to(dtype)
    model.config.dtype = dtype
    expected = probe_logits(model)
    check_same_logits(exact, expected, str(run_dir), dtype)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    del model
    plain = section.model_copy(update={"quantization": None})
    try:
        check_same_logits(
            expected, probe_logits(load_trained_model(output, plain, recipe_dir, section.dtype)), str(output), dtype
        )
    except UserError:
        shutil.rmtree(output)
        raise
