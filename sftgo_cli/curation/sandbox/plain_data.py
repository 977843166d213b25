"""Values as JSON text that keeps Python's types apart, and back; never pickle. Runs inside the sandboxes.

None, bool, int, float, str and list are JSON's own (floats exact, large ints as hex); everything else is an object of one
key, its tag: tuple t, set s, frozenset f, dict d (keys and values by turns), bytes b, bytearray B, complex c, range r,
int i, float n (nan, inf), built-in class or function y, values of the standard library x, and objects that stay where they
are: h (the sender's), k (the receiver's).

What is sent of a subclass is its content as the built-in type itself sees it (`int.__add__`, `list.__iter__`, ...), so
methods that a subclass overrides are never asked, and what arrives is always exact: `type(x) is int`.
"""

from __future__ import annotations

import builtins
import sys
from _json import encode_basestring_ascii, make_scanner  # json itself imports re: 4 ms a process

TYPE_CHECKING = False  # typing costs a process 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LARGE = 10**15  # ints from here on travel as hex: decimal digits take quadratic time
ATOMS = frozenset((bool, int, float, str, type(None)))
LIBRARY: dict[tuple[str, str], Callable[[Any], list[Any]]] = {  # class: its arguments; only exact instances
    ("decimal", "Decimal"): lambda value: [str(value)],
    ("fractions", "Fraction"): lambda value: [value.numerator, value.denominator],
    ("datetime", "date"): lambda value: [value.year, value.month, value.day],
    ("datetime", "time"): lambda value: [value.hour, value.minute, value.second, value.microsecond],
    ("datetime", "datetime"): lambda value: [
        *(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    ],
    ("datetime", "timedelta"): lambda value: [value.days, value.seconds, value.microseconds],
    ("collections", "deque"): lambda value: [list(value), value.maxlen],
    ("collections", "OrderedDict"): lambda value: [list(value.items())],
    ("collections", "Counter"): lambda value: [dict(value)],
}


class PlainDataError(Exception):
    """A text that is no encoded value."""


def encode(value: Any, keep: Callable[[Any], tuple[str, Any]]) -> str:
    """`value` as text; `keep(object)` gives the tag and name of one that has no plain form."""
    kind = type(value)
    if kind is str:
        return str(encode_basestring_ascii(value))
    if kind is int:
        return int.__repr__(value) if -LARGE < value < LARGE else _tagged("i", f'"{value:x}"')
    if value is None or kind is bool:
        return "null" if value is None else "true" if value else "false"
    if kind is float:
        return _float(value)
    if kind is list:
        return "[" + ",".join([encode(item, keep) for item in value]) + "]"
    if kind is tuple:
        return _tagged("t", "[" + ",".join([encode(item, keep) for item in value]) + "]")
    return _encode_other(value, kind, keep)


def _tagged(tag: str, text: str) -> str:
    return '{"' + tag + '":' + text + "}"


def _float(value: float) -> str:
    text = float.__repr__(value)
    return text if value - value == 0.0 else _tagged("n", f'"{text}"')


def _encode_other(value: Any, kind: type, keep: Callable[[Any], tuple[str, Any]]) -> str:
    arguments = LIBRARY.get((kind.__module__, kind.__name__))
    home = sys.modules.get(kind.__module__) if arguments is not None else None
    if arguments is not None and getattr(home, kind.__name__, None) is kind and getattr(value, "tzinfo", None) is None:
        return _tagged("x", encode([kind.__module__, kind.__name__, arguments(value)], keep))
    for base, tag, items in (
        (list, "", list.__iter__),
        (tuple, "t", tuple.__iter__),
        (dict, "d", _pairs),
        (set, "s", set.__iter__),
        (frozenset, "f", frozenset.__iter__),
    ):
        if issubclass(kind, base):
            text = "[" + ",".join([encode(item, keep) for item in items(value)]) + "]"
            return _tagged(tag, text) if tag else text
    if issubclass(kind, int):
        return encode(int.__add__(value, 0), keep)
    if issubclass(kind, float):
        return _float(float.__float__(value))
    if issubclass(kind, str):
        return str(encode_basestring_ascii(str.__add__(value, "")))
    if issubclass(kind, bytes):
        return _tagged("b", f'"{bytes.hex(value)}"')
    if issubclass(kind, bytearray):
        return _tagged("B", f'"{bytearray.hex(value)}"')
    if issubclass(kind, complex):
        return _tagged("c", f"[{_float(complex.real.__get__(value))},{_float(complex.imag.__get__(value))}]")
    if kind is range:
        return _tagged("r", encode([value.start, value.stop, value.step], keep))
    name = getattr(value, "__name__", None) if kind is type or kind is type(len) else None
    if type(name) is str and vars(builtins).get(name) is value:
        return _tagged("y", encode_basestring_ascii(name))
    tag, label = keep(value)
    return _tagged(tag, encode(label, keep))


def _pairs(value: dict[Any, Any]) -> list[Any]:
    return [item for pair in dict.items(value) for item in pair]


class _Context:  # what the C scanner wants to know
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = None


_scan = make_scanner(_Context())  # type: ignore[arg-type]


def decode(text: str, resolve: Callable[[str, Any], Any]) -> Any:
    """The value of a text; `resolve(tag, name)` gives the object behind `h`, `k` and `y`.

    Raises:
        PlainDataError: the text is no encoded value, whoever forged it.
    """
    try:
        value, end = _scan(text, 0)
        if end != len(text):
            raise PlainDataError("text behind a value")
        return value if type(value) in ATOMS else _plain(value, resolve)
    except PlainDataError:
        raise
    except RecursionError:
        raise PlainDataError("a value that nests too deep") from None
    except Exception as problem:
        raise PlainDataError(f"no value: {type(problem).__name__}") from None


def _plain(value: Any, resolve: Callable[[str, Any], Any]) -> Any:
    if type(value) is list:
        return [item if type(item) in ATOMS else _plain(item, resolve) for item in value]
    if type(value) is not dict:
        return value
    ((tag, content),) = value.items()
    items = [item if type(item) in ATOMS else _plain(item, resolve) for item in content] if tag in "tsfdrcx" else []
    if tag in ("t", "s", "f"):
        return {"t": tuple, "s": set, "f": frozenset}[tag](items)
    if tag == "d":
        return dict(zip(items[::2], items[1::2], strict=True))
    if tag in ("b", "B"):
        return bytes.fromhex(content) if tag == "b" else bytearray.fromhex(content)
    if tag == "i":
        return int(content, 16)
    if tag == "n":
        return float(content)
    if tag == "c":
        return complex(*items)
    if tag == "r":
        return range(*items)
    if tag == "x":
        module, name, arguments = items
        if (module, name) not in LIBRARY:
            raise PlainDataError("a class that is not plain")
        return getattr(__import__(module), name)(*arguments)
    return resolve(tag, content if type(content) in ATOMS else _plain(content, resolve))
