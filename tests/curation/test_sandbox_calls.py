"""What tests may do with a program over the wire, and what they may not; values that travel; how a program is made."""

# ruff: noqa: E501 - programs on one line each
from __future__ import annotations

import datetime
import math
import os
import shutil
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.curation.sandbox import bubblewrap, runs, syscalls
from sftgo_cli.curation.sandbox.plain_data import PlainDataError, decode, encode
from sftgo_cli.curation.sandbox.program_text import program_of
from sftgo_cli.curation.sandbox.runs import Case, Limits, Outcome, outcomes
from sftgo_cli.errors import EnvironmentProblem

with_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


def refuse(*given: Any) -> Any:
    raise PlainDataError(f"not plain: {given}")


VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 10**15, -(10**15), 7**5000, -(1 << 70), 0.0, -0.0, 0.1, 1e300, 5e-324, math.inf),
    *("", "text", 'quote"\\', "\0\ud800\U0001f600", b"", b"\0\xff", bytearray(b"x"), 1 + 2j, complex(-0.0, math.inf)),
    *([], [[]], (), ((),), [1, (2, [3])], set(), {1, "1", (2,)}, frozenset({1}), {}, {1: {"a": [()]}, (1,): 2}),
    *(range(3), range(9, 1, -2), deque([1], 3), Counter("aab"), OrderedDict(b=1, a=2), Decimal("1.10"), Fraction(1, 3)),
    *(datetime.date(2020, 2, 29), datetime.timedelta(1, 2, 3), datetime.datetime(2020, 1, 2, 3, 4, 5, 6)),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_travel_unchanged(value: Any) -> None:
    back = decode(encode(value, refuse), refuse)
    assert type(back) is type(value)
    assert repr(back) == repr(value) if not isinstance(value, set | frozenset) else back == value


def test_nan_travels() -> None:
    assert math.isnan(decode(encode(math.nan, refuse), refuse))


@pytest.mark.parametrize("kind", [int, float, str, list, tuple, dict, set, frozenset, bytes, complex])
def test_subclasses_are_reduced_to_what_they_hold(kind: Any) -> None:
    content = {int: 5, float: 2.5, str: "ab", dict: {1: 2}, bytes: b"ab", complex: 1j}.get(kind, [1, 2])
    lies = {
        name: lambda *given: kind() for name in ("__repr__", "__str__", "__int__", "__float__", "__iter__", "__add__")
    }
    lies |= {"__getitem__": lambda *given: 9, "items": lambda self: [], "__len__": lambda self: 0}
    back = decode(encode(type("Liar", (kind,), lies)(content), refuse), refuse)
    assert type(back) is kind
    assert back == kind(content)


FORGED = [
    *(
        "",
        "[",
        "nul",
        "[1,]",
        "1 2",
        "NaN",
        "{}",
        '{"t":1}',
        '{"t":[1],"s":[]}',
        '{"d":[1]}',
        '{"d":[[],1]}',
        '{"s":[[]]}',
    ),
    *(
        '{"x":["os","system",["true"]]}',
        '{"y":"print"}',
        '{"h":[0,"x"]}',
        '{"k":0}',
        '{"i":"zz"}',
        '{"i":1}',
        '{"b":"0"}',
    ),
    *('{"x":1}', '{"x":[[],[],[]]}', '{"?":1}', "9" * 5000, "[" * 100_000, '{"r":[1,2,0]}', '{"n":[]}', '{"c":["a"]}'),
]


@pytest.mark.parametrize("text", FORGED, ids=lambda text: text[:20])
def test_forged_texts_are_refused(text: str) -> None:
    with pytest.raises(PlainDataError):
        decode(text, refuse)


def run(program: str, tests: str, name: str | None = "f", code_prompt: str | None = None) -> Outcome:
    return outcomes(bubblewrap.require_sandbox(), [Case(program, tests, name, code_prompt)], Limits(5.0, 512), 1)[0]


POINT = (
    "class Point:\n    def __init__(self, x):\n        self.x = x\n    def twice(self):\n        return 2 * self.x\n"
)

PASSES: dict[str, tuple[str, str]] = {
    "assertions alone": ("def f(x): return x + 1", "assert f(1) == 2\nassert candidate(2) == 3"),
    "pytest's functions": ("def f(x): return x + 1", "def test_one():\n    assert f(1) == 2"),
    "named arguments": ("def f(a, *, b=1): return a - b", "assert f(3, b=2) == 1"),
    "types": ("def f(x, t): return [v for v in x if isinstance(v, t)]", "assert f([1, 'a', 2.0], str) == ['a']"),
    "functions given": ("def f(g, x): return [g(v) for v in x]", "assert f(lambda v: v * 2, [1, 2]) == [2, 4]"),
    "functions returned": ("def f(n): return lambda v: v + n", "assert f(2)(3) == 5"),
    "iterators given": ("def f(x): return [next(x), *x]", "assert f(iter([1, 2, 3])) == [1, 2, 3]"),
    "generators": ("def f(n):\n    for i in range(n): yield i", "assert list(f(3)) == [0, 1, 2]\nassert next(f(1)) == 0"),
    "endless generators": ("def f():\n    n = 0\n    while 1:\n        yield n\n        n += 1", "assert list(zip(f(), 'ab')) == [(0, 'a'), (1, 'b')]"),
    "sorting in place": ("def f(x): x.sort()", "a = [3, 1, 2]\nassert f(a) is None\nassert a == [1, 2, 3]"),
    "nested in place": ("def f(x): x[0]['a'].append(1); x.append(2)", "a = [{'a': []}]; b = a[0]['a']; f(a)\nassert (a, b) == ([{'a': [1]}, 2], [1])"),
    "exceptions": ("def f(x): raise ValueError('no')", "try:\n    f(1)\nexcept ValueError as e:\n    text = str(e)\nassert text == 'no'"),
    "own exceptions": ("class E(KeyError): pass\ndef f(x): raise E(x)", "try:\n    f(1)\nexcept KeyError as e:\n    got = e.args\nassert got == (1,)"),
    "module the tests forgot": ("import math\ndef f(x): return x / 3", "assert math.isclose(f(1), 0.3333333333)"),
    "a class of the program": (POINT + "def f(p): return p.twice()", "assert f(Point(4)) == 8"),
    "objects": (POINT + "def f(x): return Point(x)", "p = f(3)\nassert p.x == 3\np.x = 5\nassert p.twice() == 10"),
    "loops and helpers": ("def f(x): return x * x", "import random\ndef ok(a, b):\n    assert a == b\ndef check(candidate):\n    for _ in range(20):\n        n = random.randint(0, 99)\n        ok(candidate(n), n ** 2)\n    assert True"),
    "print and input of its own": ("print('hello')\ndef f(x):\n    print(x)\n    return x", "assert f(1) == 1"),
    "main is not run": ("def f(x): return x\nif __name__ == '__main__':\n    f(int(input()))", "assert f(1) == 1"),
    "dataclass": ("from dataclasses import dataclass\n@dataclass\nclass P:\n    a: 'int'\ndef f(x): return P(x).a", "assert f(1) == 1"),
    "an object of the tests": ("def f(n):\n    s = 0\n    while n: s += n.v; n = n.next\n    return s", "class N:\n    def __init__(self, v, next=None): self.v, self.next = v, next\nassert f(N(1, N(2))) == 3"),
    "deep recursion": ("def f(n): return n and 1 + f(n - 1)", "assert f(900) == 900"),
    "bool is not int": ("def f(x): return x > 0", "assert f(1) is True\nassert type(f(1)) is bool"),
    "opaque in a list": (POINT + "P = Point(1)\ndef f(): return [P, P]", "a, b = f()\nassert a is b and a == b"),
}  # fmt: skip

FAILS: dict[str, tuple[str, str]] = {
    "true by an object": ("class T:\n    def __sub__(self, o): return 0\n    __rsub__ = __sub__\ndef f(x): return T()", "assert abs(f(1) - 17) < 1e-6"),
    "methods of plain data": ("class T:\n    def startswith(self, o): return True\ndef f(x): return T()", "assert f(1).startswith('abc')"),
    "a helper that only it has": ("def f(x): return x\ndef right(x): return True", "assert right(f(1))"),
    "dies where an exception is wanted": ("import os\ndef f(x): os._exit(0)", "try:\n    f(1)\nexcept Exception:\n    pass\nassert True"),
    "dies after its answer": ("import os\nn = 0\ndef f(x):\n    global n\n    n += 1\n    return os._exit(0) if n > 1 else 1", "assert f(1) == 1\ntry:\n    f(2)\nexcept BaseException:\n    pass"),
    "too long where an exception is wanted": ("def f(x): return 'x' * 10**8", "try:\n    f(1)\nexcept BaseException:\n    pass\nassert True"),
    "an assertion that never ran": ("def f(x): return []", "for x in f(1):\n    assert x == 17"),
    "no assertion at all": ("def f(x): return []", "def check(candidate):\n    candidate(1)"),
    "tests that stop": ("def f(x): raise SystemExit(0)", "assert True\nf(1)\nassert f(1) == 1"),
    "private attributes of the tests": ("def f(g): return g.__globals__['secret']", "secret = 5\nassert f(lambda: 0) == 5"),
    "frames of the tests": ("def f(g): return g.gi_frame.f_locals['secret']", "def gen():\n    secret = 5\n    yield 1\nassert f(gen()) == 5"),
    "an exception": ("def f(x): return 1 // 0", "assert f(1) == 0"),
    "an iteration that it ends": ("def f(x): raise StopIteration", "assert all(map(lambda case: f(case[0]) == case[1], [(1, 2), (3, 4)]))"),
    "no function": ("x = 1", "assert f(1) == 0"),
    "no Python": ("I cannot help with that.", "assert f(1) == 0"),
    "int is not bool": ("def f(x): return 1", "assert f(1) is True"),
    "tests that do not compile": ("def f(x): return 1", "assert f(1 == 1"),
}  # fmt: skip


@with_bwrap
@pytest.mark.parametrize("name", PASSES)
def test_what_tests_may_do(name: str) -> None:
    program, tests = PASSES[name]
    plain: dict[str, Any] = {"__name__": "plain"}
    exec(program, plain)  # the test's own text: what passes here must pass in plain Python too
    exec(tests, {**plain, "candidate": plain["f"], "math": math})
    outcome = run(program, tests)
    assert outcome.accepted, outcome.reason
    assert outcome.num_assertions > 0


@with_bwrap
@pytest.mark.parametrize("name", FAILS)
def test_what_proves_nothing(name: str) -> None:
    outcome = run(*FAILS[name])
    assert not outcome.accepted
    assert outcome.reason


@with_bwrap
def test_entry_points_are_found_and_helpers_come_from_the_task() -> None:
    assert run("class Solution:\n    def f(self, x): return x + 1", "assert candidate(1) == 2", "Solution().f").accepted
    tests = "assert max(g([Pair(1, 2)], 1), 0) == 3\nassert g([], 0) == 0"
    program = "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\ndef g(p, n): return sum(q.a + q.b for q in p)"
    assert run(program, tests, None).accepted
    task = "def poly(x):\n    return x * x - 4\n\ndef f(a):\n    '''Zero of poly.'''\n"
    tests = "def check(candidate):\n    assert abs(poly(candidate(1))) < 1e-9"
    assert run("return 2.0", tests, "f", task).accepted
    assert not run("def poly(x): return 0\ndef f(a): return 3.0", tests, "f", task).accepted
    assert run("def check(x): return x", "def check(candidate):\n    assert candidate(5) == 5", "check").accepted


@with_bwrap
def test_a_program_gets_neither_the_tests_nor_the_expected_values() -> None:
    looking = """
import gc
def f(x):
    word = "".join(["nee", "dle"])
    seen = [o for o in gc.get_objects() if type(o) in (str, list, tuple, dict)]
    return any(word in str(o)[:20000] for o in seen)
"""
    assert run(looking, "expected = 'needle'\nassert f(1) is False").accepted
    assert run(looking, "assert f('needle') is True").accepted  # it finds what it is given


HEAD = "def f(a):\n    '''Doubles.'''\n"
ANSWERS = {
    "a program": "def f(a):\n    return 2 * a",
    "a block": "Sure:\n```python\ndef f(a):\n    return 2 * a\n```\nIt doubles.",
    "no tag": "```\ndef f(a):\n    return 2 * a\n```",
    "unclosed": "Sure:\n```python\ndef f(a):\n    return 2 * a\n",
    "helper first": "```python\ndef g(a):\n    return 2 * a\n```\nand\n```python\nf = g\n```\nuse\n```python\nassert f(1) == 3\n```",
    "not the shell": "```bash\npip install f\n```\n```py\ndef f(a):\n    return 2 * a\n```\n```text\n4\n```",
    "the first that defines it": "```python\ndef f(a):\n    return 2 * a\n```\n```python\ndef f(a):\n    return 3 * a\n```",
    "usage first": "```python\nprint(1)\n```\n```python\ndef f(a):\n    return 2 * a\n```",
    "prose around": "Here it is:\n\ndef f(a):\n    return 2 * a\n\nThis doubles a.",
}
BODIES = {
    "body": "    b = a\n    return 2 * b",
    "stripped body": "b = a\n    return 2 * b",
    "dedented body": "b = a\nreturn 2 * b",
    "body in a block": "```python\n    b = a\n    return 2 * b\n```",
    "body with comments": "# note\n       b = a\n       return 2 * b",
    "body and more": "return 2 * g(a)\n\ndef g(a):\n    return a",
}


@pytest.mark.parametrize("name", [*ANSWERS, *BODIES])
@pytest.mark.parametrize("head", [None, HEAD])
def test_programs_are_made_of_answers(name: str, head: str | None) -> None:
    answer = {**ANSWERS, **BODIES}[name]
    if head is None and name in BODIES:
        with pytest.raises((SyntaxError, LookupError)):
            program_of(answer, "f", head)
        return
    names: dict[str, Any] = {}
    exec(program_of(answer, "f", head), names)
    assert names["f"](21) == 42


def test_the_filter_names_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine in syscalls.MACHINES:
        monkeypatch.setattr(syscalls.platform, "machine", lambda machine=machine: machine)
        program = syscalls.filter_program()
        assert len(program) % 8 == 0
        assert len(program) < 4096  # written to a pipe before anyone reads
    monkeypatch.setattr(syscalls.platform, "machine", lambda: "riscv64")
    with pytest.raises(EnvironmentProblem, match="riscv64"):
        syscalls.filter_program()


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="apt-get install bubblewrap"):
        bubblewrap.require_sandbox()
    for text, said in (
        ("exit 1", "exit code 1"),
        ("echo 'No permissions' >&2; exit 1", "No permissions"),
        ("echo ok", "ok"),
    ):
        fake = tmp_path / said.replace(" ", "") / "bwrap"
        fake.parent.mkdir()
        fake.write_text(f"#!/bin/sh\n{text}\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", str(fake.parent))
        with pytest.raises(EnvironmentProblem, match=said):
            bubblewrap.require_sandbox()


@with_bwrap
def test_a_sandbox_that_leaks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"  # runs the probe as it is: outside
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EnvironmentProblem, match="it can read /etc/passwd"):
        bubblewrap.require_sandbox()


@with_bwrap
@pytest.mark.parametrize("broken", ["program", "verdicts"])
def test_a_sandbox_that_does_not_start_is_no_verdict(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = runs.opening
    monkeypatch.setattr(runs, "opening", lambda role, *given: b"" if role == broken else whole(role, *given))
    with pytest.raises(EnvironmentProblem, match="a sandbox did not start"):
        run("def f(x): return x", "assert f(1) == 1")


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"kernel.unprivileged_userns_clone": "0"}, "unprivileged_userns_clone=1"),
        ({"user.max_user_namespaces": "0"}, "max_user_namespaces="),
        ({"kernel.apparmor_restrict_unprivileged_userns": "1"}, "AppArmor"),
        ({}, "docker"),
    ],
)
def test_the_remedy_fits_the_kernel(settings: dict[str, str], fix: str) -> None:
    assert fix in bubblewrap.remedy("bwrap: Creating new namespace failed: Operation not permitted", settings)
