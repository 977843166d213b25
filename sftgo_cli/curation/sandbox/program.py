"""The untrusted process: holds the program that a model wrote, and answers calls. Runs inside its own sandbox.

Whatever the program does to this process, the tests' process only ever sees answers: nothing here is a safeguard, but for
the limits that are set before the program's first line.
"""

from __future__ import annotations

import os
import sys

from sftgo_cli.curation.sandbox.calls import Peer, any_kind
from sftgo_cli.curation.sandbox.program_text import FILE_NAME, program_of
from sftgo_cli.curation.sandbox.wire import READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXTRA_FRAMES = 100  # ours below the program's


class Given:
    """Stands for an object of the tests: a function that may be called, an iterator, or an instance with attributes."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._peer.ask(self._number, "call", list(arguments), named)

    def __getattr__(self, name: str) -> Any:
        return self._peer.ask(self._number, "get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.ask(self._number, "set", name, value)


class GivenIterator(Given):
    """An iterator of the tests."""

    __slots__ = ()

    def __iter__(self) -> GivenIterator:
        return self

    def __next__(self) -> Any:
        return self._peer.ask(self._number, "next")


def foreign(peer: Peer, number: int, kind: str) -> Any:
    """What the program gets for an object of the tests."""
    return (GivenIterator if kind == "iterator" else Given)(peer, number)


class Server:
    """Answers the tests' process; object 0 on the wire."""

    def __init__(self, answer: str, code_prompt: str | None) -> None:
        self.answer, self.code_prompt = answer, code_prompt
        self.names: dict[str, Any] = {}

    def load(self, entry_point: str) -> Any:
        """Run the program's top level; the function or class that the tests ask for, or why there is none."""
        name = entry_point.split(".")[0].removesuffix("()")
        try:
            text = program_of(self.answer, name, self.code_prompt)
        except (SyntaxError, LookupError) as problem:
            what = problem.msg if isinstance(problem, SyntaxError) else str(problem.args[0])
            raise RuntimeError(what) from None
        module = type(sys)("program")
        sys.modules["program"] = module  # dataclasses look their module up
        self.names = vars(module)
        exec(compile(text, FILE_NAME, "exec", dont_inherit=True), self.names)
        if name not in self.names:
            raise RuntimeError(f"the program deletes {name}")
        found = self.names[name]
        for number, part in enumerate(entry_point.split(".")):
            found = getattr(found, part.removesuffix("()")) if number else found
            found = found() if part.endswith("()") else found
        return found


def serve(peer: Peer, target: Any, operation: str, arguments: list[Any]) -> Any:
    """What the tests ask for. Raises whatever the program raises."""
    if isinstance(target, Server) and operation in ("load", "name"):
        return target.load(arguments[0]) if operation == "load" else target.names[arguments[0]]
    if operation == "call":
        return target(*arguments[0], **arguments[1])
    if operation == "get":
        return getattr(target, arguments[0])
    if operation == "set":
        setattr(target, arguments[0], arguments[1])
        return None
    if operation == "item":
        return target[arguments[0]]
    if operation == "set_item":
        target[arguments[0]] = arguments[1]
        return None
    plain: dict[str, Any] = {"iterate": iter, "next": next, "length": len, "text": str}
    return plain[operation](target)


def main(job: dict[str, Any], incoming: int, outgoing: int) -> None:
    """Serve until the tests' process closes its end."""
    sys.setrecursionlimit(sys.getrecursionlimit() + EXTRA_FRAMES)
    peer = Peer(incoming, outgoing, serve, foreign, any_kind, _leave)
    peer.objects.append(Server(job["answer"], job["code_prompt"]))
    os.write(outgoing, READY)
    while True:
        peer.reply(peer.hear())


def _leave(problem: BaseException) -> None:
    os._exit(0)
