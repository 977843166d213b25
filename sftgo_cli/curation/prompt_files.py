"""Prompt files: texts with the fields {question}, {gold}, {prediction}, ours or the user's, read strictly.

A file may begin with comment lines (`#`), which are not part of the prompt; one of them may be `# version: 3`, another
`# gives away: worked solution; shown an answer`, phrases that no answer to the prompt may repeat (leak_guard.py). In the
prompt `{{` and `}}` stand for braces; any other brace must enclose one of the fields that the use of the prompt allows:
no attributes, indices, conversions or formats. Filling is a single pass, so braces in the values stay as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sftgo_cli.errors import UserError, nearest

SHIPPED = Path(__file__).parent / "prompts"
HASH_DIGITS = 16
MAX_BYTES = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_GIVES_AWAY = re.compile(r"#\s*gives away\s*:(.*)", re.IGNORECASE)
_VERSION = re.compile(r"#\s*version\s*:(.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """A checked prompt file."""

    name: str  # as the recipe names it
    text: str  # without the comment lines; braces as in the file
    hash: str  # first 16 hex digits of the sha256 of the file's bytes
    version: int  # 0 where the file names none
    gives_away: tuple[str, ...] = ()  # phrases that an answer must not repeat


def shipped_prompts() -> list[str]:
    """The names of the prompts of this package."""
    return sorted(path.stem for path in SHIPPED.glob("*.txt"))


def load_prompt(
    name_or_path: str, recipe_dir: Path, allowed: Sequence[str], where: str, required: Sequence[str] = ()
) -> Prompt:
    """Read a shipped prompt by its name (letters, digits, `_`, `-` only) or a file by its path, relative to the recipe.

    Args:
        allowed: the fields that the prompt may have; at least one of them must be there, and all of `required`.
        where: the recipe's key, for messages.

    Raises:
        UserError: there is no such prompt, or it cannot be filled; names file:line:column and the allowed fields.
    """
    path = _path(name_or_path, recipe_dir, where)
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise UserError(f"cannot read the prompt file {path}: {problem.strerror}", where, "name another file") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"the prompt file {path} has {len(content)} bytes", where, f"at most {MAX_BYTES} are read")
    try:
        whole = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise UserError("not UTF-8", f"{path}:{line}", "save the prompt file as UTF-8") from None
    text, first_line, version, gives_away = _without_comments(whole, path)
    fields = _fields(text, path, first_line, allowed)
    _check_fields(fields, text, path, allowed, required)
    return Prompt(name_or_path, text, hashlib.sha256(content).hexdigest()[:HASH_DIGITS], version, gives_away)


def fill(prompt: Prompt, **values: str) -> str:
    """The prompt with its fields replaced, in one pass. Raises KeyError where a value of one of its fields is missing."""
    return "".join(values[piece.field] if piece.field else piece.text for piece in _pieces(prompt.text))


@dataclass(frozen=True)
class _Piece:
    text: str  # itself, or what stands between the braces
    position: int
    field: str | None = None
    fault: str | None = None


def _pieces(text: str) -> Iterator[_Piece]:
    """The prompt's literal parts and fields, in order; what is wrong with the braces as a piece with a fault."""
    position = 0
    for match in re.finditer(r"\{\{|\}\}|\{([^{}\n]*)\}|[{}]", text):
        if match.start() > position:
            yield _Piece(text[position : match.start()], position)
        position = match.end()
        if match[0] in ("{{", "}}"):
            yield _Piece(match[0][0], match.start())
        elif match[1] is None:
            yield _Piece(match[0], match.start(), fault=f"a single {match[0]}")
        else:
            yield _Piece(match[1], match.start(), field=match[1], fault=_fault(match[1]))
    yield _Piece(text[position:], position)


def _fault(field: str) -> str | None:
    if not field:
        return "a field without a name: {}"
    if "!" in field or ":" in field:
        return f"a conversion or format in {{{field}}}"
    if "." in field or "[" in field:
        return f"an attribute or index in {{{field}}}"
    return None


def _fields(text: str, path: Path, first_line: int, allowed: Sequence[str]) -> set[str]:
    """The fields of a prompt. Raises UserError at the first fault."""
    fields = set()
    for piece in _pieces(text):
        if piece.field is not None and piece.fault is None and piece.field not in allowed:
            near = nearest(piece.field, list(allowed))
            fault: str | None = f"unknown field {{{piece.field}}}" + (f", did you mean {{{near}}}?" if near else "")
        else:
            fault = piece.fault
        if fault:
            line = first_line + text.count("\n", 0, piece.position)
            column = piece.position - text.rfind("\n", 0, piece.position)
            fix = f"allowed: {_shown(allowed)}; a brace itself is written {{{{ or }}}}"
            raise UserError(f"the prompt has {fault}", f"{path}:{line}:{column}", fix)
        if piece.field:
            fields.add(piece.field)
    return fields


def _check_fields(fields: set[str], text: str, path: Path, allowed: Sequence[str], required: Sequence[str]) -> None:
    if not text.strip():
        raise UserError("the prompt file is empty", str(path), f"write a prompt with {_shown(required or allowed)}")
    missing = [name for name in required if name not in fields]
    if missing or not fields:
        what = f"the prompt never says {_shown(missing)}" if missing else "the prompt has no field"
        raise UserError(what, str(path), f"its fields may be {_shown(allowed)}")


def _without_comments(whole: str, path: Path) -> tuple[str, int, int, tuple[str, ...]]:
    """The prompt, the number of its first line, its version and what gives it away.

    Raises:
        UserError: the version is no number.
    """
    lines, version, first = whole.split("\n"), 0, 0
    gives_away: list[str] = []
    while first < len(lines) and lines[first].startswith("#"):
        phrases = _GIVES_AWAY.fullmatch(lines[first].strip())
        if phrases:
            gives_away += [phrase.strip() for phrase in phrases[1].split(";") if phrase.strip()]
        named = _VERSION.fullmatch(lines[first].strip())
        if named:
            text = named[1].strip()
            if not (text.isascii() and text.isdigit() and len(text) <= 9):
                raise UserError(
                    f"the version is {text!r}, not a whole number", f"{path}:{first + 1}", "write # version: 1"
                )
            version = int(text)
        first += 1
    body = "\n".join(lines[first:])
    skipped = len(body) - len(body.lstrip("\n"))
    return body.strip("\n"), first + skipped + 1, version, tuple(gives_away)


def _path(name_or_path: str, recipe_dir: Path, where: str) -> Path:
    if _NAME.fullmatch(name_or_path):
        path = SHIPPED / f"{name_or_path}.txt"
        if path.is_file():
            return path
        known = shipped_prompts()
        near = nearest(name_or_path, known)
        fix = f"did you mean {near}?" if near else f"choose from {', '.join(known)}, or name a file (with its suffix)"
        raise UserError(f"there is no prompt {name_or_path}", where, fix)
    if not name_or_path or "\0" in name_or_path:
        raise UserError("the name of the prompt is not a path", where, f"choose from {', '.join(shipped_prompts())}")
    path = Path(name_or_path).expanduser()
    path = path if path.is_absolute() else recipe_dir / path
    if not path.is_file():
        raise UserError(
            f"there is no prompt file {path}", where, f"name a file, or one of {', '.join(shipped_prompts())}"
        )
    return path


def _shown(fields: Sequence[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in fields)
