"""The model that a run trains: loaded with its loss head, tuned, and probed where it lies and in the compute type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sftgo_cli.base_model import check_embeds, load_base_model, new_token_ids
from sftgo_cli.data.collation import needs_one_sequence
from sftgo_cli.data.endings import stop_at_end_of_turn
from sftgo_cli.errors import UserError
from sftgo_cli.losses import head, head_probe
from sftgo_cli.new_tokens import train_new_rows
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.training.packing_probe import Leak, leak

if TYPE_CHECKING:
    from sftgo_cli.training.inputs import TrainingInputs

Say = Callable[[str], None]
MOST_CHECKED = 1_000_000_000  # parameters whose gradients are all computed once at the start; of more, the first's


@dataclass(frozen=True)
class Probed:
    """What the probes found: whether samples of one sequence do not see each other."""

    isolates: bool


def load_model(inputs: TrainingInputs, say: Say) -> Any:
    """Base model with its loss head, tuned; seeded first, so that adapters start the same everywhere."""
    from transformers import set_seed

    recipe = inputs.recipe
    set_seed(recipe.training.seed)
    options = recipe.tuning.options
    model = load_base_model(recipe.model, inputs.recipe_dir, inputs.tuner.base_dtype(options, recipe.model.dtype))
    check_embeds(model, len(inputs.tokenizer), f"model.name_or_path: {recipe.model.name_or_path}")
    stop_at_end_of_turn(model, inputs.tokenizer, inputs.template)
    head.attach(model)
    tuned = inputs.tuner.apply(model, options, say)
    ids = new_token_ids(recipe.model, inputs.recipe_dir)
    if ids and hasattr(tuned, "peft_config"):
        train_new_rows(tuned, ids)
    return tuned


def num_logits(model: Any) -> int:
    """How many tokens the model's head predicts."""
    output = model.get_output_embeddings()
    weight = (model.get_input_embeddings() if output is None else output).weight
    return int(weight.shape[0])


def mixed_type(args: Any) -> torch.dtype | None:
    """The type in which the Trainer's autocast computes, None where it does not."""
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None


def probe_model(model: Any, recipe: Recipe, pad_token_id: int, autocast: torch.dtype | None, say: Say) -> Probed:
    """Find the way to the model's losses, and whether it isolates packed samples.

    Raises:
        UserError: the model is not causal, or the recipe asks for packing and its samples would see each other.
    """
    device = next(model.parameters()).device
    if device.type == "cpu" and needs_one_sequence(model.config):
        return Probed(recipe.data.packing)  # sharded later by the wrapper; flash attention runs on accelerators only
    with torch.autocast(device.type, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        where = f"model.name_or_path: {recipe.model.name_or_path}"
        slower = head_probe.fit(model, where)
        if slower is not None:
            say(slower)
        check_trains(model, where)
        found = leak(model, pad_token_id)
    if recipe.data.packing and not found.isolated:
        _cannot_pack(found, "packing" in recipe.data.model_fields_set, say)
    return Probed(found.isolated)


def check_trains(model: Any, where: str) -> None:
    """Forward and backward of an odd number of tokens in training mode, which some architectures do not allow. Leaves no
    gradients, and the random state as it was.

    Raises:
        UserError: the model says why it cannot be trained so.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    input_ids = head_probe.probe_ids(causal)[:, :-1]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.numel() > 0]
    small = sum(parameter.numel() for parameter in trainable) <= MOST_CHECKED
    was_training = model.training
    model.train()
    try:
        with torch.random.fork_rng(devices=[input_ids.device] if input_ids.is_cuda else []), torch.enable_grad():
            nll_N = model(input_ids=input_ids, supervised_labels=input_ids)["nll"]
            torch.autograd.grad(nll_N.sum(), trainable if small else trainable[:1], allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models raise whatever they like
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{type(causal).__name__} cannot be trained: {reason}", where, "use another model") from error
    finally:
        model.train(was_training)


def unpacked(recipe: Recipe) -> Recipe:
    """The recipe with packing off."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"packing": False})})


def _cannot_pack(found: Leak, was_asked: bool, say: Say) -> None:
    if was_asked:
        raise UserError(
            f"{found.reason}, so rows cannot be packed",
            "data.packing",
            "set data.packing: false, or choose another model.attn_implementation",
        )
    say(f"data.packing: false, because {found.reason}; a batch now counts rows")
