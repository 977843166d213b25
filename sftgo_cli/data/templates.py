"""Chat templates: which one applies, rendering it, and whether it trains its stop token.

`data.chat_template` is null (the tokenizer's own, if it has one), the name of a template shipped here, a Jinja file, or
inline Jinja. Rendering goes through transformers' sandboxed renderer, so a template sees what it sees everywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sftgo_cli.data.messages import Message
from sftgo_cli.errors import UserError, nearest

SHIPPED: dict[str, str] = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
        "{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token | default('', true) }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] | trim + '<|eot_id|>' }}"
        "{% endgeneration %}{% else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    # Plain headers and the tokenizer's own eos token: for base models without chat tokens.
    "plain": (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '### Assistant:\\n' }}"
        "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\\n' }}"
        "{% else %}{{ '### ' + message['role'] | capitalize + ':\\n' + message['content'] + '\\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
    ),
}
GENERATION_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What a message may hold besides text, and the names under which a template can read it.
BESIDES_TEXT: dict[str, tuple[str, ...]] = {
    "tool_calls": ("tool_calls",),
    "reasoning_content": ("reasoning_content", "thinking", "reasoning"),
}
PROBE_QUESTION: Message = {"role": "user", "content": "Hello?"}
JINJA_SUFFIXES = (".jinja", ".jinja2", ".j2")


@dataclass(frozen=True)
class ChatTemplate:
    """A template ready to render. `added_tokens` are the tokenizer's whole-string tokens, longest first;
    `generation_prompt` is the text that opens an assistant turn, empty where the template has none."""

    source: str
    variables: dict[str, Any]
    added_tokens: tuple[str, ...]
    has_markers: bool
    generation_prompt: str


def resolve_chat_template(choice: str | None, tokenizer: Any, recipe_dir: Path) -> str | None:
    """The Jinja source for `data.chat_template`, or None where there is no template at all.

    Raises:
        UserError: neither a shipped name, nor a file, nor Jinja.
    """
    if choice is None:
        own = getattr(tokenizer, "chat_template", None)
        if isinstance(own, dict):
            return str(own["default"]) if "default" in own else None
        return None if not own else str(own)
    if "{{" in choice or "{%" in choice:
        return choice
    if choice in SHIPPED:
        return SHIPPED[choice]
    path = recipe_dir / Path(choice).expanduser()
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the chat template: {error}", str(path), "give a UTF-8 text file") from error
    names = [*SHIPPED, *(file.name for suffix in JINJA_SUFFIXES for file in recipe_dir.glob(f"*{suffix}"))]
    close = nearest(choice, names)
    fix = f"did you mean {close}?" if close else f"name one of {', '.join(SHIPPED)}, a .jinja file, or write it inline"
    raise UserError(f"no chat template {choice!r}", "data.chat_template", fix)


def open_template(source: str, tokenizer: Any) -> ChatTemplate:
    """The template with what it needs from the tokenizer; its generation prompt is found by rendering a question.

    Raises:
        UserError: it is not valid Jinja.
    """
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    template = ChatTemplate(
        source=source,
        variables=dict(tokenizer.special_tokens_map),
        added_tokens=tuple(sorted((token for token in added if token), key=len, reverse=True)),
        has_markers=bool(GENERATION_MARKER.search(source)),
        generation_prompt="",
    )
    _compile(source)
    return ChatTemplate(**{**vars(template), "generation_prompt": _generation_prompt(template)})


def _compile(source: str) -> None:
    from jinja2 import TemplateSyntaxError
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        _compile_jinja_template(source)
    except TemplateSyntaxError as error:
        raise UserError(
            f"the chat template is not valid Jinja: {error.message}", f"chat template:{error.lineno}", "correct it"
        ) from error


def writes(template: ChatTemplate, field: str) -> bool:
    """Whether the template reads a message's `field` at all; a template that does not leaves it out of the text."""
    return any(name in template.source for name in BESIDES_TEXT[field])


def has_answer(template: ChatTemplate, message: Message) -> bool:
    """Whether an assistant message says anything that the template writes: text, a tool call or reasoning."""
    if message["content"].strip():
        return True
    return any(message.get(field) and writes(template, field) for field in BESIDES_TEXT)


def left_out(template: ChatTemplate, messages: list[Message], tools: list[dict[str, Any]] | None) -> set[str]:
    """What the conversation holds and the template never writes: `tools`, `tool_calls`, `reasoning_content`."""
    found = {field for field in BESIDES_TEXT if any(message.get(field) for message in messages)}
    silent = {field for field in found if not writes(template, field)}
    return silent | ({"tools"} if tools and "tools" not in template.source else set())


def render(
    template: ChatTemplate,
    messages: list[Message],
    tools: list[dict[str, Any]] | None,
    where: str,
    prompt: bool = False,
) -> str:
    """The conversation as text; with `prompt` it ends with the opening of an assistant turn.

    Raises:
        UserError: the template refuses the conversation or fails on it.
    """
    return _render(template, messages, tools, where, prompt=prompt, marks=False)[0]


def render_marked(
    template: ChatTemplate, messages: list[Message], tools: list[dict[str, Any]] | None, where: str
) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as text and the character spans that `{% generation %}` marks.

    Raises:
        UserError: as `render`.
    """
    return _render(template, messages, tools, where, prompt=False, marks=True)


def _render(
    template: ChatTemplate,
    messages: list[Message],
    tools: list[dict[str, Any]] | None,
    where: str,
    prompt: bool,
    marks: bool,
) -> tuple[str, list[tuple[int, int]]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, spans = render_jinja_template(
            [messages],
            tools=tools,
            chat_template=template.source,
            return_assistant_tokens_mask=marks,
            add_generation_prompt=prompt,
            **{"strftime_now": fixed_date, **template.variables},
        )
    except Exception as error:  # a template is a program of its own: whatever it raises is about the user's input
        raise UserError(
            f"the chat template fails: {error}", where, "change the messages, or choose another data.chat_template"
        ) from error
    return texts[0], [(int(start), int(end)) for start, end in spans[0]] if marks else []


def fixed_date(pattern: str) -> str:
    """What templates that write today's date (Llama 3) get: always 26 July 2024, which is Llama 3's own default.

    The clock would make equal data differ from day to day, under an unchanged cache key.
    """
    return datetime(2024, 7, 26, tzinfo=UTC).strftime(pattern)


def _generation_prompt(template: ChatTemplate) -> str:
    for opening in ([PROBE_QUESTION], [{"role": "system", "content": "Be brief."}, PROBE_QUESTION]):
        try:
            closed = render(template, opening, None, "probe")
            opened = render(template, opening, None, "probe", prompt=True)
        except UserError:
            continue
        return opened[shared_prefix(closed, opened, template.added_tokens) :]
    return ""


def shared_prefix(first: str, second: str, added_tokens: tuple[str, ...]) -> int:
    """Length of the common start of two texts, moved back where it would cut one of the added tokens of either."""
    length = min(len(first), len(second))
    if first[:length] != second[:length]:
        length = next(i for i in range(length) if first[i] != second[i])
    return min(_uncut(first, length, added_tokens), _uncut(second, length, added_tokens))


def _uncut(text: str, position: int, added_tokens: tuple[str, ...]) -> int:
    for token in added_tokens:
        for start in range(max(0, position - len(token) + 1), position):
            if text.startswith(token, start):
                return start
    return position
