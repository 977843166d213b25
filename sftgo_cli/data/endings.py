"""What ends an answer: the model's end-of-sequence ids, the tokenizer's, and the end of turn that was trained.

A model that was taught a template's end of turn stops at it wherever it is used, because its `generation_config` says
so: `generate` of transformers, pipelines, vLLM and others read `eos_token_id` there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sftgo_cli.data.template_probes import open_template, stop_marker
from sftgo_cli.data.templates import ChatTemplate
from sftgo_cli.errors import UserError


@dataclass(frozen=True)
class Endings:
    """What ends an answer: token ids, and texts that are looked for in what was generated."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]


def endings(
    tokenizer: Any, template: ChatTemplate | None, model_ids: Sequence[int], more: Sequence[str] = ()
) -> Endings:
    """The end-of-sequence ids of the model's configuration, the tokenizer's, and the template's end of turn; and `more`.

    A text that is one added token of the tokenizer is that token's id.

    Raises:
        UserError: nothing ends an answer.
    """
    ids = {*model_ids, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])}
    if template is None:
        return Endings(tuple(sorted(ids)), tuple(sorted(more)))
    texts = {*more, *template.stops.values()}
    try:
        marker = stop_marker(template)
    except UserError:
        if not ids:
            raise
    else:
        found = [(marker.find(token), -len(token), token) for token in template.added_tokens if token in marker]
        texts.add(min(found)[2] if found else marker)
    vocabulary = tokenizer.get_vocab()
    added = {text for text in texts if text in template.added_tokens and text in vocabulary}
    ids |= {vocabulary[text] for text in added}
    return Endings(tuple(sorted(ids)), tuple(sorted(texts - added)))


def eos_ids(value: int | Sequence[int] | None) -> list[int]:
    """A configuration's `eos_token_id` as a list."""
    return [] if value is None else [value] if isinstance(value, int) else [int(item) for item in value]


def stop_at_end_of_turn(model: Any, tokenizer: Any, template: str | None) -> None:
    """Adds what ends a trained turn to the ids at which the model stops: `generation_config.eos_token_id`, the base
    model's own first, since that is the one that tools read where they take only one."""
    config = model.generation_config
    before = eos_ids(config.eos_token_id)
    opened = None if template is None else open_template(template, tokenizer)
    found = endings(tokenizer, opened, before)
    ids = [*before, *(token for token in found.ids if token not in before)]
    if ids:
        config.eos_token_id = ids[0] if len(ids) == 1 else ids
