"""A micro-batch as the objective sees it: flat supervised tokens, and the sums that the step's totals are made of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sftgo_cli.columns import IGNORE_INDEX
from sftgo_cli.objectives.group_losses import StepTotals, SupervisedTokens

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")


def supervised_tokens(
    outputs: Mapping[str, Any],
    batch: Mapping[str, Any],
    num_groups: int,
    token_columns: Sequence[str] = (),
    row_columns: Sequence[str] = (),
) -> SupervisedTokens:
    """Per-token columns of the supervised positions, in the order in which the loss head returns their losses.

    Position 0 of a sequence predicts nothing and is never supervised (the collator sees to it).

    Args:
        outputs: the loss head's, by name: `nll` and the further terms that were asked for, each [N].
        token_columns, row_columns: names of columns of the data that the batch carries for the objective.
    """
    mask_BT = batch["labels"][:, 1:] != IGNORE_INDEX
    return SupervisedTokens(
        nll_N=outputs["nll"],
        group_ids_N=batch["group_ids"][:, 1:][mask_BT],
        token_weights_N=batch["token_weights"][:, 1:][mask_BT].double(),
        sample_N=batch["sample_index"][:, 1:][mask_BT],
        row_weights_S=batch["row_weights"],
        num_groups=num_groups,
        terms={name: value for name, value in outputs.items() if name not in ("nll", "loss", "auxiliary_loss")},
        columns={name: batch[name][:, 1:][mask_BT] for name in token_columns},
        row_columns={name: batch[name] for name in row_columns},
    )


def part_of(
    tokens: SupervisedTokens, ends: Sequence[int], start: int, stop: int, terms: Mapping[str, Tensor]
) -> SupervisedTokens:
    """The tokens from `start` to `stop`, whole samples, with their losses: a micro-batch of its own.

    Args:
        ends: where each sample's tokens end, ascending.
        terms: `nll` and further quantities of these tokens, each [stop - start].
    """
    first, last = bisect_right(ends, start), bisect_left(ends, stop) + 1
    return SupervisedTokens(
        nll_N=terms["nll"],
        group_ids_N=tokens.group_ids_N[start:stop],
        token_weights_N=tokens.token_weights_N[start:stop],
        sample_N=tokens.sample_N[start:stop] - first,
        row_weights_S=tokens.row_weights_S[first:last],
        num_groups=tokens.num_groups,
        terms={name: value for name, value in terms.items() if name != "nll"},
        columns={name: values[start:stop] for name, values in tokens.columns.items()},
        row_columns={name: values[first:last] for name, values in tokens.row_columns.items()},
    )


def local_totals(batches: Sequence[dict[str, Any]], num_groups: int, stop_vote: float) -> Tensor:
    """This rank's sums over a step, float64: [stop, weight, row_weight, samples, tokens, weight per group...]."""
    total = torch.zeros(5 + num_groups, dtype=torch.float64)
    total[0] = stop_vote
    for batch in batches:
        tokens = supervised_tokens({"nll": torch.empty(0)}, batch, num_groups)
        weights_N = tokens.token_weights_N * tokens.row_weights_S[tokens.sample_N]
        total[1] += weights_N.sum()
        total[2] += tokens.row_weights_S.sum()
        total[3] += tokens.row_weights_S.shape[0]
        total[4] += batch["num_tokens"]
        total[5:].index_add_(0, tokens.group_ids_N, weights_N)
    return total


def step_totals(reduced: Tensor) -> tuple[StepTotals, float]:
    """The totals of the whole step and the number of ranks that want to stop."""
    totals = StepTotals(
        weight=reduced[1],
        row_weight=reduced[2],
        num_samples=reduced[3],
        num_tokens=reduced[4],
        group_weight_G=reduced[5:],
    )
    return totals, float(reduced[0])
