"""Atomic publishing: whatever call a crash or a full disk meets, the old state or the new one is there, never half."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sftgo_cli import durable
from sftgo_cli.errors import EnvironmentProblem

CALLS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir")


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test catches it."""


def failing(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> Callable[[], int]:
    """The `number`-th storage call from now on raises; returns how many there were."""
    seen = 0

    def wrap(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal seen
            seen += 1
            if seen == number:
                raise error
            return original(*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    return lambda: seen


def fill(folder: Path, text: str) -> None:
    """Three files, one of them in a subfolder."""
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (folder / name).write_text(text)


def content(folder: Path) -> str:
    """The text of a whole published folder."""
    assert durable.manifest_faults(folder) == []
    (text,) = {(folder / name).read_text() for name in ("a", "b", "sub/c")}
    return text


@pytest.mark.parametrize("replacing", [False, True])
def test_killed_at_every_call_of_a_publication(tmp_path: Path, replacing: bool) -> None:
    for number in range(1, 100):
        root = tmp_path / str(number)
        target, partial = root / "target", root / ".partial-target"
        if replacing:
            fill(partial, "old")
            durable.publish_folder(partial, target)
        fill(partial, "new")
        with pytest.MonkeyPatch.context() as patch:
            calls = failing(patch, number, Killed())
            with contextlib.suppress(Killed):
                durable.publish_folder(partial, target)
            total = calls()
        durable.sweep_partial(root)
        assert [path.name for path in root.iterdir() if path.name != "target"] == []
        if replacing or target.exists():
            assert content(target) in ("old", "new")
        if total < number:
            assert content(target) == "new"
            break
    assert number > 8  # four files flushed, the manifest, folders, the rename


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failing_disk_is_exit_3_naming_path_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    target = tmp_path / "file"
    durable.write_text(target, "old")
    failing(monkeypatch, 1, OSError(code, os.strerror(code)))
    with pytest.raises(EnvironmentProblem) as raised, durable.storage_faults(target, 1_234_567):
        durable.write_text(target, "new")
    assert raised.value.exit_code == 3
    assert str(target) in str(raised.value)
    assert "file needs about 1,234,567 bytes" in str(raised.value)
    assert os.strerror(code) in str(raised.value)
    assert target.read_text() == "old"


def test_storage_faults_of_rust_libraries_and_other_errors(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="No space left"), durable.storage_faults(tmp_path):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="other"), durable.storage_faults(tmp_path):
        raise RuntimeError("other")
    with pytest.raises(FileNotFoundError), durable.storage_faults(tmp_path):
        (tmp_path / "missing").read_text()


def test_manifest_faults(tmp_path: Path) -> None:
    partial, target = tmp_path / ".partial-x", tmp_path / "x"
    fill(partial, "text")
    durable.publish_folder(partial, target, {"step": 3})
    (target / "extra").write_text("foreign files are nobody's business")
    assert durable.manifest_faults(target) == []
    (target / "a").write_text("tex")
    (target / "b").write_text("texT")
    (target / "sub/c").unlink()
    assert durable.manifest_faults(target) == [
        "a has 3 bytes, expected 4",
        "b was altered",
        "sub/c is missing",
    ]
    (target / "manifest.json").write_text("{")
    assert durable.manifest_faults(target) == ["manifest.json is missing or unreadable"]


def test_sweep_restores_what_was_being_replaced_and_leaves_foreign_files(tmp_path: Path) -> None:
    for name in (".partial-a", ".replaced-b", ".replaced-c", "c", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / ".partial-7-file").write_text("")
    (tmp_path / ".lock").write_text("")
    assert durable.sweep_partial(tmp_path) == [".partial-7-file", ".partial-a", ".replaced-c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", ".lock", "b", "c"]
    assert durable.sweep_partial(tmp_path / "missing") == []
