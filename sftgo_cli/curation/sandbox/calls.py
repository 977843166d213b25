"""Calls between the program's process and the tests' process, either way, while the other side waits. Runs inside.

A request is [`ask`, number of an object, operation, arguments...], a reply [`value`, value, changed arguments or None] or
[`raise`, names of built-in exception classes, arguments]. Objects without a plain form stay where they are; the other side
gets a number. While one side waits for a reply it serves what the other asks, so that a program may call a function that
it was given.
"""

from __future__ import annotations

import builtins

from sftgo_cli.curation.sandbox.plain_data import PlainDataError, decode, encode
from sftgo_cli.curation.sandbox.wire import receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MUTABLE = (list, dict, set, bytearray)


class Peer:
    """One end. `serve(object, operation, arguments)` answers what the other end asks; `foreign(number, kind)` makes what
    stands for one of its objects; `kind_of(object)` says what the other end may do with one of ours, or raises;
    `broken(problem)` does not return: nothing that happens to the wire may look like an exception of the program, for
    tests catch those."""

    def __init__(
        self,
        incoming: int,
        outgoing: int,
        serve: Callable[[Peer, Any, str, list[Any]], Any],
        foreign: Callable[[Peer, int, str], Any],
        kind_of: Callable[[Any], str],
        broken: Callable[[BaseException], None],
    ) -> None:
        self.incoming, self.outgoing = incoming, outgoing
        self.serve, self.foreign, self.kind_of, self.broken = serve, foreign, kind_of, broken
        self.heard: Any = None  # the last reply
        self.objects: list[Any] = []  # ours that the other end knows; kept, so that ids stay theirs
        self.numbers: dict[int, int] = {}
        self.foreigners: dict[int, Any] = {}
        self.foreign_numbers: dict[int, int] = {}

    def ask(self, number: int, operation: str, *arguments: Any) -> Any:
        """The other end's answer; an exception that it raised is raised here."""
        try:
            send(self.outgoing, encode(["ask", number, operation, list(arguments)], self.keep))
        except BaseException as problem:
            self.broken(problem)
        while True:
            message = self.hear()
            if message[0] == "ask":
                self.reply(message)
                continue
            self.heard = message
            if message[0] == "raise":
                raised = rebuilt(message[1], message[2])
                if isinstance(raised, StopIteration) and operation != "next":
                    # in `all(map(...))` it would end the tests' iteration, as if all cases had been looked at
                    raise RuntimeError("the program raised StopIteration")
                raise raised
            if operation == "call" and type(message[2]) is list:
                take_over_all(arguments[0], message[2])
            return message[1]

    def reply(self, message: list[Any]) -> None:
        """Serve one request."""
        _, number, operation, arguments = message
        before = ""
        try:
            if type(number) is not int or not 0 <= number < len(self.objects):
                raise ValueError("no such object")
            if operation == "call" and any(_may_change(item) for item in arguments[0]):
                before = encode(arguments[0], self.keep)
            result = self.serve(self, self.objects[number], operation, arguments)
            changed = arguments[0] if before and encode(arguments[0], self.keep) != before else None
            text = encode(["value", result, changed], self.keep)
        except BaseException as problem:
            text = encode(["raise", *described(problem)], self.keep)
        try:
            send(self.outgoing, text)
        except BaseException as problem:
            self.broken(problem)

    def hear(self) -> list[Any]:
        """The next message, of known form."""
        try:
            message = decode(receive(self.incoming), self.resolve)
            shapes = {"ask": 4, "value": 3, "raise": 3}
            if type(message) is not list or not message or type(message[0]) is not str:
                raise PlainDataError("no message")
            if shapes.get(message[0]) != len(message) or (message[0] == "ask" and type(message[3]) is not list):
                raise PlainDataError("no message of known form")
        except BaseException as problem:
            self.broken(problem)
        return message  # type: ignore[no-any-return]

    def keep(self, value: Any) -> tuple[str, Any]:
        """How an object without a plain form is named on the wire."""
        if id(value) in self.foreign_numbers:
            return "k", self.foreign_numbers[id(value)]
        kind = self.kind_of(value)
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return "h", [self.numbers[id(value)], kind]

    def resolve(self, tag: str, name: Any) -> Any:
        """The object that a name on the wire means here."""
        if tag == "y" and type(name) is str:
            found = vars(builtins)[name]
            if isinstance(found, type) or self.kind_of is any_kind:
                return found
        if tag == "k" and type(name) is int and 0 <= name < len(self.objects):
            return self.objects[name]
        if tag == "h" and type(name) is list and [type(part) for part in name] == [int, str]:
            if name[0] not in self.foreigners:
                found = self.foreign(self, name[0], name[1])
                self.foreigners[name[0]] = found
                self.foreign_numbers[id(found)] = name[0]
            return self.foreigners[name[0]]
        raise PlainDataError("an object that is not known")


def any_kind(value: Any) -> str:
    """The program may hand out whatever it has."""
    return "object"


def _may_change(value: Any) -> bool:
    if type(value) is tuple:
        return any(_may_change(item) for item in value)
    return isinstance(value, MUTABLE) or type(value).__name__ in ("deque", "Counter", "OrderedDict")


def take_over_all(mine: Any, theirs: list[Any]) -> None:
    """Apply what a call did to its arguments to our own objects, in place, wherever both are containers of one type."""
    if type(mine) is list or type(mine) is tuple:
        for own, new in zip(mine, theirs, strict=False):
            take_over(own, new)


def take_over(mine: Any, theirs: Any) -> Any:
    """`mine` with the content of `theirs` where both are containers of one type; else `theirs`."""
    if type(mine) is not type(theirs):
        return theirs
    if type(mine) is list:
        mine[:] = [take_over(own, new) for own, new in zip(mine, theirs, strict=False)] + theirs[len(mine) :]
    elif isinstance(mine, dict):
        new = [(key, take_over(mine[key], value) if key in mine else value) for key, value in theirs.items()]
        mine.clear()
        mine.update(new)
    elif type(mine) is set:
        mine.clear()
        mine.update(theirs)
    elif type(mine) is bytearray:
        mine[:] = theirs
    elif type(mine) is tuple and len(mine) == len(theirs):
        took = tuple([take_over(own, new) for own, new in zip(mine, theirs, strict=True)])
        return mine if all(one is other for one, other in zip(mine, took, strict=True)) else took
    elif type(mine).__name__ == "deque":
        mine.clear()
        mine.extend(theirs)
    else:
        return theirs
    return mine


def described(problem: BaseException) -> tuple[list[str], list[Any]]:
    """An exception as names of built-in classes, nearest first, and its arguments as plain data."""
    names = [kind.__name__ for kind in type(problem).__mro__ if vars(builtins).get(kind.__name__) is kind]
    arguments = [item if type(item) in (str, int, float, bool) else _text(item) for item in problem.args]
    return [name for name in names if name != "object"], arguments


def _text(value: Any) -> str:
    try:
        return str.__add__(str(value), "")[:2000]
    except BaseException as problem:
        return type(problem).__name__


def rebuilt(names: Any, arguments: Any) -> BaseException:
    """The exception of the nearest built-in class that takes these arguments."""
    arguments = arguments if type(arguments) is list else []
    for name in names if type(names) is list else []:
        kind = vars(builtins).get(name) if type(name) is str else None
        if isinstance(kind, type) and issubclass(kind, BaseException):
            try:
                return kind(*arguments)
            except Exception:
                continue
    return RuntimeError("the program raised an exception")
