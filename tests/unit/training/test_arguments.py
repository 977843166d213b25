"""The recipe's training section as the installed Trainer's arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftgo_cli import pipeline
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.training_findings import best_metric
from sftgo_cli.training.arguments import training_arguments


def recipe(tmp_path: Path, *overrides: str, sets: str = "{a: builtin:instructions, b: builtin:instructions}") -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: builtin:tiny\n"
        f"data: {{train: builtin:instructions, eval: {sets}}}\n"
        "training: {output_dir: run, use_cpu: true}\n"
    )
    return pipeline.load(path, overrides).recipe


def arguments(recipe: Recipe, tmp_path: Path, resuming: bool = False) -> Any:
    return training_arguments(recipe, tmp_path / "run", resuming)


def test_what_the_exactness_rests_on_is_fixed(tmp_path: Path) -> None:
    args = arguments(recipe(tmp_path), tmp_path)
    assert args.logging_nan_inf_filter is False
    assert args.remove_unused_columns is False
    assert args.ignore_data_skip is False
    assert args.data_seed == args.seed == 42
    assert args.output_dir == str(tmp_path / "run")
    assert args.report_to == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("dtype", "bf16", "fp16"), [("float32", False, False), ("bfloat16", True, False)])
def test_the_compute_type(tmp_path: Path, dtype: str, bf16: bool, fp16: bool) -> None:
    args = arguments(recipe(tmp_path, f"model.dtype={dtype}"), tmp_path)
    assert (args.bf16, args.fp16) == (bf16, fp16)


def test_evaluation_and_the_best_model(tmp_path: Path) -> None:
    loaded = recipe(tmp_path, "training.eval_on_start=true", "training.load_best_model_at_end=true")
    assert best_metric(loaded) == "eval_a_loss"
    args = arguments(loaded, tmp_path)
    assert (str(args.eval_strategy.value), args.metric_for_best_model, args.greater_is_better) == (
        "epoch",
        "eval_a_loss",
        False,
    )
    assert args.eval_on_start is True
    assert arguments(loaded, tmp_path, resuming=True).eval_on_start is False
    accuracy = recipe(tmp_path, "training.metric_for_best_model=eval_b_token_accuracy")
    assert arguments(accuracy, tmp_path).greater_is_better is True
    none = recipe(tmp_path, sets="{}")
    assert best_metric(none) is None
    assert arguments(none, tmp_path).eval_strategy.value == "no"


def test_warm_up_by_ratio_or_steps(tmp_path: Path) -> None:
    assert arguments(recipe(tmp_path, "training.warmup_ratio=0.1"), tmp_path).get_warmup_steps(50) == 5
    assert arguments(recipe(tmp_path, "training.warmup_steps=7"), tmp_path).get_warmup_steps(50) == 7
    assert arguments(recipe(tmp_path), tmp_path).get_warmup_steps(50) == 0
    for steps in (1, 6, 50, 999_999):
        assert arguments(recipe(tmp_path, "training.warmup_ratio=1.0"), tmp_path).get_warmup_steps(steps) == steps
        assert arguments(recipe(tmp_path, "training.warmup_steps=0.5"), tmp_path).get_warmup_steps(steps) == -(
            -steps // 2
        )


def test_checkpointing_does_not_need_inputs_with_gradients(tmp_path: Path) -> None:
    args = arguments(recipe(tmp_path, "training.gradient_checkpointing=true"), tmp_path)
    assert args.activation_checkpointing_kwargs["use_reentrant"] is False


def test_what_transformers_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=r"transformers refuses these training options: --tf32 requires"):
        arguments(recipe(tmp_path, "training.tf32=true"), tmp_path)
