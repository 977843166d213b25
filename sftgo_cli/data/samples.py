"""What a checked row holds: a `Sample`, whose body says how it becomes text.

`ChatBody` (messages for a chat template), `PairBody` (one prompt and one response, with the text they give without a
template), `TextBody`, `TokenBody` (already tokenized).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sftgo_cli.data.messages import Message
from sftgo_cli.data.segments import Segment


@dataclass(frozen=True)
class ChatBody:
    """Messages for a chat template. Those before `first_answer` are prompt; `weights` is one per message; `segments`
    are those of the assistant messages that have some."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    first_answer: int = 0
    weights: list[float] | None = None
    segments: dict[int, tuple[Segment, ...]] = field(default_factory=dict)
    template_kwargs: dict[str, Any] = field(default_factory=dict)  # the row's own variables of the chat template


@dataclass(frozen=True)
class PairBody:
    """One prompt and its response; `plain_prompt` is the text before the response where there is no chat template;
    `segments` are those of the response, if it came in some."""

    prompt: str
    response: str
    plain_prompt: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class TextBody:
    """Text that is supervised as a whole."""

    text: str


@dataclass(frozen=True)
class TokenBody:
    """Tokens as they are; `labels` None supervises all. `keep` marks the tokens that are not padding."""

    input_ids: list[int]
    labels: list[int] | None
    keep: list[bool] | None


@dataclass(frozen=True)
class Sample:
    """One checked row. `token_weights` and `token_columns` are the user's own lists, one value per token of the row;
    `row_columns` are the user's own numbers, one per row."""

    row_id: str
    where: str
    body: ChatBody | PairBody | TextBody | TokenBody
    loss_weight: float | None = None
    token_weights: list[float] | None = None
    token_columns: dict[str, list[float]] = field(default_factory=dict)
    row_columns: dict[str, float] = field(default_factory=dict)
    unknown_keys: frozenset[str] = frozenset()  # of its messages: nothing here reads them, the template may
    noticed: frozenset[str] = frozenset()  # what a person should hear about rows like it
    row_key: int = 0  # see row_keys.py
    prompt_key: int = 0
