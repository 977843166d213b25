"""Maps the recipe's `training` section to the installed `transformers.TrainingArguments`: the only file that knows both.

Recipe keys are ours and stay; when a transformers release renames an option, the change is here. Written for
transformers 5.23: `warmup_steps` below 1 is a ratio, `activation_checkpointing` replaces `gradient_checkpointing`.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.trainer_names import MUON
from sftgo_cli.recipe.training_findings import best_metric, eval_strategy
from sftgo_cli.recipe.training_section import TrainingSection

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Keys with the same name and meaning on both sides.
SAME = [
    "num_train_epochs",
    "max_steps",
    "learning_rate",  # filled in by now
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
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
    "ddp_timeout",
    "ddp_bucket_cap_mb",
    "deepspeed",
]


def _warm_up(section: TrainingSection) -> float:
    """Steps, or below 1 their share, as the Trainer has it in one number: all of them is just below 1."""
    if section.warmup_steps is not None:
        return section.warmup_steps
    return min(section.warmup_ratio or 0.0, math.nextafter(1.0, 0.0))


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
    values["warmup_steps"] = _warm_up(section)
    values["optim"] = "adamw_torch" if section.optim == MUON else section.optim  # the optimizer itself: optimizers.py
    values["logging_first_step"] = section.logging_first_step and section.logging_strategy != "no"
    if section.ddp_backend is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        values["ddp_backend"] = section.ddp_backend  # a single process would wait for others
    # Said explicitly where there is nothing else: processes then join over gloo, and bfloat16 is allowed.
    values["use_cpu"] = section.use_cpu or not torch.accelerator.is_available()
    values["bf16"] = recipe.model.dtype == "bfloat16"
    values["fp16"] = recipe.model.dtype == "float16"
    values["eval_strategy"] = eval_strategy(recipe)
    values["eval_on_start"] = section.eval_on_start and not resuming
    values["metric_for_best_model"] = best_metric(recipe)
    if section.greater_is_better is None and values["metric_for_best_model"]:
        values["greater_is_better"] = not any(
            name in values["metric_for_best_model"] for name in ("loss", "perplexity")
        )
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
        raise refused(error) from error


def refused(error: Exception) -> UserError:
    """What transformers, accelerate or torch says about the training options, in one line."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"transformers refuses these training options: {reason}", "training", "change them")


# What sftgo's exactness rests on, whatever the recipe says.
FIXED: dict[str, Any] = {
    "remove_unused_columns": False,
    "ddp_find_unused_parameters": False,
    "logging_nan_inf_filter": False,
    "disable_tqdm": True,  # our own progress display replaces it
    "prediction_loss_only": True,
    "restore_callback_states_from_checkpoint": False,
}
