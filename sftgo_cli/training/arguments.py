"""Maps the recipe's `training` section to the installed `transformers.TrainingArguments`: the only file that knows both.

Recipe keys are ours and stay; when a transformers release renames an option, the change is here. Written for
transformers 5.23: `warmup_steps` below 1 is a ratio, `activation_checkpointing` replaces `gradient_checkpointing`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import UserError, UserErrors, nearest
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.training.imports import import_libraries

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Keys with the same name and meaning on both sides.
SAME = [
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "optim",
    "optim_args",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "seed",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
    "tf32",
    "use_cpu",
    "full_determinism",
    "neftune_noise_alpha",
    "train_sampling_strategy",
    "logging_strategy",
    "logging_steps",
    "logging_first_step",
    "report_to",
    "run_name",
    "project",
    "eval_steps",
    "eval_delay",
    "eval_on_start",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "load_best_model_at_end",
    "greater_is_better",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    "ddp_backend",
    "ddp_timeout",
    "ddp_bucket_cap_mb",
    "deepspeed",
]


def first_metric(recipe: Recipe) -> str | None:
    """The metric that chooses the best checkpoint by default: the first evaluation set's loss."""
    first = next(iter(recipe.data.eval), None)
    return None if first is None else f"eval_{first}_loss"


def training_arguments(recipe: Recipe, output_dir: Path, resuming: bool) -> TrainingArguments:
    """The Trainer's arguments for a recipe.

    Raises:
        UserError: transformers refuses the combination; its first line is passed on.
    """
    import torch
    from transformers import TrainingArguments

    section = recipe.training
    values: dict[str, Any] = {name: getattr(section, name) for name in SAME}
    values = {name: value for name, value in values.items() if value is not None}
    values["output_dir"] = str(output_dir)
    values["data_seed"] = section.seed if section.data_seed is None else section.data_seed
    values["warmup_steps"] = section.warmup_steps if section.warmup_steps is not None else section.warmup_ratio or 0
    # Said explicitly where there is nothing else: processes then join over gloo, and bfloat16 is allowed.
    values["use_cpu"] = section.use_cpu or not torch.accelerator.is_available()
    values["bf16"] = recipe.model.dtype == "bfloat16"
    values["fp16"] = recipe.model.dtype == "float16"
    values["eval_strategy"] = section.eval_strategy or ("epoch" if recipe.data.eval else "no")
    values["eval_on_start"] = section.eval_on_start and not resuming
    values["metric_for_best_model"] = section.metric_for_best_model or first_metric(recipe)
    if section.greater_is_better is None and values["metric_for_best_model"]:
        values["greater_is_better"] = not values["metric_for_best_model"].endswith(("loss", "perplexity"))
    if section.gradient_checkpointing:
        values["activation_checkpointing"] = True
        # Reentrant checkpointing needs inputs that require grad, which frozen embeddings (LoRA) do not give.
        values["activation_checkpointing_kwargs"] = {
            "use_reentrant": False,
            **(section.gradient_checkpointing_kwargs or {}),
        }
    values.update(FIXED)
    try:
        return TrainingArguments(**values)
    except (ValueError, ImportError, TypeError) as error:
        raise UserError(
            f"transformers refuses these training options: {str(error).splitlines()[0]}", "training", "change them"
        ) from error


def check_names(recipe: Recipe) -> None:
    """Names that only transformers knows, checked before any data is prepared.

    Raises:
        UserErrors: an unknown scheduler, optimizer or tracker; with the nearest name.
    """
    import_libraries()
    from transformers.integrations import get_available_reporting_integrations
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    section = recipe.training
    trackers = [section.report_to] if isinstance(section.report_to, str) else section.report_to
    chosen = [("lr_scheduler_type", section.lr_scheduler_type, [str(item.value) for item in SchedulerType])]
    chosen += [("optim", section.optim, [str(item.value) for item in OptimizerNames])]
    chosen += [("report_to", name, ["none", "all", *get_available_reporting_integrations()]) for name in trackers]
    errors = []
    for key, name, known in chosen:
        if name not in known:
            close = nearest(name, known)
            fix = f"did you mean {close}?" if close else f"available here: {', '.join(known)}"
            errors.append(UserError(f"{name!r} is not available", f"training.{key}", fix))
    if errors:
        raise UserErrors(errors)


# What sftgo's exactness rests on, whatever the recipe says.
FIXED: dict[str, Any] = {
    "remove_unused_columns": False,
    "ddp_find_unused_parameters": False,
    "logging_nan_inf_filter": False,
    "disable_tqdm": True,  # our own progress display replaces it
    "prediction_loss_only": True,
    "restore_callback_states_from_checkpoint": False,
}
