"""Large or secret input: refused fast, at most 20 faults are printed, and no secret is echoed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import methods
from sftgo_cli.errors import UserError, UserErrors, masked
from sftgo_cli.recipe.load import load_recipe

SOUND = "model: m\ndata: {train: d}\ntraining: {output_dir: r}\n"


def refused(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides, methods)
    return str(caught.value)


@pytest.mark.parametrize("junk", ["\n" * 999_000, "a: 1\n" * 199_000, "# comment\n" * 7_000])
def test_more_than_64_kib_is_refused_at_once(tmp_path: Path, junk: str) -> None:
    start = time.perf_counter()
    assert "more than 65536" in refused(tmp_path, SOUND + junk)
    assert time.perf_counter() - start < 0.2


def test_twenty_faults_are_printed_and_the_rest_is_counted(tmp_path: Path) -> None:
    lines = refused(tmp_path, SOUND + "".join(f"zq{number}: 1\n" for number in range(1_035))).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 1,015 more"
    twenty = UserErrors([UserError(f"fault {number}") for number in range(20)])
    assert str(twenty).count("\n") == 19


SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        (f"training: {{output_dir: r, hub_token: {SECRET}}}", []),
        (f"training: {{output_dir: r, max_steps: {{api_key: {SECRET}}}}}", []),
        ("", [f"training.hub_token={SECRET}"]),
        ("", [f"training.password={SECRET}"]),
        ("", [f"training={{hub_token: {SECRET}, seed: x}}"]),
        ("", [f"model.dtype=https://me:{SECRET}@host/x"]),
        (f"scoring: 'https://me:{SECRET}@host/x'", []),
        (f"objective: {{name: 'https://me:{SECRET}@host/x'}}", []),
        (f"extends: https://me:{SECRET}@host/x.yaml", []),
        (f"training: {{output_dir: r, seed: 'https://{'u' * 40}{SECRET}@host'}}", []),
        ("training: {output_dir: r, seed: hf_abcdefghijklmnopqrst}", []),
        (f"evaluation: {{answers: {{heldout: {{judge: {{name: llm, generator: {{api_key: {SECRET}}}}}}}}}}}", []),
    ],
)
def test_secrets_are_never_echoed(tmp_path: Path, text: str, overrides: list[str]) -> None:
    head = SOUND.replace("training: {output_dir: r}\n", "") if text.startswith("training") else SOUND
    said = refused(tmp_path, head + text + "\n", *overrides)
    assert SECRET not in said
    assert "hf_abc" not in said


@pytest.mark.parametrize("text", ["end-of-turn token: <|im_end|>", "eos_token=</s>", "https://hf.co/a@b", "a:b@c"])
def test_what_is_no_secret_stays(text: Any) -> None:
    assert masked(text) == text
