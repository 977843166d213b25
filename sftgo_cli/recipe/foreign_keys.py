"""What people type out of habit from other tools, and what it is here: for hints in errors and for converted recipes.

The table is `foreign_keys.yaml`; it is read when the first such key is met. An answer is either settings of ours, or in
words what to write instead, or why it is not here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

TABLE = Path(__file__).with_name("foreign_keys.yaml")
UNSET: Any = object()  # the key alone is asked about, whatever its value
VALUE, AS_LIST, AS_TEXTS, AS_TEMPLATE, AS_FRACTION, AS_NAME = "$", "$list", "$texts", "$template", "$fraction", "$name"
PASSED_ON = (VALUE, AS_LIST, AS_TEXTS, AS_TEMPLATE, AS_FRACTION, AS_NAME)
TEMPLATES = ("chatml", "llama3", "plain")  # names that are known here too
NO_COUNT = "rows are held out by fraction, such as data.eval: {heldout: {fraction: 0.02}}"
NOTHING = ("", "none", "null", "no", "false", "off")
SHORT_NAMES = {"scoring.name": "scoring", "objective.name": "objective", "tuning.name": "tuning"}


@dataclass(frozen=True)
class Answer:
    """What a foreign key with its value is here.

    `settings` are dotted keys of ours with their values, empty where the key asks for nothing; `text` says what to write
    (`instead`) or why there is no such thing (`reason`). `carried` are those settings whose value is the foreign key's own.
    """

    kind: Literal["settings", "instead", "reason"]
    settings: Mapping[str, Any]
    text: str = ""
    carried: frozenset[str] = frozenset()

    def hint(self) -> str:
        """What to do, for an error message."""
        if self.kind == "instead":
            return f"here it is {self.text}"
        if self.kind == "reason":
            return f"not here: {self.text}"
        if not self.settings:
            return "remove it: it asks for nothing here"
        parts = [key if key in self.carried else _setting_text(key, value) for key, value in self.settings.items()]
        return f"did you mean {' and '.join(parts)}?"


@dataclass(frozen=True)
class ForeignKeys:
    """The table: keys whose value carries over, keys with an answer per value, and words for the others."""

    same: dict[str, str]
    values: dict[str, dict[Any, Any]]
    instead: dict[str, str]
    reasons: dict[str, str]

    def names(self) -> list[str]:
        """Every key that has a counterpart here."""
        return [*self.same, *self.values]

    def answer(self, key: str, value: Any = UNSET) -> Answer | None:
        """The answer to a key, lower-case with underscores; None where the table does not know it."""
        if key in self.values:
            found = _of_value(self.values[key], value)
            if found is not None:
                return found
        if key in self.same:
            ours = self.same[key]
            return Answer("settings", {ours: value}, carried=frozenset([ours]))
        for kind, table in (("instead", self.instead), ("reason", self.reasons)):
            text = table.get(key) or next((table[known] for known in table if fnmatchcase(key, known)), None)
            if text is not None:
                return _in_words("instead" if kind == "instead" else "reason", text, value)
        return None


@functools.cache
def foreign_keys() -> ForeignKeys:
    """The table of `foreign_keys.yaml`."""
    import yaml

    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    same = {key: ours for ours, keys in table["same"].items() for key in keys.split()}
    values = {key: {_plain(value): answer for value, answer in row.items()} for key, row in table["values"].items()}
    instead = {key: text for text, keys in table["instead"].items() for key in keys.split()}
    reasons = {key: row["because"] for row in table["reasons"] for key in row["keys"].split()}
    return ForeignKeys(same, values, instead, reasons)


def _plain(value: Any) -> str:
    """A value as the table writes it: `true`, `4`, `[assistant]`, lower-case text."""
    if isinstance(value, list):
        return f"[{', '.join(_plain(one) for one in value)}]"
    return str(value).strip().lower()


def asks_for_nothing(value: Any) -> bool:
    """Whether a value switches off, or leaves empty, what its key is about."""
    return value is None or value is False or value in ([], {}) or _plain(value) in NOTHING


def _in_words(kind: Literal["instead", "reason"], text: str, value: Any) -> Answer:
    return Answer("settings", {}) if value is not UNSET and asks_for_nothing(value) else Answer(kind, {}, text)


def _of_value(row: Mapping[str, Any], value: Any) -> Answer | None:
    """The answer that the table gives for one value; the first one that sets something where no value is known."""
    if value is UNSET:
        found: Any = next((answer for answer in row.values() if answer), {})
    elif _plain(value) in row:
        found = row[_plain(value)]
    elif asks_for_nothing(value):
        found = {}
    else:
        found = row.get("*")
    if found is None:
        return None
    if isinstance(found, str):
        return Answer("reason", {}, found)
    carried = frozenset(key for key, setting in found.items() if setting in PASSED_ON)
    return Answer("settings", found, carried=carried) if value is UNSET else _passed_on(found, value, carried)


def _passed_on(settings: Mapping[str, Any], value: Any, carried: frozenset[str]) -> Answer:
    """Settings with the value filled in for what begins with `$`."""
    filled: dict[str, Any] = {}
    for key, setting in settings.items():
        if setting == AS_FRACTION:
            if not isinstance(value, int | float) or not 0 <= value < 1:
                return Answer("reason", {}, NO_COUNT)
            if value:
                filled[key] = value
        elif setting == AS_TEMPLATE:
            text = str(value)
            if text.lower() not in TEMPLATES and "{" not in text and not text.endswith((".jinja", ".jinja2", ".j2")):
                own = "data.chat_template: null takes the tokenizer's own; shipped by name are " + ", ".join(TEMPLATES)
                return Answer("instead", {}, own)
            filled[key] = text.lower() if text.lower() in TEMPLATES else text
        elif setting == AS_LIST:
            listed = isinstance(value, str) and "," in value
            filled[key] = [part.strip() for part in value.split(",")] if listed else value
        elif setting == AS_TEXTS:
            texts = value if isinstance(value, list) else str(value).split(",")
            filled[key] = [str(text).strip() for text in texts]
        elif setting == AS_NAME:
            filled[key] = re.sub(r"[^A-Za-z0-9._-]", "-", str(value)).lstrip(".")[:100]
        else:
            filled[key] = value if setting == VALUE else setting
    return Answer("settings", filled, carried=carried)


def _setting_text(key: str, value: Any) -> str:
    """`model.quantization: nf4`; a method by its section, `tuning: lora`."""
    return f"{SHORT_NAMES.get(key, key)}: {_plain(value) if isinstance(value, bool) else value}"
