"""Two numbers per row: what it says, and what it asks. Rows with equal numbers are taken for equal.

`row_key` is a hash of everything that the row says: roles, texts, calls, reasoning, tools; not of weights and ids.
`prompt_key` is a hash of what it asks, normalized: the texts of its users and tools (of a conversation without any, its
other prompts), without regard to case, white space and punctuation that changes no number. A row that asks nothing, as
plain text does, has the key of its whole text. 64 bits each, so memory stays small: among ten million rows the odds are 1
to 400,000 that any two different ones share a key.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable

from sftgo_cli.data.samples import ChatBody, PairBody, Sample, TextBody, TokenBody

PUNCTUATION = re.compile(r"[!?;:'\"`…“”‘’«»¿¡。，！？、]|[.,](?!\d)")
SPACE = re.compile(r"\s+")
ASKING = ("user", "tool", "ipython")


def row_key(sample: Sample) -> int:
    """int64: the hash of what a row says."""
    body = sample.body
    if isinstance(body, ChatBody):
        said = [body.messages, body.tools, body.first_answer, body.template_kwargs]
        return _hash(json.dumps(said, sort_keys=True, default=str))
    if isinstance(body, PairBody):
        return _hash(json.dumps([body.plain_prompt, body.response]))
    if isinstance(body, TextBody):
        return _hash(body.text)
    return _hash(json.dumps([body.input_ids, body.labels, body.keep]))


def prompt_key(sample: Sample) -> int:
    """int64: the hash of what a row asks, normalized; that of all it says where it asks nothing."""
    body = sample.body
    if isinstance(body, TokenBody):
        labels = body.labels or body.input_ids
        asked = [token for token, label in zip(body.input_ids, labels, strict=True) if label == -100]
        return _hash(json.dumps(asked or body.input_ids))
    if isinstance(body, TextBody):
        return _hash(normalized(body.text))
    if isinstance(body, PairBody):
        return _hash(normalized(body.prompt) or f"\0{normalized(body.response)}")
    asked_texts = _texts(body, ASKING) or _texts(body, ("system", "developer"))
    return _hash("\0".join(asked_texts) or f"\0{_texts(body, ('assistant',))}")


def _texts(body: ChatBody, roles: Iterable[str]) -> list[str]:
    texts = (normalized(str(message["content"])) for message in body.messages if message["role"] in roles)
    return [text for text in texts if text]


def normalized(text: str) -> str:
    """The text without case, double white space, and punctuation that changes no number."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return SPACE.sub(" ", PUNCTUATION.sub("", folded)).strip()


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
