"""The recipe's `model`: which base model, at which revision, in which compute type."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sftgo_cli.recipe.field_types import NonEmpty
from sftgo_cli.recipe.options import StrictModel


class ModelSection(StrictModel):
    """Which base model, at which revision, in which compute type."""

    name_or_path: NonEmpty = Field(
        description="Hub id, builtin:tiny, or the folder of a model, an adapter, a run or its checkpoint"
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("bfloat16", description="Compute type")
    attn_implementation: str | None = Field(
        None, description="sdpa, eager, flash_attention_2, ...; null lets it choose"
    )
    trust_remote_code: bool = Field(False, description="Run code that comes with the model")
    new_tokens: list[NonEmpty] | None = Field(
        None, description="Tokens to add to tokenizer, embedding and head; under LoRA their rows are trained"
    )
    quantization: Literal["nf4", "fp4", "int8"] | None = Field(
        None, description="Load the frozen base weights quantized (QLoRA); needs the extra `quantization`"
    )
