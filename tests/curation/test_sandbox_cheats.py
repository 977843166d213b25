"""No hostile program is accepted, and each has ended within the limit plus one second."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from cheats import CHEATS, PREAMBLE, RIGHT, TESTS

from sftgo_cli.curation.sandbox import runs
from sftgo_cli.curation.sandbox.bubblewrap import require_sandbox
from sftgo_cli.curation.sandbox.runs import Case, Limits, outcomes

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
LIMITS = Limits(1.0, 256)


def case(program: str) -> Case:
    """A program that is to pass the cheats' tests."""
    return Case(program, TESTS, "solve", None)


def test_no_cheat_is_accepted_and_each_ends_in_time(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"# cheats of {os.getpid()}"
    monkeypatch.setattr(runs, "FIRST_LINES", f"{runs.FIRST_LINES}{mark}\n")
    assert len(CHEATS) >= 40
    programs = [PREAMBLE + program for program in CHEATS.values()]
    found = outcomes(require_sandbox(), [case(RIGHT), *map(case, programs), case(RIGHT)], LIMITS, 4)
    assert found[0].accepted, found[0].reason
    assert found[-1].accepted, found[-1].reason
    for name, outcome in zip(CHEATS, found[1:-1], strict=True):
        assert not outcome.accepted, name
        assert outcome.seconds <= LIMITS.timeout + 1.0, name
    assert capfd.readouterr() == ("", "")
    time.sleep(0.5)  # the kernel ends a namespace in its own time
    assert not processes_with(mark)


def processes_with(mark: str) -> list[str]:
    """Processes whose command line has a mark and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
            parent = (path.parent / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if mark.encode() in line and parent[0] != "Z":
            found.append(f"{path.parent.name} {parent[:2]}")
    return found
