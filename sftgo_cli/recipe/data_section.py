"""The recipe's `data`: sources of rows, held-out sets, and how rows become tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sftgo_cli.recipe.field_types import Fraction, NonEmpty, OpenFraction, Positive, PositiveInt, SafeName
from sftgo_cli.recipe.options import StrictModel

Format = Literal[
    "auto",
    "alpaca",
    "messages",
    "sharegpt",
    "prompt_completion",
    "query_response",
    "preference",
    "text",
    "tokenized",
]
PATH = "Hub id, local file or folder, URL of a file, or builtin:NAME"
SPLIT = "Split to read, or a slice of it: train[:10%]"
SOURCE_TEMPLATE = "Chat template of this source alone, written like data.chat_template"


class SourceSection(StrictModel):
    """One data source: where its rows are and how they are read."""

    path: NonEmpty = Field(description=PATH)
    name: str | None = Field(None, description="Configuration of a Hub data set")
    split: str = Field("train", description=SPLIT)
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub")
    format: Format = Field("auto", description="Row format; auto finds it from the columns")
    columns: dict[str, str] = Field(default_factory=dict, description="Our column name: the data's column name")
    max_samples: PositiveInt | None = Field(None, description="Use at most the first N rows")
    chat_template: NonEmpty | None = Field(None, description=SOURCE_TEMPLATE)


class TrainSource(SourceSection):
    """A training source; `weight` w draws floor(w n) of its n rows each epoch (w > 1 repeats)."""

    weight: Positive = Field(1.0, description="Share of the source's rows drawn each epoch; above 1 repeats rows")


class EvalSource(StrictModel):
    """A named evaluation set: a source of its own, or a fraction held out of the training rows."""

    path: NonEmpty | None = Field(None, description=PATH)
    name: str | None = Field(None, description="Configuration of a Hub data set")
    split: str = Field("train", description=SPLIT)
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub")
    format: Format = Field("auto", description="Row format; auto finds it from the columns")
    columns: dict[str, str] = Field(default_factory=dict, description="Our column name: the data's column name")
    max_samples: PositiveInt | None = Field(None, description="Use at most the first N rows")
    chat_template: NonEmpty | None = Field(None, description=SOURCE_TEMPLATE)
    fraction: OpenFraction | None = Field(None, description="Hold out this fraction of the training rows instead")


class DataSection(StrictModel):
    """Training and evaluation rows, and how they become tokens."""

    train: list[TrainSource] = Field(min_length=1, description="Sources, mixed by weight")
    eval: dict[SafeName, EvalSource] = Field(default_factory=dict, description="Named evaluation sets")
    max_length: Annotated[int, Field(ge=2)] = Field(2048, description="Longest sample in tokens")
    on_overlong: Literal["truncate", "drop", "error"] = Field("truncate", description="What happens to longer samples")
    train_on: Literal["assistant", "completion", "all"] = Field("assistant", description="Which tokens are supervised")
    chat_template: str | None = Field(None, description="Name of a shipped template, a .jinja file, or inline Jinja")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Variables of the chat template: {enable_thinking: false}; rows may have own"
    )
    on_left_out: Literal["error", "drop", "allow"] = Field(
        "error", description="What happens to rows of whose trained answers the chat template leaves something out"
    )
    system_prompt: str | None = Field(None, description="System prompt of the conversations that have none")
    special_tokens_in_text: Literal["keep", "escape"] = Field(
        "keep", description="Special tokens that stand in the rows' own text: as such, or as plain text"
    )
    deduplicate: bool = Field(False, description="Train on equal rows once")
    on_bad_row: Literal["error", "drop"] = Field(
        "error", description="What happens to rows that cannot be read, or that the chat template refuses"
    )
    packing: bool = Field(True, description="Put several whole samples in one sequence of max_length")
    max_unsupervised_fraction: Fraction = Field(
        0.01, description="Refuse to train when more rows than this have no supervised token"
    )
