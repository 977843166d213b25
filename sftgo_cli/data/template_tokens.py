"""Special tokens that a chat template writes and the tokenizer does not have: it splits them into ordinary pieces.

Such a template works, but every turn then costs many tokens, a user's text can imitate a turn, and generation has no
single token to stop at. That is said, with how to add the tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# `<|im_start|>`, `<start_of_turn>`, `[INST]`; no HTML-like closing tags, which templates write as plain text.
TOKEN = re.compile(r"<\|[A-Za-z0-9_ -]{2,40}\|>|<(?:start|end)_of_[a-z]+>|\[/?INST\]")


def split_tokens(source: str, tokenizer: Any) -> list[str]:
    """The special tokens in a template's source that are not one token of the tokenizer, in the order they stand."""
    written = dict.fromkeys(TOKEN.findall(source))
    return [token for token in written if len(tokenizer.encode(token, add_special_tokens=False)) > 1]


def say_split_tokens(source: str | None, tokenizer: Any, say: Callable[[str], None]) -> None:
    """One line about them; nothing where the tokenizer has all of them."""
    missing = split_tokens(source, tokenizer) if source is not None else []
    if not missing:
        return
    listed = ", ".join(missing)
    say(
        f"the chat template writes {listed}, which this tokenizer does not have as tokens and splits into pieces - "
        f"data.chat_template - {HOW_TO_ADD.format(tokens=listed)}"
    )


HOW_TO_ADD = "add them with model.new_tokens: [{tokens}], or use data.chat_template: plain, which needs none"
