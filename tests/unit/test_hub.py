"""The upload of a finished run, with the Hub's own client replaced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sftgo_cli.errors import EnvironmentProblem
from sftgo_cli.recipe.training_section import TrainingSection
from sftgo_cli.training.hub import LEFT_OUT, upload_run


class Client:
    """Records what would be sent."""

    calls: list[tuple[str, Any]] = []  # noqa: RUF012

    def create_repo(self, name: str, **options: Any) -> SimpleNamespace:
        self.calls.append(("create", (name, options)))
        return SimpleNamespace(repo_id=f"me/{name}")

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload", options))


def test_one_repository_and_one_commit_without_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", Client)
    Client.calls.clear()
    upload_run(tmp_path, TrainingSection(output_dir="runs/x", push_to_hub=True, hub_private_repo=True))
    (first, created), (second, uploaded) = Client.calls
    assert (first, second) == ("create", "upload")
    assert created == (tmp_path.name, {"private": True, "exist_ok": True})
    assert uploaded["repo_id"] == f"me/{tmp_path.name}"
    assert uploaded["folder_path"] == tmp_path
    assert "checkpoint-*" in LEFT_OUT
    assert uploaded["ignore_patterns"] == LEFT_OUT


def test_without_the_hub_the_run_stays_and_the_exit_is_3(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="the run is finished, but the upload failed") as raised:
        upload_run(tmp_path, TrainingSection(output_dir="runs/x", push_to_hub=True))
    assert raised.value.exit_code == 3
