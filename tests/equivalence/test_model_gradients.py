"""Loss and gradients of a whole model through collator, head and objective, against the definition on full logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sftgo_cli.data.collation import Collator
from sftgo_cli.data.packing import best_fit_decreasing
from sftgo_cli.losses import head
from sftgo_cli.objectives import cross_entropy, sft_go
from sftgo_cli.objectives.group_losses import Step
from sftgo_cli.objectives.micro_batch import MODEL_INPUTS, local_totals, step_totals, supervised_tokens

MIXING = 0.9
GROUPS = 2


def model_of(dtype: torch.dtype, attention: str) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=89,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    config._attn_implementation = attention
    return LlamaForCausalLM(config).to(dtype)


def rows_of(seed: int = 0) -> list[dict[str, Any]]:
    """Rows of odd lengths with prompts, weights, two groups, one of them empty in some rows."""
    generator = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate([3, 17, 8, 2, 11, 5, 23, 7]):
        ids = generator.integers(0, 89, size=length)
        prompt = int(generator.integers(1, length))
        groups = generator.integers(0, 2, size=length) if number % 3 else np.zeros(length, dtype=int)
        rows.append(
            {
                "input_ids": ids,
                "labels": np.where(np.arange(length) < prompt, -100, ids),
                "group_ids": np.where(np.arange(length) < prompt, -1, groups),
                "token_weights": generator.choice([0.5, 1.0, 2.0], size=length).astype(np.float32),
                "loss_weight": float(generator.choice([0.5, 1.0, 3.0])),
                "row_id": str(number),
            }
        )
    return rows


def reference(model: Any, rows: list[dict[str, Any]], mixing: float) -> tuple[float, dict[str, torch.Tensor]]:
    """The definition, row by row on full logits; shares nothing with the package."""
    ce_sum = weight_sum = worst_sum = row_sum = torch.zeros((), dtype=torch.float64)
    for row in rows:
        logits = model(input_ids=torch.tensor(row["input_ids"])[None]).logits[0]
        nll = -torch.log_softmax(logits, dim=-1)
        losses: dict[int, list[Any]] = {}
        for t in range(1, len(row["labels"])):
            if row["labels"][t] != -100:
                token = nll[t - 1, int(row["labels"][t])].double()
                weight = float(row["token_weights"][t])
                losses.setdefault(int(row["group_ids"][t]), []).append((weight, token))
                ce_sum = ce_sum + row["loss_weight"] * weight * token
                weight_sum = weight_sum + row["loss_weight"] * weight
        means = [sum(w * v for w, v in pairs) / sum(w for w, _ in pairs) for pairs in losses.values()]
        worst_sum = worst_sum + row["loss_weight"] * torch.stack(means).max()
        row_sum = row_sum + row["loss_weight"]
    loss = (1 - mixing) * ce_sum / weight_sum + mixing * worst_sum / row_sum
    model.zero_grad()
    loss.backward()
    return loss.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def ours(
    model: Any, micro_batches: list[list[list[dict[str, Any]]]], packed: bool, objective: Any, options: Any
) -> tuple[float, dict[str, torch.Tensor]]:
    """The same step through the package, over its micro-batches."""
    head.attach(model)
    model.zero_grad()
    batches: list[dict[str, Any]] = [Collator(0, packed)(bins) for bins in micro_batches]
    totals, _ = step_totals(local_totals(batches, GROUPS, 0.0))
    value = 0.0
    for batch in batches:
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        outputs = model(**inputs, supervised_labels=batch["labels"])
        terms = objective.local_loss(supervised_tokens(outputs, batch, GROUPS), Step(totals), options)
        terms.loss.backward()
        value += terms.loss.item()
    return value, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def error(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest per-tensor relative norm of the difference."""
    return max(float((got[k].double() - expected[k].double()).norm() / expected[k].double().norm()) for k in expected)


def layouts(rows: list[dict[str, Any]]) -> dict[str, tuple[list[list[list[dict[str, Any]]]], bool]]:
    """The same rows padded, split, packed, packed and split with an empty micro-batch."""
    bins = best_fit_decreasing(range(len(rows)), [len(row["input_ids"]) for row in rows], 30)
    packed = [[rows[index] for index in members] for members in bins]
    return {
        "padded": ([[[row] for row in rows]], False),
        "padded in three": ([[[row] for row in rows[:3]], [[row] for row in rows[3:]], []], False),
        "packed": ([packed], True),
        "packed in two": ([packed[:1], packed[1:], []], True),
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layout", ["padded", "padded in three", "packed", "packed in two"])
def test_float64_equals_the_definition(layout: str, attention: str) -> None:
    rows = rows_of()
    expected_loss, expected = reference(model_of(torch.float64, attention), rows, MIXING)
    micro_batches, packed = layouts(rows)[layout]
    options = sft_go.Options(mixing_weight=MIXING)
    loss, gradients = ours(model_of(torch.float64, attention), micro_batches, packed, sft_go, options)
    # transformers' eager attention computes its softmax in float32 even in a float64 model (5.23), and the padded
    # length changes its rounding; sdpa stays in float64.
    tolerance = 1e-12 if attention == "sdpa" else 1e-6
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    assert error(gradients, expected) <= tolerance


def test_float32_is_within_twice_plain_cross_entropys_own_error() -> None:
    """What float32 costs a plain cross-entropy model is the yardstick for what it may cost the objective."""
    rows = rows_of(1)
    for row in rows:
        row["token_weights"] = np.ones_like(row["token_weights"])
        row["loss_weight"] = 1.0
    micro_batches, packed = layouts(rows)["padded"]
    _, plain_64 = reference(model_of(torch.float64, "sdpa"), rows, 0.0)
    _, plain_32 = ours(model_of(torch.float32, "sdpa"), micro_batches, packed, cross_entropy, cross_entropy.Options())
    _, full_64 = reference(model_of(torch.float64, "sdpa"), rows, MIXING)
    options = sft_go.Options(mixing_weight=MIXING)
    loss, full_32 = ours(model_of(torch.float32, "sdpa"), micro_batches, packed, sft_go, options)
    expected_loss, _ = reference(model_of(torch.float64, "sdpa"), rows, MIXING)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert error(full_32, full_64) <= 2 * error(plain_32, plain_64)


def test_bfloat16_is_no_worse_than_plain_cross_entropy() -> None:
    rows = rows_of(2)
    micro_batches, packed = layouts(rows)["packed"]
    _, plain_64 = reference(model_of(torch.float64, "sdpa"), rows, 0.0)
    _, plain = ours(model_of(torch.bfloat16, "sdpa"), micro_batches, packed, cross_entropy, cross_entropy.Options())
    _, full_64 = reference(model_of(torch.float64, "sdpa"), rows, MIXING)
    options = sft_go.Options(mixing_weight=MIXING)
    _, full = ours(model_of(torch.bfloat16, "sdpa"), micro_batches, packed, sft_go, options)
    assert error(full, full_64) <= 2 * error(plain, plain_64)
