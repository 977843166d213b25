"""What a recipe can ask of the training: tuners, precision, checkpointing, stopping, best model, sampling, weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sftgo_cli import pipeline
from sftgo_cli.cli.main import main
from tests.integration.conftest import RECIPE


def train(folder: Path, *overrides: str, recipe: str = RECIPE, code: int = 0) -> list[dict[str, Any]]:
    """Train the small recipe with overrides in a fresh folder; returns metrics.jsonl."""
    (folder / "recipe.yaml").write_text(recipe)
    output = folder / "run"
    assert main(["train", str(folder / "recipe.yaml"), f"training.output_dir={output}", *overrides]) == code
    path = output / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["loss"] for line in lines if line["event"] == "train"]


@pytest.mark.parametrize("option", ["use_dora=true", "use_rslora=true", "target_modules=[q_proj]"])
def test_adapters(tmp_path: Path, option: str) -> None:
    lines = train(tmp_path, "tuning=lora", "tuning.r=4", f"tuning.{option}")
    before, after = (line["eval_heldout_loss"] for line in lines if line["event"] == "eval")
    assert after < before
    tensors = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert any(tensor.any() for name, tensor in tensors.items() if "lora_B" in name)  # B starts at zero: it was trained
    assert any("magnitude" in name for name in tensors) == ("use_dora" in option)


def test_target_modules_that_match_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, "tuning=lora", "tuning.target_modules=[nope]", code=2)
    assert "no module matches" in capsys.readouterr().err


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights(tmp_path: Path, tuning: str) -> None:
    exact = train(tmp_path, f"tuning={tuning}")
    other = tmp_path / "other"
    other.mkdir()
    mixed = train(other, f"tuning={tuning}", "model.dtype=bfloat16")
    name = "model" if tuning == "full" else "adapter_model"
    assert all(t.dtype == torch.float32 for t in load_file(other / "run" / f"{name}.safetensors").values())
    assert losses(mixed) == pytest.approx(losses(exact), rel=0.02)
    assert losses(mixed) != losses(exact)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_gradient_checkpointing_changes_nothing_but_memory(tmp_path: Path, tuning: str) -> None:
    plain = train(tmp_path, f"tuning={tuning}", *(["tuning.lora_dropout=0"] if tuning == "lora" else []))
    other = tmp_path / "other"
    other.mkdir()
    options = [f"tuning={tuning}", *(["tuning.lora_dropout=0"] if tuning == "lora" else [])]
    recomputed = train(other, *options, "training.gradient_checkpointing=true")
    assert losses(recomputed) == pytest.approx(losses(plain), rel=1e-6)


def test_early_stopping_stops(tmp_path: Path) -> None:
    lines = train(
        tmp_path,
        "training.max_steps=30",
        "training.learning_rate=0",
        "training.eval_strategy=steps",
        "training.eval_steps=2",
        "training.early_stopping_patience=2",
    )
    steps = [line["step"] for line in lines if line["event"] == "eval"]
    assert steps == [0, 2, 4]  # nothing can improve: two evaluations after the first are waited for
    assert json.loads((tmp_path / "run" / "stages.json").read_text())["finished_steps"] == 4


def test_the_root_holds_the_best_model(tmp_path: Path) -> None:
    """A learning rate that explodes at the end: the best checkpoint is not the last one."""
    options = ["training.max_steps=8", "training.eval_strategy=steps", "training.eval_steps=2"]
    options += ["training.save_strategy=steps", "training.save_steps=2", "training.save_total_limit=2"]
    options += ["training.lr_scheduler_type=constant", "training.learning_rate=3e-2", "training.max_grad_norm=0"]
    lines = train(tmp_path, *options, "training.load_best_model_at_end=true", "training.eval_on_start=false")
    evaluations = {line["step"]: line["eval_heldout_loss"] for line in lines if line["event"] == "eval"}
    best = min(evaluations, key=lambda step: evaluations[step])
    run = tmp_path / "run"
    kept = load_file(run / f"checkpoint-{best}" / "model.safetensors")
    root = load_file(run / "model.safetensors")
    assert all(torch.equal(kept[name], root[name]) for name in kept)
    assert len(list(run.glob("checkpoint-*"))) == 2


@pytest.mark.parametrize("strategy", ["sequential", "group_by_length"])
def test_sampling_strategies(tmp_path: Path, strategy: str) -> None:
    lines = train(tmp_path, f"training.train_sampling_strategy={strategy}", "data.packing=false")
    assert losses(lines)[-1] < losses(lines)[0]


def test_data_workers_and_length_grouping_keep_the_trajectory(tmp_path: Path) -> None:
    alone = train(tmp_path, "data.packing=false")
    other = tmp_path / "other"
    other.mkdir()
    workers = train(other, "data.packing=false", "training.dataloader_num_workers=2")
    assert losses(alone) == losses(workers)


def test_schedule_is_logged_per_step(tmp_path: Path) -> None:
    options = ["objective.schedule=linear", "objective.mixing_weight=0.9", "objective.mixing_weight_end=0.4"]
    lines = train(tmp_path, *options, "training.logging_steps=1")
    logged = [line["mixing_weight"] for line in lines if line["event"] == "train"]
    assert logged == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lr_scheduler_type=cosinus", "did you mean cosine?"),
        ("training.optim=adamw_torhc", "did you mean adamw_torch"),
        ("training.report_to=wandbb", "'wandbb' is not available - training.report_to"),
        ("training.fsdp=full_shard", "configs/accelerate/fsdp2.yaml"),
        ("training.use_liger_kernel=true", "sftgo has its own head"),
        ("data.max_length=4096", "the model's context is 1024 tokens"),
        ("max_seq_length=128", "data.max_length"),
        ("data.chat_template=nope", "nope"),
        ("data.train.0.path=missing.jsonl", "missing.jsonl"),
        ("model=./missing", "missing"),
        ("grouping.boundaries=[0.5, 0.2]", "boundaries"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    train(tmp_path, override, code=2)
    err = capsys.readouterr().err
    assert message in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].count(" - ") >= 2  # what - where - what to do
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data.train={path}"


def test_rows_and_messages_may_carry_weights(tmp_path: Path) -> None:
    """A row of weight 0 trains nothing; weights of 2 everywhere train the same as none."""
    rows = [{"prompt": f"Say {word}.", "completion": f"{word} it is"} for word in ("one", "two", "three", "four")]
    plain = train(tmp_path, jsonl(tmp_path / "plain.jsonl", rows), "data.packing=false")
    for name, weighted in (
        ("double", [{**row, "loss_weight": 2.0} for row in rows]),
        ("zero", [*rows, {**rows[0], "completion": "never", "loss_weight": 0.0}]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        source = jsonl(folder / "rows.jsonl", weighted)
        lines = train(folder, source, "data.packing=false", "data.max_unsupervised_fraction=0.5")
        assert losses(lines) == pytest.approx(losses(plain), rel=1e-6), name


def test_zero_usable_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "Say nothing.", "completion": ""}]
    train(tmp_path, jsonl(tmp_path / "rows.jsonl", rows), code=2)
    assert "none of the 1 rows can be trained on" in capsys.readouterr().err


def test_a_folder_with_a_different_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    train(tmp_path, "training.learning_rate=0.5", "objective=cross_entropy", code=5)
    err = capsys.readouterr().err
    assert "0.001 -> 0.5" in err
    assert "'sft_go' -> 'cross_entropy'" in err
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {path.name for path in after} == {path.name for path in before}


def test_the_users_own_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"input_ids": [1, 30, 31, 32], "mine": [0.0, 5.0, 1.0, 2.0], "id": "a"}] * 4
    rows = [{**row, "id": f"r{number}"} for number, row in enumerate(rows)]
    source = jsonl(tmp_path / "rows.jsonl", rows)
    scoring = ["scoring=column", "scoring.column=mine", "data.eval=null", "training.eval_on_start=false"]
    lines = train(tmp_path, source, *scoring, "training.max_steps=2", "data.packing=false")
    assert sum(line["group_tokens/1"] for line in lines) == sum(line["samples_seen"] for line in lines[-1:])
    broken = tmp_path / "broken"
    broken.mkdir()
    rows[2] = {**rows[2], "mine": [0.0, 1.0]}
    train(broken, jsonl(broken / "rows.jsonl", rows), *scoring, code=2)
    assert "rows.jsonl:3, column mine" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["tuning.target_modules=[q_proj,lm_head]", "tuning.modules_to_save=[lm_head]"])
def test_adapters_on_the_head_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """The loss is computed inside the head's own forward: a wrapper around it would silently never train."""
    train(tmp_path, "tuning=lora", option, code=2)
    assert "an adapter on the language-model head would not be trained" in capsys.readouterr().err


def test_a_weight_that_draws_no_row_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, "data.train.0.weight=0.01", code=2)
    assert "draws none of 48 rows - data.train.0.weight" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_held_out_rows_follow_the_content_not_the_file_name(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {number}.", "completion": f"{number} it is"} for number in range(40)]
    seen = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        source = jsonl(folder / f"{name}.jsonl", rows)
        train(folder, source, "data.eval=null", "data.eval.h.fraction=0.2", "training.eval_on_start=false")
        loaded = pipeline.load(folder / "run" / "recipe.resolved.yaml", [])
        seen.append(list(pipeline.prepare(loaded, lambda line: None).evaluation["h"].datasets[0]["row_id"]))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 8
    assert all(row_id.startswith("row:") for row_id in seen[0])
