"""Text whose invisible characters can be seen, for terminals and pages.

Control characters become control pictures (ESC is ␛), so that a row's text can never steer the terminal. Characters
that only change how others are laid out (bidirectional overrides, zero-width spaces) are written as \\u202e; joiners
stay, for emoji and many scripts are written with them.
"""

from __future__ import annotations

import unicodedata
from typing import Any

NEWLINE = "↵"
TAB = "⇥"
SPACE = "␣"
_JOINERS = "\u200c\u200d"


def visible(text: str) -> str:
    """`text` with control and layout characters replaced by visible ones, newlines and tabs too."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _visible_character(character) for character in text)


def _visible_character(character: str) -> str:
    if character == "\n":
        return NEWLINE
    if character == "\t":
        return TAB
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp", "Cs") or (category == "Cf" and character not in _JOINERS):
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return character


def readable_token(tokenizer: Any, token_id: int) -> str:
    """A token as a person reads it: its text without the space in front; the vocabulary's own name where the text is
    part of a character or empty; a token of blanks only as ␣ and ↵."""
    text = tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if not text or "\ufffd" in text:
        return visible(str(tokenizer.convert_ids_to_tokens(token_id) or f"token {token_id}"))
    stripped = text.strip()
    return visible(stripped) if stripped else visible(text.replace(" ", SPACE))
