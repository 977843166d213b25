"""Full fine-tuning: every parameter is trainable, in float32 unless `param_dtype` says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SOURCE = "every parameter"


class Options(MethodOptions):
    """Recipe options of `tuning: {name: full}`."""

    param_dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of parameters and optimizer state")


def base_dtype(options: Options, compute_dtype: str) -> str:
    """The dtype in which the base model's parameters are loaded."""
    return options.param_dtype


def apply(model: PreTrainedModel, options: Options, say: Callable[[str], None] = lambda line: None) -> PreTrainedModel:
    """Make every parameter trainable.

    Raises:
        UserError: the weights are quantized.
    """
    method = getattr(model, "quantization_method", None)
    if method is not None:
        raise UserError(
            f"the model's weights are quantized ({getattr(method, 'value', method)}), which cannot be trained in full",
            "tuning.name",
            "use tuning: lora, or the model's unquantized weights",
        )
    model.requires_grad_(True)
    return model
