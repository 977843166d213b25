"""The stage cache: what hits, what misses, who builds when several ask, and what happens to damage."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import cache, durable
from sftgo_cli.errors import EnvironmentProblem, UserError

FORKS = multiprocessing.get_context("spawn")
INGREDIENTS = {"options": {"a": 1, "b": [1, 2]}, "content": "x"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(folder: Path) -> None:
    """Two files with fixed bytes."""
    (folder / "rows.bin").write_bytes(b"\x01" * 1000)
    (folder / "report.json").write_text("{}")


def never(folder: Path) -> None:
    """For what must hit."""
    raise AssertionError("built again")


def test_a_hit_needs_the_same_ingredients_whatever_their_order(root: Path) -> None:
    first = cache.cached("stage", 1, INGREDIENTS, build)
    again = cache.cached("stage", 1, dict(reversed(INGREDIENTS.items())), never)
    assert (first.hit, again.hit, first.path == again.path) == (False, True, True)


@pytest.mark.parametrize(
    ("name", "version", "ingredients"),
    [
        ("other", 1, INGREDIENTS),
        ("stage", 2, INGREDIENTS),
        ("stage", 1, {**INGREDIENTS, "content": "y"}),
        ("stage", 1, {**INGREDIENTS, "options": {"a": 1, "b": [2, 1]}}),
        ("stage", 1, {**INGREDIENTS, "more": None}),
    ],
)
def test_each_ingredient_alone_misses(root: Path, name: str, version: int, ingredients: dict[str, Any]) -> None:
    first = cache.cached("stage", 1, INGREDIENTS, build)
    second = cache.cached(name, version, ingredients, build)
    assert not second.hit
    assert second.key != first.key


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "manifest"])
def test_damage_is_said_and_rebuilt(root: Path, damage: str) -> None:
    stage = cache.cached("stage", 1, INGREDIENTS, build)
    rows = stage.path / "rows.bin"
    if damage == "flip":
        rows.write_bytes(b"\x01" * 500 + b"\x00" + b"\x01" * 499)
    elif damage == "cut":
        rows.write_bytes(b"\x01" * 10)
    elif damage == "missing":
        rows.unlink()
    else:
        (stage.path / durable.MANIFEST).write_text("")
    said: list[str] = []
    again = cache.cached("stage", 1, INGREDIENTS, build, said.append)
    assert not again.hit
    assert len(said) == 1
    assert f"cache: stage {stage.key[:8]} is damaged" in said[0]
    assert rows.read_bytes() == b"\x01" * 1000
    assert cache.cached("stage", 1, INGREDIENTS, never).hit
    assert [path.name for path in stage.path.parent.iterdir() if path.name.startswith(".")] == []


def test_a_failed_build_leaves_nothing_and_may_be_tried_again(root: Path) -> None:
    def fails(folder: Path) -> None:
        build(folder)
        raise UserError("bad row")

    with pytest.raises(UserError, match="bad row"):
        cache.cached("stage", 1, INGREDIENTS, fails)
    assert [path.suffix for path in (root / "stage").iterdir()] == [".lock"]
    assert not cache.cached("stage", 1, INGREDIENTS, build).hit


def test_a_full_disk_is_exit_3_naming_the_cache(root: Path) -> None:
    def fails(folder: Path) -> None:
        raise OSError(28, "Error writing bytes to file")  # pyarrow's, without a file name

    with pytest.raises(EnvironmentProblem, match=f"No space left on device - {root}/stage/"):
        cache.cached("stage", 1, INGREDIENTS, fails)


def _ask(log: str, kill: bool) -> None:
    def slow(folder: Path) -> None:
        with Path(log).open("a") as file:
            file.write("built\n")
        build(folder)
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.3)

    stage = cache.cached("stage", 1, INGREDIENTS, slow)
    assert (stage.path / "rows.bin").read_bytes() == b"\x01" * 1000


def test_four_processes_build_once_and_a_killed_one_blocks_nobody(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = FORKS.Process(target=_ask, args=(str(log), True))
    first.start()
    first.join(30)
    assert first.exitcode == -signal.SIGKILL
    assert log.read_text() == "built\n"
    others = [FORKS.Process(target=_ask, args=(str(log), False)) for _ in range(4)]
    for process in others:
        process.start()
    for process in others:
        process.join(30)
    assert [process.exitcode for process in others] == [0] * 4
    assert log.read_text() == "built\nbuilt\n"


def test_remembered_hashes_follow_the_content_and_not_the_path(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"one")
    first = cache.file_sha256(path)
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # sha256sum of "one"
    assert cache.file_sha256(path) == first
    path.write_bytes(b"two")
    assert cache.file_sha256(path) != first
    path.rename(tmp_path / "moved")
    (tmp_path / "moved").write_bytes(b"one")
    assert cache.file_sha256(tmp_path / "moved") == first


def test_a_hash_that_cannot_be_remembered_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"one")
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "file"))  # a file where the folder should be
    assert cache.file_sha256(tmp_path / "file").startswith("7692c3ad")


def test_entries_explain_and_find(root: Path) -> None:
    stage = cache.cached("stage", 3, INGREDIENTS, build)
    (entry,) = cache.entries()
    assert (entry.stage, entry.key, entry.path) == ("stage", stage.key, stage.path)
    assert entry.num_bytes == sum(path.stat().st_size for path in stage.path.iterdir())
    assert cache.explain(stage.path) == {"stage": "stage", "version": 3, "ingredients": INGREDIENTS}
    assert cache.find(stage.key[:6]).path == stage.path
    with pytest.raises(UserError, match="no cached result"):
        cache.find("zz")
    cache.cached("stage", 4, INGREDIENTS, build)
    with pytest.raises(UserError, match="2 cached results"):
        cache.find("")
    assert json.loads((stage.path / durable.MANIFEST).read_text())["ingredients"] == INGREDIENTS
