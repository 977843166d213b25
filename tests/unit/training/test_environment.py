"""environment.json and what `doctor` misses."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sftgo_cli.training import environment


def recipe(**changes: Any) -> Any:
    model = SimpleNamespace(quantization=None, attn_implementation=None)
    training = SimpleNamespace(deepspeed=None, report_to="none", optim="adamw_torch")
    for name, value in changes.items():
        setattr(model if hasattr(model, name) else training, name, value)
    return SimpleNamespace(model=model, training=training)


def test_versions_and_devices_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    described = environment.environment()
    assert described["versions"]["torch"].split(".")[0].isdigit()
    assert described["devices"]["cpu_count"] >= 1
    assert "hf_secret" not in json.dumps(described)


def test_what_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "versions", lambda: dict.fromkeys(environment.EXTRAS))
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    assert environment.missing_for(recipe()) == []
    everything = recipe(
        quantization="nf4",
        attn_implementation="flash_attention_2",
        deepspeed="x.json",
        report_to=["wandb", "tensorboard"],
        optim="schedule_free_adamw",
    )
    missing = environment.missing_for(everything)
    assert [line.split(",")[0] for line in missing] == [
        "bitsandbytes",
        "flash_attn",
        "deepspeed",
        "wandb",
        "tensorboard",
        "schedulefree",
    ]
    assert missing[-1].endswith("pip install schedulefree")
    assert "pip install 'sftgo[quantization]'" in missing[0]
    monkeypatch.setattr(environment, "versions", lambda: dict.fromkeys(environment.EXTRAS, "1.0"))
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: object())
    assert environment.missing_for(everything) == []
