"""Checks at start that packing isolates samples in this model: change one sample, the other's losses must stay.

transformers isolates packed samples when position_ids restart and no attention mask is given; an architecture that
ignores position_ids (or mixes along the sequence by other means, such as a recurrent state) fails here, not silently.
"""

from __future__ import annotations

import inspect
from typing import Any

from sftgo_cli.columns import INPUT_IDS, LABELS
from sftgo_cli.data.collation import Collator, needs_one_sequence
from sftgo_cli.errors import UserError

SAMPLE_LENGTH = 8
TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2}


def check_packing(model: Any, vocab_size: int, pad_token_id: int) -> None:
    """Raises UserError when samples of one sequence see each other."""
    difference, isolated = leak(model, vocab_size, pad_token_id)
    if not isolated:
        raise UserError(
            f"{type(model).__name__} lets packed samples see each other (a neighbor changes a loss by {difference:.3g})",
            "data.packing",
            "set data.packing: false, or choose another model.attn_implementation",
        )


def leak(model: Any, vocab_size: int, pad_token_id: int) -> tuple[float, bool]:
    """By how much the second sample's losses differ behind two different first samples, and whether that is rounding."""
    import numpy as np
    import torch

    if not _takes_positions(model):
        return float("inf"), False
    from sftgo_cli.objectives.micro_batch import MODEL_INPUTS

    device = next(model.parameters()).device
    generator = np.random.default_rng(0)
    first, other, second = generator.integers(0, vocab_size, size=(3, SAMPLE_LENGTH))
    collator = Collator(
        pad_token_id, packed=True, pad_to=2 * SAMPLE_LENGTH + 3, one_sequence=needs_one_sequence(model.config)
    )

    def losses(leading: Any) -> torch.Tensor:
        rows = [{INPUT_IDS: ids, LABELS: ids} for ids in (leading, second)]
        # Two bins, as in training: some attention kernels isolate samples only in a batch of one.
        batch: dict[str, Any] = {
            name: value.to(device) for name, value in collator([rows, rows]).items() if hasattr(value, "to")
        }
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        nll_N: torch.Tensor = model(**inputs, supervised_labels=batch["labels"])["nll"]
        return nll_N.view(2, 2, SAMPLE_LENGTH - 1)[:, 1].double()

    was_training = model.training
    model.eval()
    with torch.no_grad():
        difference = float((losses(first) - losses(other)).abs().max())
    model.train(was_training)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    within = difference <= TOLERANCE.get(dtype, TOLERANCE["bfloat16"])
    return difference, within or difference != difference  # a base model with NaN weights: the first step says so


def _takes_positions(model: Any) -> bool:
    """Whether the backbone has `position_ids` at all; without them it cannot know where a sample begins."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone = getattr(causal, causal.base_model_prefix, causal)
    return "position_ids" in inspect.signature(type(backbone).forward).parameters
