"""Every `training:` key of the schema at another value: it changes what its documentation says, or is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sftgo_cli.cli.main import main
from sftgo_cli.recipe.training_section import ASKING_FOR_NOTHING, REFUSED_TRAINING_KEYS, TrainingSection

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "training.md"
RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data:
  train: {path: "builtin:instructions", max_samples: 16}
  eval: {heldout: {path: "builtin:instructions", split: heldout, max_samples: 4}}
  max_length: 64
  packing: false
tuning: full
training: {output_dir: unused, max_steps: 4, learning_rate: 1.0e-3, per_device_train_batch_size: 2, logging_steps: 1,
           eval_strategy: "no", save_strategy: "no", use_cpu: true}
"""
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@dataclass(frozen=True)
class Run:
    """What a finished run shows from outside."""

    folder: Path
    said: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    @property
    def train(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "train"]

    @property
    def evaluated(self) -> list[int]:
        return [line["step"] for line in self.lines if line["event"] == "eval"]

    @property
    def saved(self) -> list[int]:
        return sorted(int(path.name[11:]) for path in self.folder.glob("checkpoint-*"))

    @property
    def rates(self) -> list[float]:
        return [line["learning_rate"] / 1e-3 for line in self.train]

    @property
    def weights(self) -> torch.Tensor:
        tensors = load_file(self.folder / "model.safetensors")
        return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


Train = Callable[..., Run]


@pytest.fixture(scope="module")
def train_module(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, Path]]:
    root = tmp_path_factory.mktemp("keys")
    (root / "recipe.yaml").write_text(RECIPE)
    done: dict[tuple[str, ...], tuple[int, Path]] = {}

    def run(*overrides: str) -> tuple[int, Path]:
        if overrides not in done:
            folder = root / str(len(done))
            done[overrides] = (
                main(["train", str(root / "recipe.yaml"), f"training.output_dir={folder}", *overrides]),
                folder,
            )
        return done[overrides]

    return run


@pytest.fixture
def train(train_module: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]) -> Train:
    def run(*settings: str) -> Run:
        code, folder = train_module(*(f"training.{setting}" for setting in settings))
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return Run(folder, captured.out + captured.err)

    return run


def other_weights(left: Run, right: Run) -> bool:
    return not torch.equal(left.weights, right.weights)


def same_weights(left: Run, right: Run) -> bool:
    return bool(torch.allclose(left.weights, right.weights, atol=1e-6))


EVERY_STEP = ("eval_strategy=steps", "eval_steps=1")
# key -> what another value must do. `t` trains with settings on top of RECIPE.
CHANGES: dict[str, Callable[[Train], bool]] = {
    "num_train_epochs": lambda t: len(t("max_steps=-1", "num_train_epochs=0.5").train) == 4,
    "max_steps": lambda t: len(t("max_steps=3").train) == 3,
    "learning_rate": lambda t: t("learning_rate=2e-3").rates[0] == pytest.approx(2.0, rel=0.3),
    "per_device_train_batch_size": lambda t: t("per_device_train_batch_size=4").train[0]["samples_seen"] == 4,
    "per_device_eval_batch_size": lambda t: t("per_device_eval_batch_size=1", *EVERY_STEP).evaluated == [1, 2, 3, 4],
    "gradient_accumulation_steps": lambda t: t("gradient_accumulation_steps=2").train[0]["samples_seen"] == 4,
    "lr_scheduler_type": lambda t: t("lr_scheduler_type=constant").rates == pytest.approx([1, 1, 1, 1]),
    "lr_scheduler_kwargs": lambda t: t("lr_scheduler_kwargs={num_cycles: 1.0}").rates[2] == pytest.approx(0, abs=1e-6),
    "warmup_ratio": lambda t: t("warmup_ratio=1.0").rates == pytest.approx([0, 0.25, 0.5, 0.75]),
    "warmup_steps": lambda t: t("warmup_steps=0.5").rates[:3] == pytest.approx([0, 0.5, 1.0]),
    "optim": lambda t: other_weights(t(), t("optim=sgd")),
    "optim_args": lambda t: other_weights(t(), t("optim_args=amsgrad=true", "adam_beta2=0.5")),
    "weight_decay": lambda t: other_weights(t(), t("weight_decay=0.5")),
    "adam_beta1": lambda t: other_weights(t(), t("adam_beta1=0.5")),
    "adam_beta2": lambda t: other_weights(t(), t("adam_beta2=0.5")),
    "adam_epsilon": lambda t: other_weights(t(), t("adam_epsilon=1e-3")),
    "max_grad_norm": lambda t: other_weights(t(), t("max_grad_norm=0.01", "adam_epsilon=1e-3")),
    "seed": lambda t: t("seed=1").train[0]["loss"] != t().train[0]["loss"],
    "data_seed": lambda t: t("data_seed=1").train[0]["loss"] == t("seed=1").train[0]["loss"],
    "gradient_checkpointing": lambda t: same_weights(t(), t("gradient_checkpointing=true")),
    "gradient_checkpointing_kwargs": lambda t: same_weights(
        t(), t("gradient_checkpointing=true", "gradient_checkpointing_kwargs={preserve_rng_state: false}")
    ),
    "use_cpu": lambda t: t().train[0]["loss"] > 0,  # every run here
    "full_determinism": lambda t: same_weights(t(), t("full_determinism=true")),
    "neftune_noise_alpha": lambda t: t("neftune_noise_alpha=5").train[0]["loss"] != t().train[0]["loss"],
    "train_sampling_strategy": lambda t: (
        t("train_sampling_strategy=sequential").train[0]["loss"] != t().train[0]["loss"]
    ),
    "logging_strategy": lambda t: t("logging_strategy=no").train == [],
    "logging_steps": lambda t: [line["step"] for line in t("logging_steps=0.5").train] == [1, 2, 4],
    "logging_first_step": lambda t: t("logging_first_step=false", "logging_steps=2").train[0]["step"] == 2,
    "disable_tqdm": lambda t: "step 4/4" in t("disable_tqdm=true").said,
    "eval_strategy": lambda t: t("eval_strategy=steps").evaluated == [1, 2, 3, 4],
    "eval_steps": lambda t: t("eval_strategy=steps", "eval_steps=0.5").evaluated == [2, 4],
    "eval_delay": lambda t: t(*EVERY_STEP, "eval_delay=3").evaluated == [3, 4],
    "eval_on_start": lambda t: t("eval_on_start=true").evaluated == [0],
    "save_strategy": lambda t: t(*EVERY_STEP, "save_strategy=best", "save_total_limit=null").saved == [1, 2, 3, 4],
    "save_steps": lambda t: t("save_strategy=steps", "save_steps=0.5").saved == [2, 4],
    "save_total_limit": lambda t: t("save_strategy=steps", "save_steps=1", "save_total_limit=1").saved == [4],
    "load_best_model_at_end": lambda t: same_weights(t("max_steps=1", "lr_scheduler_type=constant"), _best_is_first(t)),
    "metric_for_best_model": lambda t: len(_best_is_first(t).evaluated) == 4,
    "greater_is_better": lambda t: same_weights(t("max_steps=1", "lr_scheduler_type=constant"), _best_is_first(t)),
    "early_stopping_patience": lambda t: t(*EVERY_STEP, *WORSE, "early_stopping_patience=2").evaluated == [1, 2, 3],
    "early_stopping_threshold": lambda t: (
        t(*EVERY_STEP, "early_stopping_patience=2", "early_stopping_threshold=100").evaluated == [1, 2, 3]
    ),
    "dataloader_num_workers": lambda t: same_weights(t(), t("dataloader_num_workers=1")),
    "dataloader_persistent_workers": lambda t: same_weights(
        t(), t("dataloader_num_workers=1", "dataloader_persistent_workers=true")
    ),
    "dataloader_prefetch_factor": lambda t: same_weights(
        t(), t("dataloader_num_workers=1", "dataloader_prefetch_factor=1")
    ),
    "dataloader_pin_memory": lambda t: same_weights(t(), t("dataloader_pin_memory=false")),
    "ddp_backend": lambda t: same_weights(t(), t("ddp_backend=gloo")),  # a single process has no one to talk to
    "ddp_timeout": lambda t: same_weights(t(), t("ddp_timeout=60")),
    "ddp_bucket_cap_mb": lambda t: same_weights(t(), t("ddp_bucket_cap_mb=1")),
    "run_name": lambda t: "name-of-mine" in (t("run_name=name-of-mine").folder / "recipe.resolved.yaml").read_text(),
    "project": lambda t: (
        "project-of-mine" in (t("project=project-of-mine").folder / "recipe.resolved.yaml").read_text()
    ),
    "hub_model_id": lambda t: same_weights(t(), t("hub_model_id=me/model")),  # without push_to_hub
    "hub_private_repo": lambda t: same_weights(t(), t("hub_private_repo=true")),
    "output_dir": lambda t: t().folder.is_dir(),
}
WORSE = (
    "metric_for_best_model=heldout_loss",
    "greater_is_better=true",
)  # without `eval_`; the first evaluation is best


def _best_is_first(t: Train) -> Run:
    settings = (*EVERY_STEP, *WORSE, "lr_scheduler_type=constant", "load_best_model_at_end=true")
    return t(*settings, "save_strategy=steps", "save_steps=1")


# Values that are refused before training: settings, exit code, words of the message.
REFUSALS: list[tuple[str, int, str]] = [
    ("report_to=wandb", 3, "pip install wandb"),
    ("report_to=[none,wandb]", 3, "pip install wandb"),
    ("deepspeed=ds.json", 3, "pip install 'sftgo[deepspeed]'"),
    ("tf32=true", 2, "--tf32 requires"),
    ("torch_compile_backend=foo", 2, "torch.compile has no backend 'foo'"),
    ("torch_compile_mode=foo", 2, "torch.compile has no mode 'foo'"),
    ("push_to_hub=true training.hub_model_id=a/b/c", 2, "training.hub_model_id"),
    ("learning_rate=1e39", 2, "adamw_torch cannot make a step"),
    ("adam_beta1=1.0", 2, "Invalid beta parameter"),
    ("lr_scheduler_kwargs={a: 1}", 2, "unexpected keyword argument 'a'"),
    ("lr_scheduler_type=constant training.lr_scheduler_kwargs={a: 1}", 2, "lr_scheduler_kwargs"),
    ("lr_scheduler_type=constant training.warmup_steps=2", 2, "use constant_with_warmup"),
    ("lr_scheduler_type=reduce_lr_on_plateau", 2, "needs evaluation during training"),
    ("optim_args=1,5", 2, "'1' is no key=value"),
    ("optim=sgd training.adam_beta1=0.5", 2, "sgd has no adam_beta1"),
    ("dataloader_num_workers=99999", 2, "99999 data workers"),
    ("gradient_checkpointing=true training.gradient_checkpointing_kwargs={a: 1}", 2, "refuses it"),
    ("gradient_checkpointing_kwargs={preserve_rng_state: false}", 2, "needs gradient_checkpointing"),
    ("ddp_backend=glo", 2, "did you mean gloo?"),
    ("early_stopping_threshold=0.1", 2, "needs early_stopping_patience"),
    ("load_best_model_at_end=true", 2, "needs evaluation during training"),
    ("save_strategy=best", 2, "needs evaluation during training"),
    ("metric_for_best_model=eval_heldout_los training.eval_strategy=epoch", 2, "did you mean eval_heldout_loss?"),
]
SLOW = {"torch_compile": "compiles for a minute"}


def test_every_key_is_walked_and_documented() -> None:
    walked = {
        *CHANGES,
        *SLOW,
        *(match for case, _, _ in REFUSALS for match in re.findall(r"(?:^|training\.)(\w+)=", case)),
    }
    assert walked >= set(TrainingSection.model_fields)
    text = DOCUMENTATION.read_text()
    for key in (*TrainingSection.model_fields, *REFUSED_TRAINING_KEYS):
        assert f"`{key}`" in text, f"docs/training.md says nothing about {key}"


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_does_what_it_says(train: Train, key: str) -> None:
    assert CHANGES[key](train)


@pytest.mark.parametrize(("setting", "code", "words"), REFUSALS)
def test_what_cannot_be_is_refused_by_validate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, code: int, words: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    overrides = [f"training.output_dir={tmp_path / 'run'}", *f"training.{setting}".split(" training.")]
    overrides = [value if value.startswith("training.") else f"training.{value}" for value in overrides]
    assert main(["validate", str(tmp_path / "recipe.yaml"), *overrides]) == code
    error = capsys.readouterr().err
    assert words in error
    assert [line.count(" - ") >= 2 for line in error.splitlines() if line.startswith("error: ")] == [True]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "key",
    [
        "learning_rate",
        "weight_decay",
        "adam_epsilon",
        "max_grad_norm",
        "neftune_noise_alpha",
        "early_stopping_threshold",
        "eval_delay",
    ],
)
@pytest.mark.parametrize("value", ["1e39", pytest.param("1e308", marks=pytest.mark.slow)])
def test_numbers_beyond_float32_are_no_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    more = {"early_stopping_threshold": ["training.early_stopping_patience=1", "training.eval_strategy=epoch"]}
    overrides = [f"training.output_dir={tmp_path / 'run'}", f"training.{key}={value}", *more.get(key, [])]
    code = main(["train", str(tmp_path / "recipe.yaml"), *overrides])
    assert code in (0, 2, 4)
    assert "a bug in sftgo" not in capsys.readouterr().err


@pytest.mark.parametrize("key", REFUSED_TRAINING_KEYS)
def test_refused_keys_may_ask_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    from sftgo_cli import pipeline
    from sftgo_cli.errors import UserError

    (tmp_path / "recipe.yaml").write_text(RECIPE)
    plain = pipeline.load(tmp_path / "recipe.yaml", []).recipe
    for value in (None, *ASKING_FOR_NOTHING[key]):
        override = f"training.{key}={json.dumps(value)}"
        assert pipeline.load(tmp_path / "recipe.yaml", [override]).recipe == plain
    with pytest.raises(UserError, match=f"training.{key} is refused"):
        pipeline.load(tmp_path / "recipe.yaml", [f"training.{key}=7"])


def test_a_run_that_grows_takes_its_first_step_at_the_longer_schedule(train_module: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    command = ["train", str(recipe), f"training.output_dir={tmp_path / 'run'}", "training.save_strategy=epoch"]
    assert main([*command, "training.lr_scheduler_type=linear"]) == 0
    assert main([*command, "training.lr_scheduler_type=linear", "training.max_steps=8"]) == 0
    assert Run(tmp_path / "run", "").rates[4:] == pytest.approx([4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_intervals_may_change_on_the_way(tmp_path: Path) -> None:
    """Logging and saving intervals of the command count, not those of the checkpoint that the run resumes from."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    command = ["train", str(recipe), f"training.output_dir={tmp_path / 'run'}", "training.save_strategy=steps"]
    assert main([*command, "training.save_steps=2"]) == 0
    more = [
        "training.max_steps=8",
        "training.save_steps=1",
        "training.save_total_limit=null",
        "training.logging_steps=2",
    ]
    assert main([*command, *more]) == 0
    run = Run(tmp_path / "run", "")
    assert run.saved == [2, 4, 5, 6, 7, 8]
    assert [line["step"] for line in run.train] == [1, 2, 3, 4, 6, 8]


def test_a_failed_start_does_not_claim_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sftgo_cli.training import run as training_run

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    command = ["train", str(recipe), f"training.output_dir={tmp_path / 'run'}"]

    def fail(*args: Any) -> None:
        raise RuntimeError("no memory for the model")

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "build_trainer", fail)
        assert main([*command, "training.per_device_train_batch_size=4"]) == 1
    assert main(command) == 0
