"""A checked sample becomes text with weighted spans of supervised characters.

With a chat template alpaca and prompt/completion rows become a user and an assistant message. Without one, their plain
text is the prompt, directly followed by the response and the tokenizer's eos token; messages then are refused. `text`
rows are supervised whole and end with eos. `train_on: assistant` supervises the assistant's messages, `completion` only
the last of them, `all` everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sftgo_cli.data.attribution import Attribution
from sftgo_cli.data.left_out import LeftOut, left_out
from sftgo_cli.data.message_forms import Conversation, reasoning_of
from sftgo_cli.data.messages import Message
from sftgo_cli.data.samples import ChatBody, PairBody, Sample, TextBody
from sftgo_cli.data.segments import GivenGroups, Segment, Stretch, cuts_within, joined
from sftgo_cli.data.skeletons import known_turns, remember
from sftgo_cli.data.spans import ROLES, Span, attributed_spans, content_span, message_regions
from sftgo_cli.data.template_probes import open_template, prompt_note, stop_marker
from sftgo_cli.data.templates import ChatTemplate, tool_template
from sftgo_cli.errors import UserError

TrainOn = Literal["assistant", "completion", "all"]
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
EMPTY_ANSWER = "empty_answer"
NO_ANSWER = "no_supervised_token"


@dataclass(frozen=True)
class Rendered:
    """A row's text and its supervised character spans `(start, end, weight)`; `end_marker` closes a turn there;
    `left_out` names what the row holds and the chat template does not write. `segmented` are the turns that are cut
    into segments; `given` asks for groups, `roles` says whose the characters are where these come from roles."""

    sample: Sample
    text: str
    spans: list[tuple[int, int, float]]
    end_marker: str
    left_out: tuple[LeftOut, ...] = ()
    segmented: list[tuple[Stretch, list[Segment]]] = field(default_factory=list)
    given: GivenGroups | None = None
    roles: tuple[Stretch, list[str]] | None = None


@dataclass(frozen=True)
class Renderer:
    """How the rows of a run become text: the template (None: plain text), the one for rows with tools, its end of turn,
    what is supervised, and which groups the rows themselves give. `notes` are sentences about the template."""

    template: ChatTemplate | None
    end_marker: str
    eos_token: str | None
    train_on: TrainOn
    given: GivenGroups | None = None
    tool_template: ChatTemplate | None = None
    notes: tuple[str, ...] = ()


def make_renderer(
    template_source: str | None,
    tokenizer: Any,
    train_on: TrainOn,
    given: GivenGroups | None = None,
) -> Renderer:
    """The renderer for a template's source (None: rows without a template); see `chosen_template`.

    Raises:
        UserError: the template is not valid, fails on a simple conversation, or never trains its stop token.
    """
    if template_source is None:
        return Renderer(None, tokenizer.eos_token or "", tokenizer.eos_token, train_on, given)
    template = _ready(template_source, tokenizer)
    own = tool_template(template_source, tokenizer)
    tools = None if own is None else _ready(own, tokenizer)
    note = prompt_note(template)
    notes = () if note is None else (note,)
    return Renderer(template, template.end_of_turn, tokenizer.eos_token, train_on, given, tools, notes)


def _ready(source: str, tokenizer: Any) -> ChatTemplate:
    template = open_template(source, tokenizer)
    return replace(template, end_of_turn=stop_marker(template))


def render_sample(sample: Sample, renderer: Renderer) -> Rendered | str:
    """The row as text with its supervised spans, or the reason why it has none (`EMPTY_ANSWER`, `NO_ANSWER`).

    A lone surrogate, which no tokenizer can encode, becomes U+FFFD, one character for one.

    Raises:
        UserError: the row needs a chat template and there is none, or the template cannot write it.
    """
    body = sample.body
    if isinstance(body, TextBody):
        rendered = _text(sample, body.text, renderer)
    elif isinstance(body, PairBody) and renderer.template is None:
        rendered = _pair(sample, body, renderer)
    elif isinstance(body, PairBody):
        messages = [{"role": "user", "content": body.prompt}, {"role": "assistant", "content": body.response}]
        segments = {1: body.segments} if body.segments else {}
        rendered = _chat(sample, ChatBody(messages, first_answer=1, segments=segments), renderer)
    elif isinstance(body, ChatBody):
        rendered = _chat(sample, body, renderer)
    else:
        raise TypeError("tokenized rows have no text to render")
    if isinstance(rendered, Rendered) and LONE_SURROGATE.search(rendered.text):
        return replace(rendered, text=LONE_SURROGATE.sub("\ufffd", rendered.text))
    return rendered


def _text(sample: Sample, text: str, renderer: Renderer) -> Rendered | str:
    if not text.strip():
        return EMPTY_ANSWER
    if renderer.given is not None and renderer.given.roles is not None:
        raise no_roles("text rows", sample)
    text += renderer.eos_token or ""
    return Rendered(sample, text, [(0, len(text), 1.0)], renderer.eos_token or "", given=renderer.given)


def no_roles(rows: str, sample: Sample) -> UserError:
    """The error for rows that are not messages where the groups come from roles."""
    return UserError(
        f"{rows} have no roles, and grouping.roles decides the groups",
        sample.where,
        "give messages or prompts with answers, or group by another key",
    )


def _pair(sample: Sample, body: PairBody, renderer: Renderer) -> Rendered | str:
    if not body.response.strip():
        return EMPTY_ANSWER
    if not renderer.eos_token:
        raise UserError(
            "the tokenizer has no eos token, so nothing would end the answer",
            sample.where,
            "choose a data.chat_template, or a tokenizer with an eos token",
        )
    text = body.plain_prompt + body.response + renderer.eos_token
    answer = len(body.plain_prompt)
    start = 0 if renderer.train_on == "all" else answer
    segments = joined(body.segments, _by_segments(renderer.given))
    cuts = tuple(answer + cut for cut in cuts_within(segments))
    return Rendered(
        sample,
        text,
        [(start, len(text), 1.0)],
        renderer.eos_token,
        segmented=[(Stretch(answer, len(text), cuts), segments)] if segments else [],
        given=renderer.given,
        roles=(Stretch(0, len(text), (answer,)), ["user", "assistant"]),
    )


def _by_segments(given: GivenGroups | None) -> bool:
    return given is not None and given.roles is None


def _chat(sample: Sample, body: ChatBody, renderer: Renderer) -> Rendered | str:
    template = renderer.template
    if template is None:
        raise UserError(
            "rows are messages and the tokenizer has no chat template",
            sample.where,
            "set data.chat_template (for example chatml, plain, or a .jinja file)",
        )
    if body.tools and renderer.tool_template is not None:
        template = renderer.tool_template
    answers = [
        i
        for i, message in enumerate(body.messages)
        if i >= body.first_answer and message["role"] == "assistant" and _says_something(message)
    ]
    if not answers and any(message["role"] == "assistant" for message in body.messages[body.first_answer :]):
        return EMPTY_ANSWER
    weights = body.weights or [1.0] * len(body.messages)
    wanted = answers[-1:] if renderer.train_on == "completion" else answers
    if not wanted and renderer.train_on != "all":
        return NO_ANSWER
    conversation = Conversation(body.messages, body.tools, body.template_kwargs)
    known = None if body.segments else known_turns(template, conversation, wanted, sample.where)
    if known is not None:
        return _supervised(sample, conversation, *known, weights, renderer, template)
    found, turns = attributed_spans(template, conversation, wanted, sample.where)
    trained = [i for i in wanted if weights[i] > 0]
    missing = left_out(conversation, found, trained, None if renderer.train_on == "all" else turns)
    if not missing and not template.stops:
        remember(template, conversation, wanted, found, turns)
    rendered = _supervised(sample, conversation, found.text, turns, weights, renderer, template)
    return replace(rendered, left_out=missing, segmented=_segmented(rendered, body, conversation, found, turns))


def _supervised(
    sample: Sample,
    conversation: Conversation,
    text: str,
    turns: Mapping[int, Sequence[Span]],
    weights: list[float],
    renderer: Renderer,
    template: ChatTemplate,
) -> Rendered:
    if renderer.train_on == "all":
        return _all(sample, conversation, text, weights, renderer, template)
    spans = [(start, end, weights[i]) for i, own in turns.items() for start, end in own]
    roles = (Stretch(0, len(text), ()), ["assistant"])
    return Rendered(sample, text, spans, template.end_of_turn, given=renderer.given, roles=roles)


def _says_something(message: Message) -> bool:
    return bool(str(message["content"]).strip() or message.get("tool_calls") or reasoning_of(message).strip())


def _all(
    sample: Sample,
    conversation: Conversation,
    text: str,
    weights: list[float],
    renderer: Renderer,
    template: ChatTemplate,
) -> Rendered:
    """The whole conversation supervised, message by message where weights or groups differ between messages."""
    spans, roles = [(0, len(text), weights[0])], None
    if any(weight != weights[0] for weight in weights):
        regions = message_regions(template, conversation, text, sample.where)
        spans = [(start, end, weight) for (start, end), weight in zip(regions, weights, strict=True)]
    if renderer.given is not None and renderer.given.roles is not None:
        regions = message_regions(template, conversation, text, sample.where, ROLES)
        starts = tuple(start for start, _ in regions[1:])
        roles = (Stretch(0, len(text), starts), [str(message["role"]) for message in conversation.messages])
    return Rendered(sample, text, spans, template.end_of_turn, given=renderer.given, roles=roles)


def _segmented(
    rendered: Rendered,
    body: ChatBody,
    conversation: Conversation,
    found: Attribution,
    turns: Mapping[int, Sequence[Span]],
) -> list[tuple[Stretch, list[Segment]]]:
    """The found turns that have segments, cut where these begin; a turn of a single segment needs no cut."""
    cut_turns = []
    for i in sorted(body.segments.keys() & turns.keys()):
        if not turns[i]:
            continue
        turn = (min(start for start, _ in turns[i]), max(end for _, end in turns[i]))
        segments, cuts = joined(body.segments[i], _by_segments(rendered.given)), []
        if len(segments) > 1:
            (start, end), skipped = content_span(conversation, i, found, turn, rendered.sample.where)
            cuts = [min(max(start + cut - skipped, start), end) for cut in cuts_within(segments)]
        cut_turns.append((Stretch(*turn, tuple(cuts)), segments))
    return cut_turns
