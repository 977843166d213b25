"""What a training would take, without loading weights: steps, parameters, memory of what must be held at once.

    bytes = weights + gradients (trainable) + Adam's two moments (trainable, parameter type) + logits of one micro-batch

Activations depend on the architecture and attention and are not estimated; gradient checkpointing shrinks them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sftgo_cli.base_model import check_embeds, load_base_model, model_config, torch_dtype
from sftgo_cli.data.collation import pad_token_id
from sftgo_cli.data.rows import loss_table
from sftgo_cli.model_source import model_source
from sftgo_cli.training.inputs import TrainingInputs, planned_steps, step_sampler
from sftgo_cli.training.model import load_model, num_logits, probe_model, unpacked

GIB = 1024**3
PROBED_BYTES = GIB  # of a model's weights: those of a smaller one are loaded in seconds


def estimate_lines(inputs: TrainingInputs, num_processes: int, say: Callable[[str], None]) -> list[str]:
    """Readable lines for `train --dry-run`.

    Raises:
        UserError, EnvironmentProblem: the model cannot be loaded or trained as the recipe says.
    """
    model, packs = _checked_model(inputs, say)
    recipe = inputs.recipe if packs else unpacked(inputs.recipe)
    sampler = step_sampler(recipe, inputs.train, loss_table(inputs.train), 0, num_processes)
    steps = planned_steps(recipe, sampler)
    what = "bins" if recipe.data.packing else "rows"
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    moments = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    tokens = recipe.training.per_device_train_batch_size * recipe.data.max_length
    logits = tokens * num_logits(model) * 4
    return [
        f"steps: {steps} ({sampler.steps_per_epoch} per epoch of {sampler.num_bins} {what}, "
        f"{sampler.bins_per_step} {what} per step on {num_processes} {'process' if num_processes == 1 else 'processes'})",
        f"parameters: {total:,}, trainable {trainable:,} ({trainable / total:.2%})",
        f"memory per device, at most, without activations: weights {_size(weights)}, gradients "
        f"{_size(moments / 2)}, optimizer {_size(moments)}, logits {_size(logits)}",
    ]


def _size(num_bytes: float) -> str:
    """`1.25 GiB`, below a tenth of that `12.3 MiB`."""
    return f"{num_bytes / GIB:.2f} GiB" if num_bytes >= GIB / 10 else f"{num_bytes / 1024**2:.1f} MiB"


def _checked_model(inputs: TrainingInputs, say: Callable[[str], None]) -> tuple[Any, bool]:
    """The tuned model, and whether it can take packed rows as far as is known: a small one is loaded and probed as for
    training, a larger one has no memory for its weights."""
    section = inputs.recipe.model
    folder = Path(model_source(section, inputs.recipe_dir).weights)
    model = _model_without_memory(inputs)
    if not folder.is_dir() or section.quantization is not None:
        return model, True
    if sum(path.stat().st_size for path in folder.glob("*.safetensors")) > PROBED_BYTES:
        say("the model's weights are checked, not run: what only its logits show, the start of a training says")
        return model, True
    model = load_model(inputs, say)
    dtype = None if section.dtype == "float32" else torch_dtype(section.dtype)
    return model, probe_model(model, inputs.recipe, pad_token_id(inputs.tokenizer), dtype, say).isolates


def _model_without_memory(inputs: TrainingInputs) -> Any:
    """The tuned model on torch's meta device. A local folder's weights are checked all the same: names, shapes, files."""
    import torch
    from transformers import AutoModelForCausalLM

    section = inputs.recipe.model
    options = inputs.recipe.tuning.options
    dtype = inputs.tuner.base_dtype(options, section.dtype)
    source = model_source(section, inputs.recipe_dir)
    if Path(source.weights).is_dir():
        model: Any = load_base_model(section, inputs.recipe_dir, dtype, without_memory=True)
        check_embeds(model, len(inputs.tokenizer), f"model.name_or_path: {section.name_or_path}")
        return inputs.tuner.apply(model, options)
    config = model_config(source.weights, source.revision, section)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch_dtype(dtype), trust_remote_code=section.trust_remote_code
        )
        return inputs.tuner.apply(model, options)
