"""The trusted process: runs a row's tests and writes the verdict. Runs inside a sandbox of its own, for a data set's tests
are not to hurt the machine either.

Every name that the tests lack is, in this order: the function asked for, called over the wire; what the row's
`code_prompt` defines, run here (HumanEval's tests use its helpers, and no answer may replace them); a module of the
standard library; and last a class or function of the program, from which only opaque objects are taken, because nobody
but the program vouches for it (MBPP's `max_chain_length([Pair(5, 24), ...])`).

An opaque object is equal to itself and to nothing else, and true; its attributes, items, calls, length, text and iteration
are asked for, its operators and the questions that plain data answers with yes or no (`startswith`, `isdigit`, ...) are
not: the program would decide what is compared.
"""

from __future__ import annotations

import os
import sys

from sftgo_cli.curation.sandbox.assertions import CHECK, FILE_NAME, HELD, Assertions, TestsError, is_library
from sftgo_cli.curation.sandbox.calls import Peer
from sftgo_cli.curation.sandbox.plain_data import PlainDataError, encode
from sftgo_cli.curation.sandbox.wire import READY, WireError, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

PREDICATES = frozenset(
    name
    for kind in (str, bytes, float, set, list, dict)
    for name in vars(kind)
    if name.startswith(("is", "startswith", "endswith"))
)
MOST_REASON = 300


class Opaque:
    """Stands for an object that stays in the program's process."""

    __slots__ = ("__number", "__only_objects", "__peer", "__weakref__")

    def __init__(self, peer: Peer, number: int, only_objects: bool = False) -> None:
        for name, value in (("peer", peer), ("number", number), ("only_objects", only_objects)):
            object.__setattr__(self, f"_Opaque__{name}", value)

    def __ask(self, operation: str, *arguments: Any) -> Any:
        return self.__peer.ask(self.__number, operation, *arguments)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        result = self.__ask("call", list(arguments), named)
        if self.__only_objects and not isinstance(result, Opaque):
            raise TypeError("the tests rest on a function that only the program defines")
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in PREDICATES:
            raise AttributeError(f"{name} of an object of the program is not asked for")
        return self.__ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__ask("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self.__ask("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__ask("set_item", key, value)

    def __iter__(self) -> Any:
        return self.__ask("iterate")

    def __next__(self) -> Any:
        return self.__ask("next")

    def __len__(self) -> int:
        return int(self.__ask("length"))

    def __str__(self) -> str:
        text = self.__ask("text")
        if type(text) is not str:
            raise TypeError("the text of an object is no text")
        return text

    def __bool__(self) -> bool:
        return True


def foreign(peer: Peer, number: int, kind: str) -> Opaque:
    """What the tests get for an object of the program."""
    return Opaque(peer, number)


class Tests:
    """One run of the tests of a row against one program."""

    def __init__(self, job: dict[str, Any], incoming: int, outgoing: int, verdict: int) -> None:
        self.job, self.verdict = job, verdict
        self.peer = Peer(incoming, outgoing, serve, foreign, kind_of, self.broken)
        self.held: set[int] = set()

    def broken(self, problem: BaseException) -> NoReturn:
        """The wire broke, which ends the tests: an exception could be caught by them, as one of the program."""
        if isinstance(problem, WireError):
            self.end(False, f"{problem} before it answered")
        if isinstance(problem, PlainDataError):
            self.end(False, f"the program sent {problem}")
        self.end(False, f"the call failed: {type(problem).__name__}: {problem}")

    def end(self, accepted: bool, reason: str) -> NoReturn:
        """Write the verdict; nothing runs afterwards."""
        text = encode([accepted, " ".join(reason.split())[:MOST_REASON], len(self.held)], lambda value: ("n", "nan"))
        send(self.verdict, text)
        os._exit(0)

    def run(self) -> NoReturn:
        """All of it."""
        try:
            assertions = Assertions(self.job["tests"])
            entry_point = self.job["entry_point"] or assertions.entry_point()
        except TestsError as problem:
            self.end(False, str(problem))
        try:
            candidate = self.peer.ask(0, "load", entry_point)
        except BaseException as problem:
            self.end(False, f"the program does not run: {type(problem).__name__}: {problem}")
        try:
            self._run(assertions, entry_point, candidate)
        except BaseException as problem:
            self.end(False, self._failure(problem))
        missed = assertions.must_run - self.held
        if missed or not self.held:
            self.end(False, f"{len(missed)} of {assertions.count} assertions did not run")
        self.end(True, f"{len(self.held)} assertions held")

    def _run(self, assertions: Assertions, entry_point: str, candidate: Any) -> None:
        module = type(sys)("tests")
        sys.modules["tests"] = module
        names = vars(module)
        missing = [name for name in assertions.missing() if name != entry_point]
        if missing and self.job["code_prompt"]:
            self._define_helpers(missing, names)
        names.update({HELD: self.held.add, entry_point: candidate, "candidate": candidate})
        for name in missing:
            if name not in names and is_library(name):
                names[name] = __import__(name)
            elif name not in names:
                self._take_from_program(name, names)
        exec(assertions.code, names)
        if assertions.has_check:
            names[CHECK](candidate)
        for name in assertions.test_functions:
            names[name]()

    def _define_helpers(self, missing: list[str], names: dict[str, Any]) -> None:
        """What the tests use of the code that the task came with."""
        given: dict[str, Any] = {"__name__": "tests"}
        try:
            exec(compile(self.job["code_prompt"], "<code_prompt>", "exec", dont_inherit=True), given)
        except Exception:  # a head that is no program by itself has no helpers either
            return
        names.update({name: given[name] for name in missing if name in given})

    def _take_from_program(self, name: str, names: dict[str, Any]) -> None:
        try:
            found = self.peer.ask(0, "name", name)
        except Exception:
            return  # the tests then meet a NameError
        if isinstance(found, Opaque):
            object.__setattr__(found, "_Opaque__only_objects", True)
            names[name] = found

    def _failure(self, problem: BaseException) -> str:
        """Which line of the tests failed and what the program had answered."""
        line, trace = 0, problem.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == FILE_NAME:
                line = trace.tb_lineno
            trace = trace.tb_next
        lines = self.job["tests"].splitlines()
        source = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        what = "" if isinstance(problem, AssertionError) else f"{type(problem).__name__}: {str(problem)[:120]} in "
        return f"failed: {what}{source[:140]}" + (
            f"; the last call gave {_shown(self.peer.heard)}" if what == "" else ""
        )


def _shown(message: list[Any]) -> str:
    """The answer of a call, for a reason."""
    if message[0] != "value":
        return str(message[1][0]) if type(message[1]) is list and message[1] else "an exception"
    value = message[1]
    if type(value) in (bool, float, type(None)) or (type(value) is int and abs(value) < 10**30):
        return repr(value)
    if type(value) is str:
        return repr(value[:60])
    return f"a {type(value).__name__}" + (f" of {len(value)}" if type(value) in (list, tuple, set, dict) else "")


def kind_of(value: Any) -> str:
    """What the program may do with an object of the tests: call it, iterate over it, or use its public attributes."""
    if hasattr(type(value), "__next__"):
        return "iterator"
    if type(value).__module__ == "tests":
        return "object"
    if callable(value):
        return "function"
    raise TypeError(f"cannot send a {type(value).__name__} to the program")


def serve(peer: Peer, target: Any, operation: str, arguments: list[Any]) -> Any:
    """A request of the program about an object that it was given."""
    kind = kind_of(target)
    if operation == "call" and kind != "iterator" and callable(target):
        return target(*arguments[0], **arguments[1])
    if operation == "next" and kind == "iterator":
        return next(target)
    if operation in ("get", "set") and kind == "object" and not str(arguments[0]).startswith("_"):
        return getattr(target, arguments[0]) if operation == "get" else setattr(target, *arguments)
    raise TypeError(f"{operation} is not for this object")


def main(job: dict[str, Any], incoming: int, outgoing: int, verdict: int) -> None:
    """Run the tests of a job; ends the process."""
    if os.read(incoming, 1) != READY:
        os._exit(1)  # the other sandbox did not start, which is no verdict
    os.write(verdict, READY)
    sys.setrecursionlimit(2 * sys.getrecursionlimit())
    Tests(job, incoming, outgoing, verdict).run()
