"""Chat templates: which one applies, what a template is given, and rendering it.

`data.chat_template` is null (the tokenizer's own, if it has one), the name of one of the tokenizer's own templates, the
name of a template shipped here, a Jinja file, or inline Jinja. Templates are compiled by transformers (its sandbox,
filters and `{% generation %}`), so one sees what it sees everywhere else. They are rendered here and not through
`render_jinja_template`: since transformers 5.23 that turns every variable into plain JSON types, and `strftime_now`, a
function, would arrive as a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sftgo_cli.data.message_forms import PLAIN, Conversation, MessageForms, formed
from sftgo_cli.errors import UserError, nearest
from sftgo_cli.recipe.data_section import DataSection

if TYPE_CHECKING:
    from jinja2 import Template

    from sftgo_cli.data.skeletons import Skeleton

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
DEFAULT_NAME, TOOL_NAME = "default", "tool_use"  # what transformers calls a tokenizer's templates
GENERATION_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
JINJA_SUFFIXES = (".jinja", ".jinja2", ".j2")


@dataclass(frozen=True)
class ChatTemplate:
    """A template ready to render. `added_tokens` are the tokenizer's whole-string tokens, longest first;
    `generation_prompt` is the text that opens an assistant turn, empty where the template has none; `literals` are the
    texts that stand in the template itself; `end_of_turn` closes a turn; `cuts` and `skeletons` remember where turns
    begin and end. `stops`: by the role that would follow, the token that ends the last turn, where the template itself
    writes none there."""

    source: str
    variables: Mapping[str, Any]
    added_tokens: tuple[str, ...]
    has_markers: bool
    literals: frozenset[str]
    generation_prompt: str = ""
    forms: MessageForms = PLAIN
    end_of_turn: str = ""
    openers: frozenset[str] = frozenset()  # added tokens that open a header
    stops: Mapping[str, str] = field(default_factory=dict)
    cuts: dict[tuple[object, ...], int] = field(default_factory=dict, compare=False)
    skeletons: dict[tuple[object, ...], Skeleton] = field(default_factory=dict, compare=False)


def named_templates(tokenizer: Any) -> dict[str, str]:
    """The tokenizer's own templates by name; the only one is called `default`."""
    own = getattr(tokenizer, "chat_template", None)
    if not own:
        return {}
    return {str(name): str(text) for name, text in own.items()} if isinstance(own, dict) else {DEFAULT_NAME: str(own)}


def resolve_chat_template(choice: str | None, tokenizer: Any, recipe_dir: Path) -> str | None:
    """The Jinja source for `data.chat_template`, or None where there is no template at all.

    Raises:
        UserError: neither a name of the tokenizer's templates or of a shipped one, nor a file, nor Jinja.
    """
    own = named_templates(tokenizer)
    if choice is None:
        return own.get(DEFAULT_NAME) or next(iter(own.values()), None)
    if "{{" in choice or "{%" in choice:
        return choice
    if choice in own:
        return own[choice]
    if choice in SHIPPED:
        return SHIPPED[choice]
    path = recipe_dir / Path(choice).expanduser()
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the chat template: {error}", str(path), "give a UTF-8 text file") from error
    known = list(dict.fromkeys([*own, *SHIPPED]))
    names = [*known, *(file.name for suffix in JINJA_SUFFIXES for file in recipe_dir.glob(f"*{suffix}"))]
    close = nearest(choice, names)
    fix = f"did you mean {close}?" if close else f"name one of {', '.join(known)}, a .jinja file, or write it inline"
    raise UserError(f"no chat template {choice!r}", "data.chat_template", fix)


def chosen_template(data: DataSection, tokenizer: Any, recipe_dir: Path, choice: str | None = None) -> str | None:
    """The Jinja source for a recipe's rows, its `data.chat_template_kwargs` as defaults of the template's variables, or
    None where there is no template at all. `choice` is a source's own instead of `data.chat_template`.

    Raises:
        UserError: as `resolve_chat_template`, or a variable has no name that a template can read.
    """
    source = resolve_chat_template(choice or data.chat_template, tokenizer, recipe_dir)
    return None if source is None else _defaults(data.chat_template_kwargs) + source


def _defaults(variables: Mapping[str, Any]) -> str:
    """Jinja that sets each variable where the caller gives none: so a run's own template holds them wherever it is used,
    and a row or a request can still say otherwise."""
    for name in variables:
        if not name.isidentifier() or name in ("messages", "tools", "add_generation_prompt"):
            raise UserError(
                f"{name!r} is no variable of a chat template", "data.chat_template_kwargs", "name one that it reads"
            )
    return "".join(
        f"{{%- set {name} = {name} if {name} is defined else {_jinja(value)} -%}}" for name, value in variables.items()
    )


def _jinja(value: Any) -> str:
    """A plain value as a Jinja expression."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_jinja(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_jinja, value)) + "]"
    return "none" if value is None else json.dumps(value)


def tool_template(source: str, tokenizer: Any) -> str | None:
    """The tokenizer's own template for rows with tools, if it has one besides the default that `source` is."""
    own = named_templates(tokenizer)
    default = own.get(DEFAULT_NAME)
    if default is None or TOOL_NAME not in own or not source.endswith(default):
        return None
    return source.removesuffix(default) + own[TOOL_NAME]


def saved_templates(source: str, tokenizer: Any) -> str | dict[str, str]:
    """What a run's tokenizer is saved with: the template of the run, and beside it the one for rows with tools."""
    tools = tool_template(source, tokenizer)
    return source if tools is None else {DEFAULT_NAME: source, TOOL_NAME: tools}


def compile_template(source: str, tokenizer: Any) -> ChatTemplate:
    """The template with what it needs from the tokenizer, not yet probed.

    Raises:
        UserError: it is not valid Jinja.
    """
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    return ChatTemplate(
        source=source,
        variables=dict(tokenizer.special_tokens_map),
        added_tokens=tuple(sorted((token for token in added if token), key=len, reverse=True)),
        has_markers=bool(GENERATION_MARKER.search(source)),
        literals=_literals(source),
    )


def _compiled(source: str) -> Template:
    from jinja2 import TemplateSyntaxError
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        compiled: Template = _compile_jinja_template(source)
    except TemplateSyntaxError as error:
        raise UserError(
            f"the chat template is not valid Jinja: {error.message}", f"chat template:{error.lineno}", "correct it"
        ) from error
    return compiled


def _literals(source: str) -> frozenset[str]:
    """The string constants of the template's expressions, which it may look for in a message's text."""
    from jinja2 import nodes

    tree = _compiled(source).environment.parse(source)
    return frozenset(node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))


def render(template: ChatTemplate, conversation: Conversation, where: str, prompt: bool = False) -> str:
    """The conversation as text; with `prompt` it ends with the opening of an assistant turn.

    Raises:
        UserError: the template refuses the conversation or fails on it.
    """
    compiled = _compiled(template.source)
    return _guarded(lambda: compiled.render(**_context(template, formed(template.forms, conversation), prompt)), where)


def render_marked(template: ChatTemplate, conversation: Conversation, where: str) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as text and the character spans that `{% generation %}` marks.

    Raises:
        UserError: as `render`.
    """
    from transformers.utils.chat_template_utils import _render_with_assistant_indices

    compiled = _compiled(template.source)
    context = _context(template, formed(template.forms, conversation), prompt=False)
    # tools and documents are arguments of their own there
    text, spans = _guarded(
        lambda: _render_with_assistant_indices(compiled_template=compiled, **{"documents": None, **context}), where
    )
    return str(text), [(int(start), int(end)) for start, end in spans]


def _context(template: ChatTemplate, conversation: Conversation, prompt: bool) -> dict[str, Any]:
    return {
        "strftime_now": fixed_date,
        **template.variables,
        **conversation.variables,
        "messages": conversation.messages,
        "tools": conversation.tools,
        "add_generation_prompt": prompt,
    }


Rendered = TypeVar("Rendered")


def _guarded(rendered: Callable[[], Rendered], where: str) -> Rendered:
    try:
        return rendered()
    except Exception as error:  # a template is a program of its own: whatever it raises is about the user's input
        raise UserError(
            f"the chat template fails: {error}", where, "change the messages, or choose another data.chat_template"
        ) from error


def fixed_date(pattern: str) -> str:
    """What templates that write today's date (Llama 3) get: always 26 July 2024, which is Llama 3's own default.

    The clock would make equal data differ from day to day, under an unchanged cache key.
    """
    return datetime(2024, 7, 26, tzinfo=UTC).strftime(pattern)


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
