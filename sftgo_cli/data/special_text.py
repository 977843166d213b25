"""Special tokens that stand in the rows' own text: found, counted, and on request written as plain text.

A user may have typed `<|im_end|>`. Tokenized as it stands, that ends the turn. `data.special_tokens_in_text: escape`
keeps the characters and takes away their meaning: they become the tokens that the tokenizer would use for them if it had
no such special token. How: before rendering, each occurrence in the row's text is replaced by as many private-use
characters, which no template touches; in the rendered text, what the template itself wrote is marked and what the row
wrote is put back; and that is tokenized by a copy of the tokenizer that knows its special tokens under the marks alone.
Characters keep their places throughout, so spans and offsets stay right.

Plain text rows are documents that write their own special tokens: they are left as they are, and not counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sftgo_cli.data.samples import ChatBody, PairBody, Sample
from sftgo_cli.data.segments import Segment
from sftgo_cli.errors import UserError

FROM_ROW = 0xF0000  # first of the private-use characters that stand for a special token of the row's text
FROM_TEMPLATE = 0x100000  # ... of what the template wrote
MARKS = re.compile("[\U000f0000-\U000ffffd]")  # some of these begin a mark of the row's
FILL = "\uf8ff"  # pads either to the token's length


@dataclass(frozen=True)
class SpecialText:
    """The special tokens of a tokenizer as text, longest first, and what escapes them (None: keep them)."""

    tokens: tuple[str, ...]
    pattern: re.Pattern[str]
    escape: _Escape | None = None


@dataclass(frozen=True)
class _Escape:
    """The copy of the tokenizer (a `tokenizers.Tokenizer`), the tokenizer's ids of the copy's added tokens, and the ids
    of its vocabulary that only a special token may have."""

    tokenizer: Any
    own_ids: dict[int, int]
    reserved: frozenset[int]


def special_text(tokenizer: Any, escape: bool) -> SpecialText:
    """What is looked for in the rows; with `escape` also what tokenizes them."""
    named = set(tokenizer.all_special_tokens)
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.special or str(token) in named]
    texts = {str(token) for token in added if str(token).strip()}
    tokens = tuple(sorted(texts, key=lambda token: (-len(token), token)))
    pattern = re.compile("|".join(re.escape(token) for token in tokens) or r"(?!)")
    return SpecialText(tokens, pattern, _marked_copy(tokenizer, tokens) if escape and tokens else None)


def _mark(number: int, token: str, first: int) -> str:
    """As many characters as the token has, told from every other mark by the first of them."""
    return chr(first + number) + FILL * (len(token) - 1)


def _marked_copy(tokenizer: Any, tokens: tuple[str, ...]) -> _Escape:
    """The tokenizer with its special tokens under marks: added tokens that are the same in every other respect, and
    pieces of the vocabulary that no text is.

    The copy numbers added tokens that its vocabulary lacks anew, so all of their ids are translated back.
    """
    from tokenizers import Tokenizer

    marks = {token: _mark(number, token, FROM_TEMPLATE) for number, token in enumerate(tokens)}
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    own = {}
    for entry in described["added_tokens"]:
        token_id, content = entry["id"], entry["content"]
        if content in marks:
            entry |= {"content": marks[content], "normalized": False}
        own[entry["content"]] = token_id
    described |= {"post_processor": None, "truncation": None, "padding": None}
    try:
        copy = Tokenizer.from_str(json.dumps(described | {"model": _with_marks(described["model"], marks)}))
    except Exception:  # a vocabulary whose merges make a special token of text: `encode_marked` refuses where they do
        copy = Tokenizer.from_str(json.dumps(described))
    own_ids = {copy_id: int(own[text]) for text in own if (copy_id := copy.token_to_id(text)) is not None}
    in_vocabulary = (copy.token_to_id(token) for token in tokens if token != tokenizer.unk_token)
    return _Escape(copy, own_ids, frozenset(token_id for token_id in in_vocabulary if token_id is not None))


def _with_marks(model: dict[str, Any], marks: dict[str, str]) -> dict[str, Any]:
    """The model with the special tokens of its vocabulary, which Unigram would make of text, under their marks."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        vocabulary = {marks.get(piece, piece): number for piece, number in vocabulary.items()}
    elif isinstance(vocabulary, list):
        vocabulary = [[marks.get(piece, piece), score] for piece, score in vocabulary]
    unknown = model.get("unk_token")
    return model | {"vocab": vocabulary} | ({"unk_token": marks.get(unknown, unknown)} if unknown else {})


def found_in(sample: Sample, special: SpecialText) -> Counter[str]:
    """How often each special token stands in the row's own text."""
    body = sample.body
    if isinstance(body, PairBody):
        said: Any = [body.prompt, body.response]
    elif isinstance(body, ChatBody):
        said = [body.messages, body.tools, body.template_kwargs]
    else:
        return Counter()
    found: Counter[str] = Counter()
    for text in _strings(said):
        found.update(special.pattern.findall(text))
    return found


def escaped(sample: Sample, special: SpecialText) -> Sample:
    """The row with marks in the place of the special tokens of its text."""
    number = {token: i for i, token in enumerate(special.tokens)}

    def mark(text: str) -> str:
        return special.pattern.sub(lambda match: _mark(number[match[0]], match[0], FROM_ROW), text)

    def marked(segments: Iterable[Segment]) -> tuple[Segment, ...]:
        return tuple(replace(segment, text=mark(segment.text)) for segment in segments)

    body = sample.body
    if isinstance(body, PairBody):
        texts = (mark(body.prompt), mark(body.response), mark(body.plain_prompt))
        return replace(sample, body=PairBody(*texts, marked(body.segments)))
    if isinstance(body, ChatBody):
        chat = replace(
            body,
            messages=_mapped(body.messages, mark),
            tools=_mapped(body.tools, mark),
            template_kwargs=_mapped(body.template_kwargs, mark),
            segments={number: marked(segments) for number, segments in body.segments.items()},
        )
        return replace(sample, body=chat)
    return sample


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _strings(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _strings(child)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(child, change) for key, child in value.items()}
    return [_mapped(child, change) for child in value] if isinstance(value, list) else value


def has_marks(text: str, special: SpecialText) -> bool:
    """Whether a rendered text has marks."""
    return special.escape is not None and MARKS.search(text) is not None


def unmarked(text: str, special: SpecialText) -> str:
    """A rendered text with the row's special tokens in the place of their marks."""
    for number, token in enumerate(special.tokens):
        text = text.replace(_mark(number, token, FROM_ROW), token)
    return text


def encode_marked(text: str, special: SpecialText, where: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids and offsets of a rendered text with marks.

    Raises:
        UserError: this tokenizer makes a special token of the plain text all the same.
    """
    assert special.escape is not None
    number = {token: i for i, token in enumerate(special.tokens)}
    by_template = special.pattern.sub(lambda match: _mark(number[match[0]], match[0], FROM_TEMPLATE), text)
    encoded = special.escape.tokenizer.encode(unmarked(by_template, special), add_special_tokens=False)
    if special.escape.reserved.intersection(encoded.ids):
        fix = "remove the special tokens from the text, or set data.special_tokens_in_text: keep"
        raise UserError("this tokenizer cannot write its special tokens as plain text", where, fix)
    own = special.escape.own_ids
    return [own.get(token_id, token_id) for token_id in encoded.ids], list(encoded.offsets)
