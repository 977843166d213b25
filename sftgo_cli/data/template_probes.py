"""A chat template made ready: probed for the form in which it reads messages, for how a turn is opened and closed.

Nothing is looked up by a template's name or source: small conversations are rendered, and what comes out decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from sftgo_cli.data.attribution import attribute
from sftgo_cli.data.message_forms import REASONING, Conversation, MessageForms
from sftgo_cli.data.messages import Message
from sftgo_cli.data.spans import answer_spans
from sftgo_cli.data.templates import ChatTemplate, compile_template, render, render_marked, shared_prefix
from sftgo_cli.errors import UserError

QUESTION: Message = {"role": "user", "content": "Hello?"}
PROBE_ANSWER = "Good day"
ANSWER: Message = {"role": "assistant", "content": PROBE_ANSWER}
SYSTEM: Message = {"role": "system", "content": "Be brief."}
CITY = "Zqville"
ARGUMENTS = {"city": CITY}
TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Looks up a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}},
            "required": ["city"],
        },
    },
}
WHERE = "chat template, on a probe conversation"
OPENINGS: tuple[tuple[list[Message], list[dict[str, Any]] | None], ...] = (
    ([QUESTION], None),
    ([SYSTEM, QUESTION], None),
    ([QUESTION], [TOOL]),
    ([SYSTEM, QUESTION], [TOOL]),
)


def open_template(source: str, tokenizer: Any) -> ChatTemplate:
    """The template ready to render rows.

    Raises:
        UserError: it is not valid Jinja.
    """
    template = compile_template(source, tokenizer)
    template = replace(template, forms=_forms(template))
    template = replace(template, has_markers=template.has_markers and _markers_hold(template))
    template = replace(template, generation_prompt=_generation_prompt(template), openers=_openers(template))
    return replace(template, stops=_stops_at_headers(template))


def _markers_hold(template: ChatTemplate) -> bool:
    """Whether `{% generation %}` marks an answer and nothing of the question: transformers counts wrong where the markers
    stand in a macro. A template that marks too little of a turn is believed (and refused if that is its end)."""
    for opening, tools in OPENINGS:
        conversation = Conversation([*opening, ANSWER], tools)
        try:
            text, marks = render_marked(template, conversation, WHERE)
        except UserError:
            continue
        found = attribute(template, conversation, WHERE, text)
        marked = np.zeros(len(text), dtype=np.bool_)
        for start, end in marks:
            marked[start:end] = True
        messages = found.messages()
        is_answer = messages == len(opening)
        return bool(marked[is_answer].all()) and not marked[(messages >= 0) & ~is_answer].any()
    return True


def _text_of(template: ChatTemplate, messages: Sequence[Message], tools: list[dict[str, Any]] | None) -> str:
    """The rendered conversation, empty where the template refuses it."""
    try:
        return render(template, Conversation(list(messages), tools), WHERE)
    except UserError:
        return ""


def _forms(template: ChatTemplate) -> MessageForms:
    forms = MessageForms()
    answers = [[*opening, ANSWER] for opening, _ in OPENINGS]
    if not any(PROBE_ANSWER in _text_of(template, messages, None) for messages in answers):
        parts = replace(template, forms=MessageForms(content_as_parts=True))
        if any(PROBE_ANSWER in _text_of(parts, messages, None) for messages in answers):
            forms = parts.forms
    return _reasoning_form(template, _result_form(template, _call_forms(template, forms)))


def _result_form(template: ChatTemplate, forms: MessageForms) -> MessageForms:
    """Some templates read a tool's result as a list, and would write a text letter by letter."""
    tried = replace(forms, results_as_list=True)
    for text in ("", PROBE_ANSWER):
        call: Message = {"role": "assistant", "content": text, "tool_calls": [_call()]}
        messages: list[Message] = [QUESTION, call, {"role": "tool", "content": CITY}, ANSWER]
        # The city stands in the call as well.
        counts = [_text_of(replace(template, forms=form), messages, [TOOL]).count(CITY) for form in (forms, tried)]
        if max(counts) > 1:
            return tried if counts[0] < 2 else forms
    return forms


def _call() -> dict[str, Any]:
    return {"type": "function", "function": {"name": "lookup", "arguments": ARGUMENTS}}


def _reasoning_form(template: ChatTemplate, forms: MessageForms) -> MessageForms:
    message = {**ANSWER, REASONING: CITY}
    as_part = replace(forms, reasoning_as_part=True)
    if CITY in _text_of(replace(template, forms=forms), [QUESTION, message], None):
        return forms
    written = _text_of(replace(template, forms=as_part), [QUESTION, message], None)
    # A template that prints its content as it comes would print the list of parts.
    is_list = "'type'" in written or '"type"' in written
    return as_part if CITY in written and PROBE_ANSWER in written and not is_list else forms


def _call_forms(template: ChatTemplate, forms: MessageForms) -> MessageForms:
    """The first form in which a call's arguments reach the text as they should; the plainest where none does."""
    call: Message = {"role": "assistant", "content": "", "tool_calls": [_call()]}
    talking = {**call, "content": PROBE_ANSWER}
    answered = [{"role": "tool", "content": "42"}, ANSWER]
    for messages in (
        [QUESTION, call, *answered],
        [SYSTEM, QUESTION, call, *answered],
        [QUESTION, call],
        [QUESTION, talking, *answered],
    ):
        for null, as_text, short_ids, named in sorted(product((False, True), repeat=4), key=sum):
            tried = replace(
                forms, null_content=null, arguments_as_text=as_text, short_call_ids=short_ids, named_tools=named
            )
            text = _text_of(replace(template, forms=tried), messages, [TOOL])
            # Python's own form of an object, and JSON text inside of JSON: nothing that a model should learn to write.
            if CITY in text and "{'city'" not in text and '\\"city\\"' not in text:
                return tried
    return forms


def _generation_prompt(template: ChatTemplate) -> str:
    for messages, tools in OPENINGS:
        conversation = Conversation(messages, tools)
        try:
            closed = render(template, conversation, WHERE)
            opened = render(template, conversation, WHERE, prompt=True)
        except UserError:
            continue
        return opened[shared_prefix(closed, opened, template.added_tokens) :]
    return ""


def _openers(template: ChatTemplate) -> frozenset[str]:
    """The added tokens with which a conversation begins, after the bos token: those that open a header."""
    bos = str(template.variables.get("bos_token") or "")
    texts = [_text_of(template, opening, tools).strip().removeprefix(bos).lstrip() for opening, tools in OPENINGS]
    return frozenset(token for token in template.added_tokens if any(text.startswith(token) for text in texts))


def _stops_at_headers(template: ChatTemplate) -> dict[str, str]:
    """The tokens that end a turn, by the role that follows, for templates that write none after the last answer: its
    end of turn comes with the next message only (Qwen1.5), or is the next header's own token (GLM-4)."""
    if template.has_markers or _after_answer(template, [], None).strip():
        return {}
    stops = {}
    for role, following in (("user", QUESTION), ("tool", {"role": "tool", "content": "42"})):
        tools = [TOOL] if role == "tool" else None
        alone, gap = _after_answer(template, [], tools), _after_answer(template, [following], tools)
        header = gap[shared_prefix(alone, gap, template.added_tokens) :].strip()
        token = next((token for token in template.added_tokens if header.startswith(token)), None)
        # A token that opens every header, the assistant's as well, cannot tell a stop from a start.
        opens_all = token in template.openers and template.generation_prompt.strip().startswith(token or "")
        if token is not None and not opens_all:
            stops[role] = token
    return stops if "user" in stops else {}


def _after_answer(template: ChatTemplate, following: list[Message], tools: list[dict[str, Any]] | None) -> str:
    """What the template writes after an answer and before the text of the message that follows."""
    answer = {**ANSWER, "tool_calls": [_call()]} if tools else ANSWER
    for opening, _ in OPENINGS[:2]:
        messages = [*opening, answer, *following]
        try:
            found = attribute(template, Conversation(messages, tools), WHERE)
        except UserError:
            continue
        own = found.places_of(len(opening))
        if len(own):
            end = int(own[-1]) + 1
            later = found.places_of(len(opening) + 1)
            return found.text[end : int(later[0]) if len(later) else len(found.text)]
    return ""


def prompt_note(template: ChatTemplate) -> str | None:
    """A sentence where the prompt at inference is unlike the text in training, or None."""
    for opening, tools in OPENINGS:
        try:
            prompt = render(template, Conversation(opening, tools), WHERE, prompt=True)
            text = render(template, Conversation([*opening, ANSWER], tools), WHERE)
        except UserError:
            continue
        added = prompt[shared_prefix(prompt, text, template.added_tokens) :]
        if not added.strip():
            return None
        return (
            f"At inference the chat template ends the prompt with {added!r}, which it does not write before an answer "
            "in training; data.chat_template_kwargs (enable_thinking, ...) may change that."
        )
    return None


def stop_marker(template: ChatTemplate) -> str:
    """What ends an assistant turn under this template, after checking that its first token is trained.

    Raises:
        UserError: the template refuses every simple conversation, writes no end of turn, or leaves it out of what is
            trained.
    """
    if template.stops:
        return template.stops["user"]
    refused: UserError | None = None
    for opening, tools in OPENINGS:
        try:
            text, spans = answer_spans(template, Conversation([*opening, ANSWER], tools), [len(opening)], WHERE)
        except UserError as error:
            refused = refused or error
            continue
        return _checked_stop(template, text, spans[len(opening)])
    raise refused or UserError("the chat template writes no answer", WHERE, "choose another data.chat_template")


def _checked_stop(template: ChatTemplate, text: str, spans: Sequence[tuple[int, int]]) -> str:
    found = text.rfind(PROBE_ANSWER)
    if found < 0:
        raise UserError("the chat template leaves out the assistant's text", WHERE, "choose another data.chat_template")
    tail = text[found + len(PROBE_ANSWER) :]
    if spans and not template.has_markers:
        tail = text[found + len(PROBE_ANSWER) : spans[-1][1]]  # without the header of a turn that never comes
    marker = tail.strip()
    if not marker:
        raise UserError(
            "the template never trains its stop token: it writes nothing after the assistant's text",
            WHERE,
            "write eos_token or an end-of-turn token after the answer",
        )
    positions = [(marker.find(token), -len(token)) for token in template.added_tokens if token in marker]
    first, length = min(positions, default=(0, -len(marker)))
    end = found + len(PROBE_ANSWER) + tail.find(marker) + first - length
    trained = {position for start, stop in spans for position in range(start, stop)}
    if not trained.issuperset(range(found, end)):
        raise UserError(
            f"the template never trains its stop token {marker[first : first - length]!r}",
            WHERE,
            "move it inside {% generation %} ... {% endgeneration %}",
        )
    return marker
