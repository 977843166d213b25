"""Held-out loss of one evaluation set: overall, per group, worst group, token accuracy; running sums only.

    loss = sum of l / number of supervised tokens             l = -log p(token | before), nats, unweighted
    group_loss/k = the same over the tokens of group k        perplexity = exp(loss)
    worst_group_loss = mean over rows of max_k L_k(row)       L_k(row) = mean of l over the row's tokens of group k

Every row counts once, whatever the batch size and the number of processes. Logits are never kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sftgo_cli.data.collation import Collator
from sftgo_cli.data.rows import TokenTable, loss_table
from sftgo_cli.data.sampling import EvaluationSampler
from sftgo_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from torch import Tensor


@dataclass(frozen=True)
class EvaluationSet:
    """Rows of one set, how they are batched on this rank, and the number of groups."""

    rows: TokenTable
    sampler: EvaluationSampler
    collator: Collator
    num_groups: int


def evaluation_set(
    datasets: Sequence[Dataset], recipe: Recipe, pad_id: int, rank: int = 0, world: int = 1
) -> EvaluationSet:
    """One evaluation set on this rank; never packed, so that its numbers do not depend on packing."""
    table = loss_table(datasets)
    sampler = EvaluationSampler(table.lengths, recipe.training.per_device_eval_batch_size, rank, world)
    return EvaluationSet(table, sampler, Collator(pad_id, packed=False), recipe.grouping.num_groups())


def evaluate_set(
    model: Any,
    evaluation_set: EvaluationSet,
    device: torch.device,
    all_reduce: Callable[[Tensor], Tensor] = lambda vector: vector,
    on_batch: Callable[[int], None] = lambda num_rows: None,
) -> dict[str, Any]:
    """Measure one set with `model` (wrapped or not, its loss head attached).

    Returns:
        loss, perplexity, token_accuracy, num_tokens, num_rows, worst_group_loss, group_loss/<k>, group_tokens/<k>;
        undefined values are None.
    """
    import torch

    was_training = model.training
    model.eval()
    cpu_state = torch.random.get_rng_state()
    sums = torch.zeros(5 + 2 * evaluation_set.num_groups, dtype=torch.float64, device=device)
    with torch.no_grad():
        for bins in evaluation_set.sampler:
            batch = evaluation_set.collator(evaluation_set.rows.__getitems__(bins))
            sums += _batch_sums(model, batch, device, evaluation_set.num_groups)
            on_batch(len(bins))
    torch.random.set_rng_state(cpu_state)
    model.train(was_training)
    return _metrics(all_reduce(sums).cpu().tolist(), evaluation_set.num_groups)


def _batch_sums(model: Any, batch: dict[str, Any], device: torch.device, num_groups: int) -> Tensor:
    """float64: [nll, tokens, correct, worst, rows with a token, nll per group..., tokens per group...]."""
    import torch

    from sftgo_cli.objectives.group_losses import group_losses, worst_group
    from sftgo_cli.objectives.micro_batch import MODEL_INPUTS, supervised_tokens

    moved = {name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()}
    inputs = {name: moved[name] for name in MODEL_INPUTS if name in moved}
    outputs = model(**inputs, supervised_labels=moved["labels"], terms=("correct",))
    tokens = supervised_tokens(outputs, moved, num_groups)
    unweighted = type(tokens)(
        tokens.nll_N,
        tokens.group_ids_N,
        torch.ones_like(tokens.token_weights_N),
        tokens.sample_N,
        torch.ones_like(tokens.row_weights_S),
        num_groups,
    )
    losses_SG = group_losses(unweighted)
    nll_N = tokens.nll_N.double()
    ones_N = torch.ones_like(nll_N)
    zeros_G = torch.zeros(num_groups, dtype=torch.float64, device=device)
    head = [
        nll_N.sum(),
        ones_N.sum(),
        outputs["correct"].double().sum(),
        worst_group(losses_SG).sum(),
        torch.isfinite(losses_SG).any(dim=1).double().sum(),
    ]
    groups = [zeros_G.index_add(0, tokens.group_ids_N, value) for value in (nll_N, ones_N)]
    return torch.cat([torch.stack(head), *groups])


def _metrics(sums: list[float], num_groups: int) -> dict[str, Any]:
    nll, num_tokens, correct, worst, num_rows = sums[:5]
    group_nll, group_tokens = sums[5 : 5 + num_groups], sums[5 + num_groups :]
    loss = nll / num_tokens if num_tokens else None
    metrics: dict[str, Any] = {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)) if loss is not None else None,
        "token_accuracy": correct / num_tokens if num_tokens else None,
        "num_tokens": int(num_tokens),
        "num_rows": int(num_rows),
        "worst_group_loss": worst / num_rows if num_rows else None,
    }
    for group in range(num_groups):
        count = group_tokens[group]
        metrics[f"group_loss/{group}"] = group_nll[group] / count if count else None
        metrics[f"group_tokens/{group}"] = int(count)
    return metrics
