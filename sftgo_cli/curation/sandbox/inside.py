"""The first lines of a sandboxed process, and the modules that it gets: compiled here, for it sees no file of sftgo's.

A process reads two records from its standard input: the modules with its limits, as Python's own `marshal` (it comes from
us, and both ends are the same Python), and the job as JSON-like text of plain data. Then it closes what it no longer
needs, sets its limits, and calls `main` of its module.
"""

from __future__ import annotations

import functools
import marshal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = __package__
MODULES = {  # by role, in the order of their imports; the last one has `main`
    "program": ("wire", "plain_data", "calls", "program_text", "program"),
    "verdicts": ("wire", "plain_data", "calls", "assertions", "verdicts"),
}
FIRST_LINES = """
import marshal, os, resource, sys
source = open(0, "rb", closefd=False)
package, modules, limits, fds = marshal.load(source)
parts = package.split(".")
for number in range(len(parts)):
    name = ".".join(parts[: number + 1])
    sys.modules[name] = type(sys)(name)
for name, code in modules:
    module = sys.modules[package + "." + name] = type(sys)(package + "." + name)
    exec(code, module.__dict__)
job = marshal.load(source)
source.close()
null = os.open("/dev/null", os.O_RDWR)
verdict = os.dup(1)
for fd in (0, 1, 2):
    os.dup2(null, fd)
os.close(null)
if len(fds) == 2:
    os.close(verdict)
else:
    fds = (*fds[:2], verdict)
for fd in fds:
    os.set_inheritable(fd, False)
sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
for name, limit in limits:
    resource.setrlimit(getattr(resource, name), (limit, limit))
main = module.main
sys.argv = [""]
del source, limits, module, modules, package, parts, null, verdict, name, number, code, fd, limit
main(job, *fds)
"""


@functools.cache
def modules_of(role: str) -> list[tuple[str, Any]]:
    """Names and code of the modules of a role."""
    folder = Path(__file__).parent
    return [
        (name, compile((folder / f"{name}.py").read_text("utf-8"), f"<sandbox {name}>", "exec", dont_inherit=True))
        for name in MODULES[role]
    ]


def opening(role: str, limits: Mapping[str, int], fds: tuple[int, ...]) -> bytes:
    """The first record for a process; `fds` are its ends of the pipes, a third one says that it writes the verdict."""
    return marshal.dumps((PACKAGE, modules_of(role), tuple(limits.items()), fds))


def job_record(job: Mapping[str, Any]) -> bytes:
    """The second record: None, texts and lists of texts under their names."""
    return marshal.dumps(dict(job))
