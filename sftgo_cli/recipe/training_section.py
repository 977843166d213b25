"""The recipe's `training`: the Trainer's own option names with our defaults, and the options that are refused.

`training/arguments.py` maps this section to the installed `transformers.TrainingArguments`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from sftgo_cli.recipe.field_types import (
    Fraction,
    Interval,
    NonEmpty,
    NonNegative,
    NonNegativeInt,
    OpenFraction,
    Positive,
    PositiveInt,
    SafeName,
    SaveInterval,
    Seed,
    Steps,
)
from sftgo_cli.recipe.options import StrictModel
from sftgo_cli.recipe.trainer_names import OPTIMIZERS, SCHEDULES


def completed(names: Iterable[str]) -> dict[str, Any]:
    """For the JSON schema: names that an editor completes; `sftgo validate` says what is wrong with another one."""
    return {"anyOf": [{"enum": list(names)}, {"type": "string"}]}


class TrainingSection(StrictModel):
    """The Trainer's own option names, with our defaults; the refused ones are listed in `REFUSED_TRAINING_KEYS`."""

    output_dir: NonEmpty = Field(description="The run's folder, relative to the working directory")
    num_train_epochs: Positive = Field(3.0, description="Passes over the training rows")
    max_steps: Annotated[int, Field(ge=-1)] = Field(
        -1, description="Stop after this many optimizer steps; -1: by epochs"
    )
    learning_rate: NonNegative | None = Field(
        None, description="Peak learning rate; null: 1e-5 for full fine-tuning, 1e-4 for LoRA"
    )
    per_device_train_batch_size: PositiveInt = Field(
        8, description="Rows (bins when packing) per micro-batch and device"
    )
    per_device_eval_batch_size: PositiveInt = Field(8, description="Rows per evaluation batch and device")
    gradient_accumulation_steps: PositiveInt = Field(1, description="Micro-batches per optimizer step")
    lr_scheduler_type: str = Field(
        "cosine",
        description="Schedule of the learning rate; where it is not given, constant for schedule_free_*",
        json_schema_extra=completed(SCHEDULES),
    )
    lr_scheduler_kwargs: dict[str, Any] | None = Field(None, description="Extra arguments of the scheduler")
    warmup_ratio: Fraction | None = Field(None, description="Share of the steps that warms the learning rate up")
    warmup_steps: NonNegativeInt | OpenFraction | None = Field(
        None, description="Steps (below 1: their share) that warm the learning rate up; instead of warmup_ratio"
    )
    optim: str = Field(
        "adamw_torch",
        description="Optimizer: adamw_torch, adafactor, muon, ...",
        json_schema_extra=completed(OPTIMIZERS),
    )
    optim_args: str | None = Field(None, description="Further arguments of the optimizer, as key=value,...")
    weight_decay: NonNegative = Field(0.0, description="Decay of the weights")
    adam_beta1: Fraction = Field(0.9, description="Decay of the first moment")
    adam_beta2: Fraction = Field(0.999, description="Decay of the second moment")
    adam_epsilon: Positive = Field(1e-8, description="Adam's epsilon")
    max_grad_norm: NonNegative = Field(1.0, description="Clip gradients to this norm; 0 does not clip")
    seed: Seed = Field(42, description="Seed of everything random")
    data_seed: Seed | None = Field(None, description="Order of the rows; default: seed")
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory")
    gradient_checkpointing_kwargs: dict[str, Any] | None = Field(None, description="Extra arguments of checkpointing")
    torch_compile: bool = Field(False, description="Compile the model")
    torch_compile_backend: str | None = Field(None, description="Backend of torch.compile")
    torch_compile_mode: str | None = Field(None, description="Mode of torch.compile")
    tf32: bool | None = Field(None, description="Allow TF32 on the GPU; null keeps the default")
    use_cpu: bool = Field(False, description="Train on the CPU even if there is a GPU")
    full_determinism: bool = Field(False, description="Deterministic kernels only (slower)")
    neftune_noise_alpha: Positive | None = Field(None, description="Strength of NEFTune noise")
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = Field(
        "random", description="Order of the training rows"
    )
    logging_strategy: Literal["no", "steps", "epoch"] = Field("steps", description="When a line goes to metrics.jsonl")
    logging_steps: Steps = Field(10, description="Steps between log lines; below 1: a share of the run")
    logging_first_step: bool = Field(True, description="Log the first step too")
    report_to: str | list[str] = Field("none", description="Trackers: none, wandb, tensorboard, ... or a list")
    run_name: SafeName | None = Field(None, description="The run's name for trackers")
    project: str = Field("huggingface", description="The trackers' project")
    disable_tqdm: bool | None = Field(None, description="true: lines instead of the progress bar")
    eval_strategy: Interval | None = Field(None, description="Default: epoch when there are evaluation sets, else no")
    eval_steps: Steps | None = Field(
        None, description="Steps between evaluations; below 1: a share of the run; default: logging_steps"
    )
    eval_delay: NonNegative = Field(0.0, description="Epochs or steps before the first evaluation")
    eval_on_start: bool = Field(False, description="Evaluate before training")
    save_strategy: SaveInterval = Field(
        "epoch", description="When a checkpoint is saved; best: at each new best metric"
    )
    save_steps: Steps = Field(500, description="Steps between checkpoints; below 1: a share of the run")
    save_total_limit: PositiveInt | None = Field(
        2, description="Checkpoints kept, besides the best one; with 1 there is none to fall back to"
    )
    load_best_model_at_end: bool = Field(False, description="End with the best checkpoint")
    metric_for_best_model: str | None = Field(None, description="Default: eval_<first set>_loss")
    greater_is_better: bool | None = Field(None, description="Whether a larger metric is better; null: by its name")
    early_stopping_patience: PositiveInt | None = Field(
        None, description="Stop after N evaluations without improvement"
    )
    early_stopping_threshold: NonNegative = Field(0.0, description="What counts as an improvement")
    push_to_hub: bool = Field(False, description="Upload the finished run to the Hub")
    hub_model_id: str | None = Field(None, description="Name of the Hub repository")
    hub_private_repo: bool | None = Field(None, description="Whether the repository is private")
    dataloader_num_workers: NonNegativeInt = Field(0, description="Processes that load data")
    dataloader_pin_memory: bool = Field(True, description="Pin host memory for faster copies")
    dataloader_persistent_workers: bool = Field(False, description="Keep the workers between epochs")
    dataloader_prefetch_factor: PositiveInt | None = Field(None, description="Batches each worker loads ahead")
    ddp_backend: str | None = Field(None, description="nccl, gloo, ...; null chooses")
    ddp_timeout: PositiveInt = Field(1800, description="Seconds to wait for other processes")
    ddp_bucket_cap_mb: PositiveInt | None = Field(None, description="Size of gradient buckets in MB")
    deepspeed: str | None = Field(None, description="DeepSpeed JSON file")


# Values of refused keys that ask for what is done anyway: they are accepted and dropped; null is for every key.
ASKING_FOR_NOTHING: dict[str, tuple[Any, ...]] = {
    "label_smoothing_factor": (0, False),
    "use_liger_kernel": (False,),
    "auto_find_batch_size": (False,),
    "ignore_data_skip": (False,),
    "context_parallel_size": (0, 1),
    "average_tokens_across_devices": (True,),
    "dataloader_drop_last": (False,),
    "bf16": (False,),
    "fp16": (False,),
    "logging_nan_inf_filter": (False,),
    "logging_dir": ("",),
    "group_by_length": (False,),
    "remove_unused_columns": (False,),
    "resume_from_checkpoint": (False, ""),
    "fsdp": (False, "", []),
    "fsdp_config": ({}, ""),
    "hub_strategy": ("end",),
    "do_train": (True,),
    "do_eval": (True,),
    "local_rank": (-1,),
}


def without_idle_keys(training: Any) -> Any:
    """The section's plain data without refused keys whose value asks for nothing."""
    if not isinstance(training, dict):
        return training
    return {
        key: value
        for key, value in training.items()
        if key not in ASKING_FOR_NOTHING or not (value is None or value in ASKING_FOR_NOTHING[key])
    }


REFUSED_TRAINING_KEYS: dict[str, str] = {
    "label_smoothing_factor": "the loss is exactly the objective's; remove it",
    "use_liger_kernel": "it replaces the loss and drops per-token weights; sftgo has its own head",
    "auto_find_batch_size": "it would change the optimizer step's rows silently; set per_device_train_batch_size",
    "ignore_data_skip": "resuming would train rows twice; sftgo restores the exact position",
    "context_parallel_size": "context parallelism would split samples across ranks; not supported",
    "average_tokens_across_devices": "always exact over the whole optimizer step; remove it",
    "dataloader_drop_last": "no row is ever dropped; remove it",
    "bf16": "set model.dtype: bfloat16",
    "fp16": "set model.dtype: float16",
    "logging_nan_inf_filter": "it hides divergence; sftgo stops instead",
    "logging_dir": "the run's folder holds metrics.jsonl; trackers choose their own folder",
    "group_by_length": "use train_sampling_strategy: group_by_length",
    "remove_unused_columns": "per-token columns must reach the loss; remove it",
    "resume_from_checkpoint": "run the same command again: it resumes by itself",
    "fsdp": "sharding is how the machine runs: -- --config_file configs/accelerate/fsdp2.yaml",
    "fsdp_config": "sharding is how the machine runs: -- --config_file configs/accelerate/fsdp2.yaml",
    "hub_strategy": "the finished run is uploaded once, when it is complete; remove it",
    "do_train": "use `sftgo train`",
    "do_eval": "use `sftgo eval` or training.eval_strategy",
    "local_rank": "ranks come from the launcher",
}
