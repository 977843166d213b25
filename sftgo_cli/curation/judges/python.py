"""Your own function, in a Python file.

    judge(prompt, answer, gold, row) -> bool or (bool, reason)

`row` is a dictionary of the row's columns. The file is run once per process, as your own code, without a sandbox; its
content is part of the cache key, what it imports is not. An exception stops the stage: fix the file and run the same
command again, answers that were generated are kept. The function must not change what it returns from call to call.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import Field

from sftgo_cli.curation.questions import CurationContext, Question, Verdict, Verdicts
from sftgo_cli.errors import UserError, nearest
from sftgo_cli.recipe.options import MethodOptions

VERSION = 1
SOURCE = "your function"
PATH_OPTIONS = ("file",)  # its content is in the fingerprint
Judge = Callable[[str, str, str, dict[str, Any]], Any]
SHAPE = "a function judge(prompt, answer, gold, row)"


class Options(MethodOptions):
    """Recipe options of `judge: {name: python}`."""

    file: str = Field(description="Python file, relative to the recipe")
    function: str = Field("judge", description="Its function: (prompt, answer, gold, row) -> bool or (bool, reason)")


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """The hash of the file's content. Raises UserError where it cannot be read."""
    return {"file": hashlib.sha256(_source(_path(options, context))).hexdigest()}


def columns(options: Options) -> None:
    """The whole row is read: the function may look at any column."""


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raises UserError for a missing file or function, a file that does not run, or a function with other parameters."""
    _function(options, context)


def open_judge(options: Options, context: CurationContext) -> Verdicts:
    """The function from (question, answer) pairs to verdicts; raises UserError where the user's function fails."""
    function, path = _function(options, context), _path(options, context)
    return lambda pairs: [_verdict(function, question, answer, path, options.function) for question, answer in pairs]


def _verdict(function: Judge, question: Question, answer: str, path: Path, name: str) -> Verdict:
    try:
        result = function(question.prompt, answer, question.gold, copy.deepcopy(question.values))
    except (Exception, SystemExit) as problem:
        line = _line(problem, path)
        what = f"{name}() raised {type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        fix = "fix it and run the same command again; finished rows are kept"
        raise UserError(what, f"{path}{line}, row {question.where}", fix) from problem
    accepted, reason = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if str(getattr(accepted, "dtype", "")) in ("bool", "torch.bool") and accepted.ndim == 0:  # numpy's, torch's
        accepted = bool(accepted)
    if not isinstance(accepted, bool) or not (reason is None or isinstance(reason, str)):
        what = f"{name}() returned {' '.join(repr(result).split())[:80]}"
        raise UserError(what, f"{path}, row {question.where}", "return True, False, or (True or False, a text)")
    return Verdict(accepted, reason if reason is not None else f"{name}() returned {accepted}")


def _path(options: Options, context: CurationContext) -> Path:
    path = Path(options.file).expanduser()
    return path if path.is_absolute() else context.recipe_dir / path


def _source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        raise UserError(f"cannot read the judge's file {path}: {why}", "judge.file", "name a Python file") from None


def _function(options: Options, context: CurationContext) -> Judge:
    path = _path(options, context)
    source = _source(path)
    name = f"sftgo_user_judge_{hashlib.sha256(source).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and typing look their module up
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as problem:
        line = f":{problem.lineno}" if isinstance(problem, SyntaxError) else _line(problem, path)
        what = f"the judge's file does not run: {type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        raise UserError(what, f"{path}{line}", "fix it, or name another file") from problem
    function = vars(module).get(options.function)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        near = nearest(options.function, known)
        fix = f"did you mean {near}?" if near else f"define {SHAPE}"
        raise UserError(f"{path} has no function {options.function}", "judge.function", fix)
    try:
        inspect.signature(function).bind("prompt", "answer", "gold", {})
    except TypeError:
        what = f"{options.function}{inspect.signature(function)} does not take (prompt, answer, gold, row)"
        raise UserError(what, str(path), f"define {SHAPE}") from None
    except ValueError:  # a builtin without a signature
        pass
    judge: Judge = function
    return judge


def _line(problem: BaseException, path: Path) -> str:
    """`:12`, the last line of the user's file that took part."""
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""
