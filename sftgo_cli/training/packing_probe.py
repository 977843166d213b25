"""Checks at start that packing isolates samples in this model: a sample's losses must be those that it has alone.

transformers isolates packed samples when position_ids restart and no attention mask is given; an architecture that
ignores position_ids (or mixes along the sequence by other means, such as a recurrent state) fails here, not silently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sftgo_cli.columns import INPUT_IDS, LABELS
from sftgo_cli.data.collation import Collator, needs_one_sequence
from sftgo_cli.losses.head_probe import probe_ids

SAMPLE_LENGTH = 8
TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2}


@dataclass(frozen=True)
class Leak:
    """By how much a neighbor in the sequence changes a sample's losses, and whether that is rounding; why, for messages."""

    difference: float
    isolated: bool
    reason: str


def leak(model: Any, pad_token_id: int) -> Leak:
    """Compare a sample's losses behind two different neighbors with one another and with its losses alone."""
    from sftgo_cli.objectives.micro_batch import MODEL_INPUTS

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids = probe_ids(causal)[0].tolist()
    first, second = ids[:SAMPLE_LENGTH], ids[SAMPLE_LENGTH : 2 * SAMPLE_LENGTH]
    device = next(model.parameters()).device
    pad_to = 2 * SAMPLE_LENGTH + 3
    packed = Collator(pad_token_id, packed=True, pad_to=pad_to, one_sequence=needs_one_sequence(model.config))
    padded = Collator(pad_token_id, packed=False, pad_to=pad_to)

    def losses(collator: Collator, *samples: list[int]) -> Tensor:
        rows = [{INPUT_IDS: sample, LABELS: sample} for sample in samples]
        # Two bins, as in training: some attention kernels isolate samples only in a batch of one.
        batch: dict[str, Any] = {
            name: value.to(device) for name, value in collator([rows, rows]).items() if isinstance(value, Tensor)
        }
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        nll_N: Tensor = model(**inputs, supervised_labels=batch["labels"])["nll"]
        return nll_N.view(2, len(samples), SAMPLE_LENGTH - 1)[:, -1].double()

    was_training = model.training
    model.eval()
    name = type(causal).__name__
    try:
        with torch.no_grad():
            alone = losses(padded, second)
            neighbors = [losses(packed, leading, second) for leading in (first, first[::-1])]
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        return Leak(math.inf, False, f"{name} does not take packed samples ({first_line})")
    finally:
        model.train(was_training)
    difference = max(float((each - other).abs().max()) for each in neighbors for other in (alone, neighbors[0]))
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    if torch.is_autocast_enabled(device.type):
        dtype = str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")
    within = difference <= TOLERANCE.get(dtype, TOLERANCE["bfloat16"]) * max(1.0, float(alone.abs().max()) / 10)
    reason = f"{name} lets packed samples see each other (a neighbor changes a loss by {difference:.3g})"
    return Leak(difference, within or math.isnan(difference), reason)  # NaN weights: the first step says so
