"""The journal keeps what was appended, whatever instant a process ends at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftgo_cli.curation.journal import Journal

RESULTS = [(2, {"text": "first\nline \u2028 \udc80"}), (0, None), (7, [1.5, "x"])]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path))
    return tmp_path


def test_results_are_there_after_a_restart() -> None:
    journal = Journal("key")
    journal.append(RESULTS[:1])
    journal.append(RESULTS[1:])
    assert journal.results == dict(RESULTS)
    assert Journal("key").results == dict(RESULTS)
    journal.remove()
    assert Journal("key").results == {}


def test_every_torn_end_leaves_the_whole_lines_and_the_rest_can_be_appended() -> None:
    journal = Journal("key")
    journal.append(RESULTS)
    whole = journal.path.read_bytes()
    ends = [place + 1 for place, letter in enumerate(whole) if letter == ord("\n")]
    for length in range(len(whole) + 1):
        journal.path.write_bytes(whole[:length])
        found = Journal("key")
        num_whole = sum(end <= length for end in ends)
        assert found.results == dict(RESULTS[:num_whole])
        found.append(RESULTS[num_whole:])
        assert Journal("key").results == dict(RESULTS)
        assert found.path.read_bytes() == whole


def test_what_stands_after_a_damaged_line_is_asked_for_again() -> None:
    journal = Journal("key")
    journal.append(RESULTS)
    lines = journal.path.read_text().splitlines(keepends=True)
    journal.path.write_text(lines[0] + '["not a number", 1]\n' + lines[2])
    assert Journal("key").results == dict(RESULTS[:1])
    assert json.loads(journal.path.read_text())[0] == 2
