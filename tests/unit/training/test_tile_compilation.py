"""Compiling is chosen by the run's length and by whether the machine can."""

from __future__ import annotations

import pytest

from sftgo_cli.training import tile_compilation


def test_short_runs_do_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_compilation.shutil, "which", lambda name: "/usr/bin/g++")
    assert not tile_compilation.worth_compiling(100_000, 32_000, "cpu")
    assert tile_compilation.worth_compiling(10_000_000, 32_000, "cpu")


def test_a_machine_without_a_compiler_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_compilation.shutil, "which", lambda name: None)
    monkeypatch.setattr(tile_compilation.importlib.util, "find_spec", lambda name: None)
    assert not tile_compilation.worth_compiling(1e9, 128_000, "cpu")
    assert not tile_compilation.worth_compiling(1e9, 128_000, "cuda")
