"""Every optimizer that the installed Trainer names: it runs and resumes bit for bit, or is refused before training."""

from __future__ import annotations

import importlib.util
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers.training_args import OptimizerNames

from sftgo_cli.cli.main import main
from sftgo_cli.recipe.trainer_names import BY_METRIC, INSTALL, MUON, OPTIMIZERS, REFUSED_OPTIMIZERS, SCHEDULES

RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data: {train: {path: "builtin:instructions", max_samples: 16}, max_length: 64}
tuning: full
training: {output_dir: unused, learning_rate: 1.0e-3, per_device_train_batch_size: 2, use_cpu: true}
"""
HELDOUT = "data.eval.heldout={path: 'builtin:instructions', split: heldout, max_samples: 4}"

NAMES = [str(name.value) for name in OptimizerNames] + [MUON]
STEPS = ["training.max_steps=4", "training.logging_steps=1", "training.save_strategy=steps", "training.save_steps=2"]
# Third-party packages that are used as they are: what they say on import or on a CPU is not ours.
QUIET = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
pytestmark = QUIET


def command(folder: Path, *overrides: str) -> list[str]:
    recipe = folder.parent / "recipe.yaml"
    recipe.write_text(RECIPE)
    return ["train", str(recipe), f"training.output_dir={folder}", *STEPS, *overrides]


def as_if_killed_after_step_2(run: Path, copy: Path) -> Path:
    """A copy of a finished run that knows nothing later than its checkpoint of step 2."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoint-4")
    (copy / "model.safetensors").unlink()
    stages = json.loads((copy / "stages.json").read_text())
    (copy / "stages.json").write_text(json.dumps({**stages, "finished_steps": None}))
    return copy


def same_tensors(left: Path, right: Path) -> bool:
    a, b = load_file(left), load_file(right)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(run: Path) -> list[tuple[float, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["loss"], line["learning_rate"]) for line in lines if line["event"] == "train"]


def check_exact_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> Path:
    """Train four steps; again from the checkpoint of step 2: the same weights, optimizer state and log."""
    whole = tmp_path / "whole"
    assert main(command(whole, *overrides)) == 0, capsys.readouterr().err
    again = as_if_killed_after_step_2(whole, tmp_path / "again")
    capsys.readouterr()
    assert main(command(again, *overrides)) == 0
    assert "resuming from checkpoint-2" in capsys.readouterr().err
    assert same_tensors(whole / "model.safetensors", again / "model.safetensors")
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert same_tensors(whole / "checkpoint-4" / name, again / "checkpoint-4" / name), name
    for name in ("optimizer.json", "scheduler.json"):
        assert (whole / "checkpoint-4" / name).read_text() == (again / "checkpoint-4" / name).read_text()
    assert trained(whole) == trained(again)
    return whole


def test_the_tables_know_every_name_of_the_installed_trainer() -> None:
    from transformers.trainer_utils import SchedulerType

    assert {*NAMES} == {*OPTIMIZERS, *REFUSED_OPTIMIZERS}
    assert {*SCHEDULES} == {str(name.value) for name in SchedulerType}


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_runs_and_resumes_exactly_or_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    package, overrides = OPTIMIZERS.get(name), [f"training.optim={name}"]
    overrides += (
        ["training.optim_args=ns_steps=1"] if name == MUON else []
    )  # torch's bfloat16 products are slow on CPUs
    refused = 2 if name in REFUSED_OPTIMIZERS else 0
    if package is not None and importlib.util.find_spec(package) is None:
        refused = 3
    if name.startswith("paged_ademamix") and not torch.cuda.is_available() and not refused:
        refused = 2  # needs memory that is paged between GPU and host
    if not refused:
        eager = torch.compiler.set_stance("force_eager") if package == "torchao" else nullcontext()
        with eager:
            check_exact_resume(tmp_path, capsys, *overrides)
        return
    for verb in ("validate", "train"):
        assert main([verb, *command(tmp_path / "run", *overrides)[1:]]) == refused
        error = capsys.readouterr().err
        assert "training.optim" in error
        assert "Traceback" not in error
        assert refused != 3 or INSTALL[str(package)] in error
    assert not (tmp_path / "run").exists()


OFTEN = ("linear", "warmup_stable_decay", "reduce_lr_on_plateau")  # one of each kind in every run of the tests


@pytest.mark.parametrize(
    "schedule", [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow]) for name in SCHEDULES]
)
def test_every_schedule_resumes_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str], schedule: str) -> None:
    arguments = {
        "warmup_stable_decay": "{num_decay_steps: 2}",
        "cosine_with_min_lr": "{min_lr: 1.0e-4}",
        "cosine_warmup_with_min_lr": "{min_lr: 1.0e-4}",
    }
    overrides = [f"training.lr_scheduler_type={schedule}"]
    overrides += [f"training.lr_scheduler_kwargs={arguments[schedule]}"] if schedule in arguments else []
    by_metric = ["training.eval_strategy=steps", "training.eval_steps=1", HELDOUT]
    overrides += by_metric if schedule in BY_METRIC else []
    check_exact_resume(tmp_path, capsys, *overrides)


def test_another_optimizer_is_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path / "run")) == 0
    assert main(command(tmp_path / "run", "training.optim=sgd")) == 5
    assert "training.optim: 'adamw_torch' -> 'sgd'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("optim", "arguments", "message"),
    [
        ("adamw_torch", "1,5", "'1' is no key=value"),
        (
            "adamw_torch",
            "amsgrd=true",
            "adamw_torch has no argument 'amsgrd' - training.optim_args - did you mean amsgrad?",
        ),
        ("adamw_torch", "lr=3", "lr is not set here - training.optim_args - set training.learning_rate"),
        ("adamw_torch", "eps=3", "eps is not set here - training.optim_args - set training.adam_epsilon"),
        ("sgd", "momentum=-1", "Invalid momentum value"),
        ("muon", "momentom=0.5", "did you mean momentum?"),
    ],
)
def test_arguments_of_an_optimizer_that_it_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], optim: str, arguments: str, message: str
) -> None:
    assert main(command(tmp_path / "run", f"training.optim={optim}", f"training.optim_args='{arguments}'")) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("optim", "arguments"), [("adamw_torch", "amsgrad=true"), ("sgd", "momentum=0.9"), ("muon", "ns_steps=1")]
)
def test_arguments_of_an_optimizer_are_obeyed(tmp_path: Path, optim: str, arguments: str) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    assert main(command(plain, f"training.optim={optim}")) == 0
    assert main(command(other, f"training.optim={optim}", f"training.optim_args={arguments}")) == 0
    assert not same_tensors(plain / "model.safetensors", other / "model.safetensors")
    key, value = arguments.split("=")
    groups = json.loads((other / "checkpoint-4" / "optimizer.json").read_text())["param_groups"]
    written = {name: tree for group in groups for name, tree in group["dict"]}
    assert str(written[key]).lower() == value


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_schedule_free_measures_and_publishes_the_average(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tuning: str, best: bool
) -> None:
    """The published model has the loss that the last (or best) evaluation logged: both are of the averaged weights."""
    if importlib.util.find_spec("schedulefree") is None:
        pytest.skip("needs schedulefree")
    overrides = [f"tuning={tuning}", "training.optim=schedule_free_adamw", "training.learning_rate=1e-2", HELDOUT]
    overrides += ["training.eval_strategy=steps", "training.eval_steps=2", "training.warmup_ratio=0.5"]
    overrides += ["training.load_best_model_at_end=true", "training.greater_is_better=true"] if best else []
    run = check_exact_resume(tmp_path, capsys, *overrides) if tuning == "full" else tmp_path / "run"
    if tuning == "lora":
        assert main(command(run, *overrides)) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = {line["step"]: line["eval_heldout_loss"] for line in lines if line["event"] == "eval"}
    rates = [line["learning_rate"] for line in lines if line["event"] == "train"]
    assert rates == [1e-2] * 4  # the schedule is constant; warm-up is the optimizer's own
    assert main(["eval", str(run)]) == 0
    measured = json.loads((run / "evaluation" / "heldout.json").read_text())["loss"]
    assert measured == pytest.approx(max(logged.values()) if best else logged[4], rel=1e-6)
    groups = json.loads((run / "checkpoint-4" / "optimizer.json").read_text())["param_groups"]
    assert dict(groups[0]["dict"])["warmup_steps"] == 2


def test_evaluating_does_not_move_a_schedule_free_run(tmp_path: Path) -> None:
    if importlib.util.find_spec("schedulefree") is None:
        pytest.skip("needs schedulefree")
    plain, other = tmp_path / "plain", tmp_path / "other"
    overrides = ["training.optim=schedule_free_adamw", HELDOUT, "training.eval_strategy=steps"]
    assert main(command(plain, *overrides, "training.eval_steps=4")) == 0
    assert main(command(other, *overrides, "training.eval_steps=1", "training.save_steps=1")) == 0
    assert same_tensors(plain / "model.safetensors", other / "model.safetensors")
    assert trained(plain) == trained(other)
