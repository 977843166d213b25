"""An adapter's file as every reader expects it."""

from __future__ import annotations

from pathlib import Path

ADAPTER = "adapter_model.safetensors"
MAGNITUDE = "lora_magnitude_vector"


def name_magnitudes(folder: Path) -> None:
    """Give DoRA's magnitudes the name that both peft and transformers read; a folder without them is left alone.

    peft writes `...lora_magnitude_vector` and reads it with and without `.weight`; the adapter loading of transformers
    (`AutoModelForCausalLM.from_pretrained(adapter folder)`) looks for `.weight` and else begins anew without an error.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = folder / ADAPTER
    if not path.is_file():
        return
    with safe_open(path, "pt") as file:
        if not any(name.endswith(MAGNITUDE) for name in file.keys()):  # noqa: SIM118, not a mapping
            return
        metadata = file.metadata()
    tensors = load_file(path)
    save_file(
        {f"{name}.weight" if name.endswith(MAGNITUDE) else name: value for name, value in tensors.items()},
        path,
        metadata,
    )
