"""Requests for answers -> prompts as token ids, and what ends an answer: both by the chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sftgo_cli.curation.questions import Request
from sftgo_cli.data.endings import Endings, endings, eos_ids
from sftgo_cli.data.message_forms import Conversation
from sftgo_cli.data.rendering import LONE_SURROGATE
from sftgo_cli.data.template_probes import open_template
from sftgo_cli.data.templates import render
from sftgo_cli.data.tokenization import make_encoder
from sftgo_cli.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from sftgo_cli.curation.decoding import Prompt
    from sftgo_cli.recipe.model_section import ModelSection

EXTRA_TOKENS = 8  # a stop text may begin inside a token, and tokens may write nothing


def configured_endings(
    config: Any, name: str, revision: str | None, tokenizer: Any, template: str, more: Sequence[str]
) -> Endings:
    """What ends an answer of a model: `endings` with the ids of its configuration and generation_config.

    Args:
        config: the model's text configuration.
        name: the folder or Hub id of the model.

    Raises:
        UserError: nothing ends an answer.
    """
    from transformers import GenerationConfig

    configured = [config]
    with suppress(OSError):  # the model has none
        configured.append(GenerationConfig.from_pretrained(name, revision=revision))
    ids = [token for one in configured for token in eos_ids(getattr(one, "eos_token_id", None))]
    return endings(tokenizer, open_template(template, tokenizer), ids, more)


def text_configuration(section: ModelSection, section_dir: Path, where: str) -> Any:
    """A model's configuration, of the language model in one of several parts; nothing of its weights is read.

    Raises:
        UserError: it has none that can be read.
    """
    from transformers import AutoConfig

    from sftgo_cli.base_model import resolve_name

    name = resolve_name(section.name_or_path, section_dir)
    try:
        return AutoConfig.from_pretrained(
            name, revision=section.revision, trust_remote_code=section.trust_remote_code
        ).get_text_config()
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(f"the model has no readable configuration: {first}", where, "check the name") from error


def text_end(tokenizer: Any, texts: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
    """Whether one of the texts stands at the end of generated ids; None without texts."""
    if not texts:
        return None
    longest = max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    longest = max(longest, *(len(text) for text in texts)) + EXTRA_TOKENS  # a token may be one character

    def is_end(ids: Sequence[int]) -> bool:
        tail = tokenizer.decode(ids[-longest:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return any(text in tail for text in texts)

    return is_end


def answer_text(tokenizer: Any, ids: Sequence[int], ends: Endings) -> str:
    """What was said: without the end of turn, special tokens and the white space around it."""
    kept = ids[:-1] if ids and ids[-1] in ends.ids else ids
    text = str(tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    for end in ends.texts:
        text = text.partition(end)[0]
    return text.strip()


def prompts_of(
    wanted: Sequence[Request],
    tokenizer: Any,
    template: str,
    max_new_tokens: int,
    context: int | None,
    vocabulary: int | None,
    on_no_room: Callable[[int], None] | None = None,
) -> list[Prompt]:
    """What is wanted as prompts, numbered as it stands, BOS exactly once, with the opening of an assistant turn.

    Args:
        context: the most tokens that the model can read; an answer that meets it is cut there.
        vocabulary: how many token ids the model knows.
        on_no_room: is told the number of a prompt that leaves no room for an answer, which is then left out.

    Raises:
        UserError: the template fails on a conversation, a prompt leaves no room for an answer, or holds an id that the
            model does not know; names the row.
    """
    from sftgo_cli.curation.decoding import Prompt

    encoder, opened = make_encoder(tokenizer), open_template(template, tokenizer)
    prompts = []
    for number, request in enumerate(wanted):
        question = request.question
        tools = question.tools if request.messages == question.messages else None
        text = render(opened, Conversation(request.messages, tools), question.where, prompt=True)
        text = LONE_SURROGATE.sub("\ufffd", text)  # as in training: no tokenizer can encode one
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if encoder.bos_id is not None and ids[:1] != [encoder.bos_id]:
            ids = [encoder.bos_id, *ids]
        room = max_new_tokens if context is None else min(max_new_tokens, context - len(ids))
        if room < 1:
            if on_no_room is not None:
                on_no_room(number)
                continue
            raise UserError(
                f"the prompt has {len(ids)} tokens, the model's context is {context}: no room for an answer",
                question.where,
                "shorten or drop the row, or use a model with a longer context",
            )
        if vocabulary is not None and max(ids) >= vocabulary:
            raise UserError(
                f"the prompt holds token {max(ids)}, the model knows {vocabulary}",
                question.where,
                "use a tokenizer that fits the model",
            )
        prompts.append(Prompt(number, tuple(ids), request.seed, room))
    return prompts
