"""Loads the base model of a recipe (or of a finished run) in the right dtype, without remote code or pickle by default.

Compute type and parameter type are two things: trainable parameters are float32 unless the tuner says otherwise (pure
bfloat16 rounds small updates away), frozen ones are kept in the compute type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.recipe.model_section import ModelSection

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BUILTIN_PREFIX = "builtin:"


def resolve_name(name_or_path: str, recipe_dir: Path) -> str:
    """A folder as absolute path (relative to the recipe's folder), `builtin:` as its folder, else the Hub id itself."""
    if name_or_path.startswith(BUILTIN_PREFIX):
        from sftgo_cli.builtin import model_folder

        return str(model_folder(name_or_path.removeprefix(BUILTIN_PREFIX)))
    local = (recipe_dir / Path(name_or_path).expanduser()).resolve()
    return str(local) if local.is_dir() else name_or_path


def torch_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16` as a torch dtype."""
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype


def load_base_model(section: ModelSection, recipe_dir: Path, param_dtype: str) -> PreTrainedModel:
    """The causal language model of the recipe, parameters in `param_dtype`, weights from safetensors only.

    Raises:
        UserError: the name is neither a folder nor a reachable Hub id, it needs remote code, or its weights are pickled.
        EnvironmentProblem: quantization is asked for and bitsandbytes is not installed.
    """
    from transformers import AutoModelForCausalLM

    name = resolve_name(section.name_or_path, recipe_dir)
    kwargs: dict[str, Any] = {"dtype": torch_dtype(param_dtype), "trust_remote_code": section.trust_remote_code}
    if section.revision is not None:
        kwargs["revision"] = section.revision
    if section.attn_implementation is not None:
        kwargs["attn_implementation"] = section.attn_implementation
    if section.quantization is not None:
        kwargs["quantization_config"] = _quantization_config(section)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True, **kwargs)
    except (OSError, ValueError) as error:
        raise _load_error(section, error) from error
    return model


def _load_error(section: ModelSection, error: Exception) -> UserError:
    """Turn transformers' message into one line that says what to do."""
    first = str(error).strip().split("\n")[0]
    if "safetensors" in str(error):
        fix = "weights must be safetensors, not pickle: load the model once where you trust it and save_pretrained() it"
    elif "trust_remote_code" in str(error):
        fix = "it runs code of its own; set model.trust_remote_code: true if you trust it"
    else:
        fix = "give a local folder, a Hub id that you can reach, or builtin:tiny"
    return UserError(f"cannot load the model {section.name_or_path!r}: {first}", "model.name_or_path", fix)


def _quantization_config(section: ModelSection) -> Any:
    import importlib.util

    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise EnvironmentProblem(
            "quantization needs bitsandbytes", "model.quantization", "pip install 'sftgo[quantization]'"
        )
    if section.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=section.quantization,
        bnb_4bit_compute_dtype=torch_dtype(section.dtype),
        bnb_4bit_use_double_quant=True,
    )


def model_fingerprint(section: ModelSection, recipe_dir: Path) -> dict[str, Any]:
    """What identifies the base weights by content: file hashes of a folder, or the Hub commit."""
    from sftgo_cli.cache import file_sha256

    name = resolve_name(section.name_or_path, recipe_dir)
    folder = Path(name)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".json"})
        weights = [path for path in files if path.suffix == ".safetensors" or path.name == "config.json"]
        return {path.name: file_sha256(path) for path in weights}
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            name, revision=section.revision, trust_remote_code=section.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise _load_error(section, error) from error
    return {"hub_id": name, "commit": getattr(config, "_commit_hash", None) or section.revision}


def load_trained_model(folder: Path, section: ModelSection, recipe_dir: Path, dtype: str) -> PreTrainedModel:
    """The model of a finished run or checkpoint: a full model, or the base with the folder's adapter merged in memory.

    Raises:
        UserError: the folder holds neither.
    """
    from transformers import AutoModelForCausalLM

    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        base = load_base_model(section, recipe_dir, dtype)
        model: PreTrainedModel = PeftModel.from_pretrained(base, str(folder))
        return model
    if not (folder / "config.json").is_file():
        raise UserError("no trained model", str(folder), "train it to the end first: sftgo train RECIPE")
    trained: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch_dtype(dtype), use_safetensors=True, trust_remote_code=section.trust_remote_code
    )
    return trained


def check_embeds(model: PreTrainedModel, num_tokens: int, where: str) -> None:
    """Raises UserError when a tokenizer of so many tokens gives ids that the model has no embedding for."""
    embedded = model.get_input_embeddings().weight.shape[0]
    if num_tokens > embedded:
        raise UserError(
            f"the tokenizer has {num_tokens} tokens, the model embeds {embedded}",
            where,
            "use the tokenizer that belongs to the model, or resize the model's embeddings and save it",
        )


def max_positions(section: ModelSection, recipe_dir: Path) -> int | None:
    """The model's longest context in tokens, or None when its configuration does not say."""
    return configured_number(section, recipe_dir, "max_position_embeddings")


def configured_number(section: ModelSection, recipe_dir: Path, name: str) -> int | None:
    """A number from the configuration in a model's folder, or None where there is none."""
    config = Path(resolve_name(section.name_or_path, recipe_dir)) / "config.json"
    if not config.is_file():
        return None
    value = json.loads(config.read_text(encoding="utf-8")).get(name)
    return int(value) if value is not None else None
