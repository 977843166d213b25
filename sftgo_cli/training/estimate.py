"""What a training would take, without loading weights: steps, parameters, memory of what must be held at once.

    bytes = weights + gradients (trainable) + Adam's two moments (trainable, parameter type) + logits of one micro-batch

Activations depend on the architecture and attention and are not estimated; gradient checkpointing shrinks them.
"""

from __future__ import annotations

from typing import Any

from sftgo_cli.data.rows import loss_table
from sftgo_cli.training.run import TrainingInputs, planned_steps, step_sampler

GIB = 1024**3


def estimate_lines(inputs: TrainingInputs, num_processes: int) -> list[str]:
    """Readable lines for `train --dry-run`."""
    recipe = inputs.recipe
    sampler = step_sampler(recipe, inputs.train, loss_table(inputs.train), 0, num_processes)
    steps = planned_steps(recipe, sampler)
    what = "bins" if recipe.data.packing else "rows"
    model = _meta_model(inputs)
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    moments = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    tokens = recipe.training.per_device_train_batch_size * recipe.data.max_length
    logits = tokens * model.config.vocab_size * 4
    return [
        f"steps: {steps} ({sampler.steps_per_epoch} per epoch of {sampler.num_bins} {what}, "
        f"{sampler.bins_per_step} {what} per step on {num_processes} process(es))",
        f"parameters: {total:,}, trainable {trainable:,} ({trainable / total:.2%})",
        f"memory per device, at most, without activations: weights {weights / GIB:.2f} GiB, gradients "
        f"{moments / 2 / GIB:.2f} GiB, optimizer {moments / GIB:.2f} GiB, logits {logits / GIB:.2f} GiB",
    ]


def _meta_model(inputs: TrainingInputs) -> Any:
    """The tuned model without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from sftgo_cli.base_model import resolve_name, torch_dtype

    section = inputs.recipe.model
    options = inputs.recipe.tuning.options
    config = AutoConfig.from_pretrained(
        resolve_name(section.name_or_path, inputs.recipe_dir),
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
    )
    dtype = torch_dtype(inputs.tuner.base_dtype(options, section.dtype))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=section.trust_remote_code)
        return inputs.tuner.apply(model, options)
