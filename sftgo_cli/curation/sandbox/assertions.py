"""Reads a row's tests: which function they ask for, which names they lack, which assertions have to run. Runs inside."""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ONLY_AST = 0x400
FILE_NAME = "<tests>"
CHECK = "check"
HELD = "__held__"  # called behind every assertion with its number
MAY_BE_SKIPPED = ("If", "Try", "TryStar", "ExceptHandler", "Match", "match_case", "Lambda", "ClassDef")


class TestsError(Exception):
    """The row's tests cannot be run."""


class Assertions:
    """Tests compiled so that each assertion that held is counted.

    `must_run` holds the numbers of those which a pass needs: all but those in branches, and in functions of which nobody
    knows whether they are called. An assertion in a loop has to run at least once.
    """

    def __init__(self, source: str) -> None:
        try:
            self.tree: Any = compile(source, FILE_NAME, "exec", ONLY_AST, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
            raise TestsError(f"the tests do not compile: {problem}") from None
        self.count = 0
        self.must_run: set[int] = set()
        self.functions = [node for node in self.tree.body if type(node).__name__ == "FunctionDef"]
        self.has_check = any(node.name == CHECK for node in self.functions)
        self.test_functions = [
            node.name for node in self.functions if node.name.startswith("test_") and not node.args.args
        ]
        self.asserts = [node for node in walk(self.tree) if type(node).__name__ == "Assert"]
        self.bound = set(_bound(self.tree))
        self.loaded = {
            node.id: None
            for node in walk(self.tree)
            if type(node).__name__ == "Name" and type(node.ctx).__name__ == "Load"
        }
        self._count(self.tree, needed=True, inside=False)
        self.code = compile(self.tree, FILE_NAME, "exec", dont_inherit=True)

    def entry_point(self) -> str:
        """The function that most assertions call and that the tests do not have; the outermost of equals."""
        votes: dict[str, int] = {}
        for node in self.asserts:
            called = [
                call.func.id
                for call in walk(node.test)
                if type(call).__name__ == "Call" and type(call.func).__name__ == "Name"
            ]
            for name in dict.fromkeys(called):
                if name not in self.bound and not hasattr(builtins, name):
                    votes[name] = votes.get(name, 0) + 1
        if not votes:
            raise TestsError("no assertion calls a function: name it in the column of entry points")
        return max(votes, key=lambda name: votes[name])

    def missing(self) -> list[str]:
        """Names that the tests read and do not have."""
        return [name for name in self.loaded if name not in self.bound and not hasattr(builtins, name)]

    def _count(self, node: Any, needed: bool, inside: bool) -> None:
        """Put a call behind every assertion."""
        kind = type(node).__name__
        if kind in ("FunctionDef", "AsyncFunctionDef"):
            needed = needed and not inside and (node.name == CHECK or node.name in self.test_functions)
            inside = True
        elif kind in MAY_BE_SKIPPED:
            needed = False
        for field in node._fields:
            value = getattr(node, field, None)
            if type(value) is not list:
                continue
            counted = []
            for item in value:
                counted.append(item)
                if type(item).__name__ == "Assert":
                    if needed and not _is_false(item.test):
                        self.must_run.add(self.count)
                    counted.append(_call(self.count, item))
                    self.count += 1
                elif hasattr(item, "_fields"):
                    self._count(item, needed and not (field == "orelse" and kind != "Module"), inside)
            setattr(node, field, counted)


def walk(node: Any) -> Iterator[Any]:
    """A tree's nodes, outermost first."""
    waiting = [node]
    while waiting:
        node = waiting.pop(0)
        yield node
        for field in node._fields:
            value = getattr(node, field, None)
            for item in value if type(value) is list else [value]:
                if hasattr(item, "_fields"):
                    waiting.append(item)


def _bound(tree: Any) -> Iterator[str]:
    """Names that the tests bind, anywhere: definitions, imports, assignments, parameters, exceptions."""
    for node in walk(tree):
        kind = type(node).__name__
        if kind in ("FunctionDef", "AsyncFunctionDef", "ClassDef"):
            yield node.name
        elif kind == "alias":
            yield (node.asname or node.name).split(".")[0]
        elif kind == "arg":
            yield node.arg
        elif kind == "ExceptHandler" and node.name:
            yield node.name
        elif kind == "Name" and type(node.ctx).__name__ != "Load":
            yield node.id


def _is_false(test: Any) -> bool:
    return type(test).__name__ == "Constant" and not test.value


def _call(number: int, behind: Any) -> Any:
    """`__held__(number)` as a statement at the place of an assertion."""
    statement = compile(f"{HELD}({number})", FILE_NAME, "exec", ONLY_AST, dont_inherit=True).body[0]
    for node in walk(statement):
        if hasattr(node, "lineno"):
            node.lineno = node.end_lineno = behind.lineno
            node.col_offset = node.end_col_offset = behind.col_offset
    return statement


def is_library(name: str) -> bool:
    """Whether a name is a module of the standard library."""
    return name in sys.stdlib_module_names
