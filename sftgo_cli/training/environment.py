"""Versions, devices and thread counts of this process, for environment.json and `sftgo doctor`; never a secret."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

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
