"""Versions, devices and thread counts of this process, for environment.json and `sftgo doctor`; never a secret."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.trainer_names import INSTALL, OPTIMIZERS, TRACKERS

PACKAGES = ("sftgo", "torch", "transformers", "datasets", "accelerate", "peft", "tokenizers", "safetensors", "pyarrow")
EXTRAS = ("deepspeed", "bitsandbytes", "flash_attn")


def versions() -> dict[str, str | None]:
    """Installed version of every package that can change numbers; None where one is missing."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in (*PACKAGES, *EXTRAS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def devices() -> dict[str, Any]:
    """Processors and accelerators that torch sees."""
    import torch

    accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": accelerators,
        "bf16": bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported()),
    }


def environment() -> dict[str, Any]:
    """What environment.json holds."""
    return {"versions": versions(), "devices": devices()}


def missing_for(recipe: Recipe) -> list[str]:
    """What a recipe needs and this machine lacks, one line each with what to do."""
    missing = missing_for_model(recipe)
    if recipe.training.deepspeed is not None and versions()["deepspeed"] is None:
        missing.append("deepspeed, for training.deepspeed - pip install 'sftgo[deepspeed]'")
    trackers = [recipe.training.report_to] if isinstance(recipe.training.report_to, str) else recipe.training.report_to
    for tracker in trackers:
        package = TRACKERS.get(tracker)
        if package is not None and not _found(tracker):
            missing.append(f"{package}, for training.report_to: {tracker} - pip install {package}")
    package = OPTIMIZERS.get(recipe.training.optim)
    if package is not None and not _found(package):
        missing.append(f"{package}, for training.optim: {recipe.training.optim} - {INSTALL[package]}")
    return missing


def missing_for_model(recipe: Recipe) -> list[str]:
    """What loading the model as the recipe says needs and this machine lacks, one line each."""
    found = versions()
    missing = []
    if recipe.model.quantization is not None and found["bitsandbytes"] is None:
        missing.append("bitsandbytes, for model.quantization - pip install 'sftgo[quantization]'")
    if (recipe.model.attn_implementation or "").startswith("flash_attention") and found["flash_attn"] is None:
        fix = "pip install flash-attn --no-build-isolation, or use sdpa"
        missing.append(f"flash_attn, for model.attn_implementation - {fix}")
    return missing


def _found(module: str) -> bool:
    """Whether a module can be imported; trackers are named as their modules, but for a few."""
    names = {"azure_ml": "azureml", "flyte": "flytekit"}
    return importlib.util.find_spec(names.get(module, module)) is not None
