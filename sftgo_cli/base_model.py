"""Loads the base model of a recipe (or of a finished run) in the right dtype, without remote code or pickle by default.

Compute type and parameter type are two things: trainable parameters are float32 unless the tuner says otherwise (pure
bfloat16 rounds small updates away), frozen ones are kept in the compute type. Every weight must come from the folder:
what is missing would be random. A name may mean an adapter or a run with one (model_source.py): it is merged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.model_errors import NOT_REPEATABLE, architecture_fault, check_report, load_error
from sftgo_cli.model_source import ADAPTER_CONFIG, ModelSource, adapter_config, check_source, model_source
from sftgo_cli.new_tokens import extend_embeddings, extend_tokenizer, fit_vocabulary
from sftgo_cli.recipe.model_section import ModelSection

GENERATION_CONFIG = "generation_config.json"

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def resolve_name(name_or_path: str, recipe_dir: Path) -> str:
    """The folder or Hub id of the whole model that a name means: of an adapter, that of its base."""
    return model_source(ModelSection.model_validate({"name_or_path": name_or_path}), recipe_dir).weights


def torch_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16` as a torch dtype."""
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype


def load_base_model(
    section: ModelSection, recipe_dir: Path, param_dtype: str, without_memory: bool = False
) -> PreTrainedModel:
    """The causal language model of the recipe, parameters in `param_dtype`, weights from safetensors only.

    Args:
        without_memory: on torch's meta device: everything is checked but the numbers; adapters are left out.

    Raises:
        UserError: the name is neither a folder nor a reachable Hub id, it needs remote code, its weights are pickled,
            damaged or incomplete, or it is no causal language model.
        EnvironmentProblem: a package or an accelerator that it needs is missing.
    """
    where = f"model.name_or_path: {section.name_or_path}"
    source = model_source(section, recipe_dir)
    check_source(source, where)
    adapters = () if without_memory else source.adapters
    if adapters and section.quantization is not None:
        raise UserError(
            "an adapter cannot be merged into quantized weights",
            where,
            "merge it first (sftgo merge RUN --output DIR) and give that folder",
        )
    dtype = torch_dtype("float32" if adapters else param_dtype)  # sums are made in float32
    kwargs: dict[str, Any] = {"dtype": dtype, "revision": source.revision}
    if without_memory:
        kwargs["device_map"] = "meta"
    elif section.quantization is not None:
        kwargs["quantization_config"] = _quantization_config(section)
    model = _pretrained(source.weights, section, where, kwargs)
    for adapter in adapters:
        model = _merged(model, adapter, where)
    if adapters:
        model = model.to(torch_dtype(param_dtype))
        model.config.dtype = torch_dtype(param_dtype)
        model.name_or_path = str(adapters[-1])  # what an adapter on top of it will name as its base
    if section.new_tokens:
        extend_embeddings(model, *_new_ids(section, source))
    return model


def _new_ids(section: ModelSection, source: ModelSource) -> tuple[int, list[int]]:
    """How many tokens there are with the new ones, and the ids of those."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        source.tokenizer, revision=source.tokenizer_revision, trust_remote_code=section.trust_remote_code
    )
    ids = extend_tokenizer(tokenizer, section.new_tokens or [])
    return len(tokenizer), ids


def new_token_ids(section: ModelSection, recipe_dir: Path) -> list[int]:
    """The ids of the tokens that a recipe adds."""
    return _new_ids(section, model_source(section, recipe_dir))[1] if section.new_tokens else []


def _pretrained(name: str, section: ModelSection, where: str, kwargs: dict[str, Any]) -> PreTrainedModel:
    """A whole model, with its loading report checked."""
    if section.attn_implementation is not None:
        kwargs["attn_implementation"] = section.attn_implementation
    try:
        config = model_config(name, kwargs.get("revision"), section)
        model, report = language_model_class(config, where).from_pretrained(
            name,
            use_safetensors=True,
            trust_remote_code=section.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else an error without a name; refused below
            **kwargs,
        )
    except (UserError, EnvironmentProblem):
        raise
    except Exception as error:  # transformers, safetensors and what they load raise errors without a common base
        raise load_error(section.name_or_path, where, error) from error
    try:
        model.get_input_embeddings()
    except NotImplementedError as error:  # it reads no tokens
        raise architecture_fault(config, where) from error
    check_report(report, section.name_or_path, where, {key for key, _ in model.named_parameters()})
    pretrained: PreTrainedModel = model
    return pretrained


def model_config(name: str, revision: str | None, section: ModelSection) -> PretrainedConfig:
    """The configuration of a folder or Hub id."""
    from transformers import AutoConfig

    config: PretrainedConfig = AutoConfig.from_pretrained(
        name, revision=revision, trust_remote_code=section.trust_remote_code
    )
    return config


def language_model_class(config: PretrainedConfig, where: str) -> Any:
    """The class of transformers that loads the architecture as a language model; a multimodal one is used for text.

    Raises:
        UserError: there is none.
    """
    import transformers
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        GenerationMixin,
    )

    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if (getattr(config, "is_encoder_decoder", False) and not remote) or config.model_type in NOT_REPEATABLE:
        raise architecture_fault(config, where)
    if remote or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    named = getattr(transformers, next(iter(config.architectures or []), ""), None)
    is_language_model = isinstance(named, type) and issubclass(named, GenerationMixin)
    if is_language_model and isinstance(config, getattr(named, "config_class", ())):
        return named  # the text part of a multimodal model, whose configuration the automatic classes do not know
    raise architecture_fault(config, where)


def _merged(model: PreTrainedModel, adapter: Path, where: str) -> PreTrainedModel:
    """The model with a peft adapter in its weights.

    Raises:
        UserError: the adapter does not fit the model.
    """
    import warnings

    from peft import PeftModel

    from sftgo_cli.adapter_merge import merged, quiet_about_ties

    try:
        fit_vocabulary(model, adapter)
        with quiet_about_ties():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            whole: PreTrainedModel = merged(PeftModel.from_pretrained(model, str(adapter)), where)
    except UserError:
        raise
    except Exception as error:  # peft, safetensors and torch raise errors without a common base
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        fix = "give the adapter together with the base model that it was trained on"
        raise UserError(f"the adapter in {adapter} does not fit its base model: {first}", where, fix) from error
    return whole


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
    """What identifies the base weights by content: file hashes of a folder, or the Hub commit; with the adapters'."""
    from sftgo_cli.cache import file_sha256

    source = model_source(section, recipe_dir)
    folder = Path(source.weights)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".json"})
        weights = [path for path in files if path.suffix == ".safetensors" or path.name == "config.json"]
        content: dict[str, Any] = {path.name: file_sha256(path) for path in weights}
    else:
        try:
            config = model_config(source.weights, source.revision, section)
        except (OSError, ValueError) as error:
            raise load_error(section.name_or_path, "model.name_or_path", error) from error
        content = {"hub_id": source.weights, "commit": getattr(config, "_commit_hash", None) or source.revision}
    if not source.adapters:
        return content
    return {"base": content, "adapters": [adapter_fingerprint(adapter) for adapter in source.adapters]}


def adapter_fingerprint(adapter: Path) -> dict[str, Any]:
    """What identifies an adapter by content; where its base lay on the machine that trained it is left out."""
    from sftgo_cli.cache import file_sha256

    config = adapter_config(adapter, str(adapter))
    where_from = ("base_model_name_or_path", "revision")
    return {
        "adapter_config": {key: value for key, value in config.items() if key not in where_from},
        "adapter": {path.name: file_sha256(path) for path in sorted(adapter.glob("adapter*.safetensors"))},
    }


def load_trained_model(folder: Path, section: ModelSection, recipe_dir: Path, dtype: str) -> PreTrainedModel:
    """The model of a finished run or checkpoint: a full model, or the base with the folder's adapter on it, unmerged.

    Raises:
        UserError: the folder holds neither, or what it holds is damaged.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        from peft import PeftModel
        from transformers import GenerationConfig

        from sftgo_cli.adapter_merge import quiet_about_ties

        base = load_base_model(section, recipe_dir, dtype)
        if (folder / GENERATION_CONFIG).is_file():  # where the trained turns end
            base.generation_config = GenerationConfig.from_pretrained(str(folder))
        with quiet_about_ties():
            model: PreTrainedModel = PeftModel.from_pretrained(base, str(folder))
        return model
    if not (folder / "config.json").is_file():
        raise UserError("no trained model", str(folder), "train it to the end first: sftgo train RECIPE")
    own = section.model_copy(update={"attn_implementation": None})
    return _pretrained(str(folder), own, str(folder), {"dtype": torch_dtype(dtype)})


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
    """A number from the (text) configuration in a model's folder, or None where there is none."""
    path = Path(model_source(section, recipe_dir).weights) / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    value = config.get(name)
    if value is None and isinstance(config.get("text_config"), dict):
        value = config["text_config"].get(name)
    return int(value) if isinstance(value, int | float) else None
