"""Low-rank adapters through peft: W x + (alpha / r) B A x, with A and B trainable and W frozen.

LoRA (arXiv 2106.09685); `use_dora` decomposes weights into magnitude and direction (DoRA, arXiv 2402.09353); `use_rslora`
scales by alpha / sqrt(r) (rsLoRA, arXiv 2312.03732). Frozen weights are kept in the compute type, adapters in float32.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

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
    bias: Literal["none", "all", "lora_only"] = "none"
    use_dora: bool = Field(False, description="DoRA")
    use_rslora: bool = Field(False, description="rsLoRA")


def base_dtype(options: Options, compute_dtype: str) -> str:
    """The dtype in which the base model's (frozen) parameters are loaded."""
    return compute_dtype


def apply(model: PreTrainedModel, options: Options) -> PreTrainedModel:
    """Wrap the model in peft's LoRA; only the adapters (and `modules_to_save`) are trainable.

    Raises:
        UserError: `target_modules` matches nothing.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    from sftgo_cli.base_model import torch_dtype

    settings: dict[str, Any] = options.model_dump(exclude={"param_dtype"})
    if getattr(model, "quantization_method", None) is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    output_head = model.get_output_embeddings()
    try:
        with warnings.catch_warnings():  # an adapter on a tied head is refused below, with what to do
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
            wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    except ValueError as error:
        raise UserError(
            f"no module matches {options.target_modules!r}: {str(error).splitlines()[0]}",
            "tuning.target_modules",
            "use all-linear, or names from the model's own modules",
        ) from error
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
