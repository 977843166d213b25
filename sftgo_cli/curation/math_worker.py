"""Compares mathematical answers by math-verify in a process of its own, which can be ended when an expression runs away.

math-verify's time limits are signals: they work in the main thread only, and not while one huge power is computed. So the
judge talks to `python -m sftgo_cli.curation.math_worker` in JSON lines: `[gold, answer]` in, `[accepted, gold as read,
answer as read]` out, null for a text in which nothing was found, a missing answer to read gold alone.
"""

from __future__ import annotations

import importlib
import json
import re
import select
import subprocess
import sys
import time
from typing import Any

SECONDS = 5  # math-verify's own limit of a step, in the worker
PATIENCE = 20.0  # seconds after which the worker is ended
START_SECONDS = 120.0  # importing sympy on a busy machine
MEMORY = 4 * 2**30  # bytes of address space
_MATH_SIGNS = re.compile(r"\$|\\boxed|\\\(|\\\[")


class MathWorker:
    """A worker process; started when it is first asked, and again after one was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def compare(self, gold: str, answer: str | None) -> list[Any] | None:
        """[accepted, gold as read, answer as read], or None when it took longer than `PATIENCE` or the worker ended."""
        if self._process is None or self._process.poll() is not None:
            self._process = _start()
        process = self._process
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.close()
            return None
        line = _line(process, PATIENCE)
        if line is None:
            self.close()
            return None
        reply: list[Any] = json.loads(line)
        return reply

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)

    def __del__(self) -> None:
        self.close()


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # what it did not read
        return


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", "sftgo_cli.curation.math_worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    _line(process, START_SECONDS)  # its greeting
    return process


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """The next line of the worker's output, or None when it ends or takes too long."""
    assert process.stdout is not None
    stop, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, stop - time.monotonic()))
        part = process.stdout.read1(65536) if ready else b""  # type: ignore[attr-defined]
        if not part:
            return None
        line += part
    return line


def _compare(gold: str, answer: str | None) -> list[Any]:
    package = importlib.import_module("math_verify")
    parse, verify = package.parse, package.verify
    if "\\" in gold and not _MATH_SIGNS.search(gold):
        gold = f"${gold}$"
    right = parse(gold, parsing_timeout=SECONDS)
    if answer is None:
        return [False, _text(right), None]
    got = parse(answer, parsing_timeout=SECONDS)
    accepted = bool(right and got) and verify(right, got, timeout_seconds=SECONDS)
    return [bool(accepted), _text(right), _text(got)]


def _text(found: list[Any]) -> str | None:
    return str(found[-1])[:60] if found else None


def main() -> None:
    """Answer until the input ends."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    importlib.import_module("math_verify")  # sympy takes seconds; before the first limit counts
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            reply = _compare(*json.loads(line))
        except Exception as problem:  # sympy raises many kinds on strange input; the answer is then not accepted
            reply = [False, None, type(problem).__name__]
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
