"""Low-rank adapters through peft: W x + (alpha / r) B A x, with A and B trainable and W frozen.

LoRA (arXiv 2106.09685); `use_dora` decomposes weights into magnitude and direction (DoRA, arXiv 2402.09353); `use_rslora`
scales by alpha / sqrt(r) (rsLoRA, arXiv 2312.03732). Frozen weights are kept in the compute type, adapters in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions
from sftgo_cli.tuning.lora_targets import check_names, chosen_targets, experts_reason

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SOURCE = "arXiv 2106.09685, through peft"


class Options(MethodOptions):
    """Recipe options of `tuning: {name: lora}`, named as in peft's LoraConfig."""

    default_learning_rate: ClassVar[float] = 1e-4

    param_dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of the adapters")
    r: Annotated[int, Field(gt=0)] = Field(16, description="Rank")
    lora_alpha: Annotated[float, Field(gt=0)] = Field(32, description="Scale is lora_alpha / r")
    lora_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.05, description="Dropout before A")
    target_modules: str | list[str] = Field("all-linear", description="Names, a regular expression, or all-linear")
    modules_to_save: list[str] | None = Field(None, description="Modules trained whole beside the adapters")
    bias: Literal["none", "all", "lora_only"] = Field("none", description="Biases that are trained too")
    use_dora: bool = Field(False, description="DoRA")
    use_rslora: bool = Field(False, description="rsLoRA")


def base_dtype(options: Options, compute_dtype: str) -> str:
    """The dtype in which the base model's (frozen) parameters are loaded."""
    return compute_dtype


def apply(model: PreTrainedModel, options: Options, say: Callable[[str], None] = lambda line: None) -> PreTrainedModel:
    """Wrap the model in peft's LoRA; only the adapters (and `modules_to_save`) are trainable.

    Args:
        say: gets one line about what the defaults leave out in this model.

    Raises:
        UserError: a name among `target_modules` or `modules_to_save` is no module of the model, or cannot be adapted.
    """
    from peft import prepare_model_for_kbit_training

    from sftgo_cli.base_model import torch_dtype

    targets = chosen_targets(model, options.target_modules)
    names = [name for name, _ in model.named_modules() if name]
    check_names(names, options.modules_to_save or [], "tuning.modules_to_save")
    for line in targets.notes:
        say(line)
    settings: dict[str, Any] = options.model_dump(exclude={"param_dtype"})
    settings |= {"target_modules": targets.modules, "exclude_modules": targets.excluded or None}
    if getattr(model, "quantization_method", None) is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    output_head = model.get_output_embeddings()
    wrapped = _wrapped(model, settings, options, say)
    if wrapped.get_base_model().get_output_embeddings() is not output_head:
        # The loss is computed inside the head's own forward (losses/head.py); a wrapper around it would never train.
        raise UserError(
            "an adapter on the language-model head would not be trained",
            "tuning.target_modules or tuning.modules_to_save",
            "leave the head out (all-linear does), or use tuning: full",
        )
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch_dtype(options.param_dtype))
    return wrapped


def _wrapped(model: Any, settings: dict[str, Any], options: Options, say: Callable[[str], None]) -> Any:
    """The model in peft's wrapper; without the default dropout where experts are one parameter, which takes none."""
    from peft import LoraConfig, get_peft_model

    try:
        with warnings.catch_warnings():  # an adapter on a tied head is refused, with what to do
            warnings.filterwarnings(
                "ignore", message="Model (has|with) `tie_word_embeddings=True`", category=UserWarning
            )
            warnings.filterwarnings(
                "ignore", message="The following (rank|alpha)_pattern keys", category=RuntimeWarning
            )
            return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    except ValueError as error:
        if "ParamWrapper" not in str(error):
            reason = str(error).splitlines()[0]
            raise UserError(f"peft refuses these targets: {reason}", "tuning.target_modules", "change them") from error
        if "lora_dropout" not in str(error) or "lora_dropout" in options.model_fields_set:
            raise experts_reason(error, options) from error
    say("tuning.lora_dropout: 0, because the experts of this model are one parameter, which takes no dropout")
    plain = Options.model_validate({"lora_dropout": 0.0})
    return _wrapped(_without_adapters(model), {**settings, "lora_dropout": 0.0}, plain, say)


def _without_adapters(model: Any) -> Any:
    """The model as it was before peft stopped halfway."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    model.__dict__.pop("peft_config", None)
    return model
