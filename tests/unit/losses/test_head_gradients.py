"""A bfloat16 dW summed over many chunks against float64: no worse than cross-entropy on whole logits, whatever the kind."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sftgo_cli.losses import head_tile
from sftgo_cli.losses.fused_head import Weighing, weighed_loss
from sftgo_cli.losses.head_gradients import HeadGradients
from sftgo_cli.losses.logits import LogitTransform

NUM_TOKENS, SAMPLE, SEEDS = 512, 16, 3
SHAPES = [(300, 32), (4096, 64)]
PLAIN = LogitTransform()
# At most this times plain cross-entropy's own error, on average over the seeds. Where the rounding of the logits is
# nearly all of both errors, which way the other roundings fall is chance.
MOST = {"uniform": 0.96, "calibrated": 0.96, "common direction": 1.01, "frequent": 1.01, "confident": 1.005}


def tokens_of(kind: str, vocabulary: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states and weight in bfloat16, and targets: drawn evenly, from the model's own probabilities, with hidden
    states that share a direction, by Zipf's law besides, or the likeliest with p > 0.99 for most."""
    generator = torch.Generator().manual_seed(seed)
    weight_VH = (torch.randn(vocabulary, width, generator=generator) * 2.4 / width**0.5).bfloat16()
    hidden_NH = torch.randn(NUM_TOKENS, width, generator=generator)
    if kind in ("common direction", "frequent"):
        hidden_NH += 2.0 * torch.randn(width, generator=generator)
    if kind == "confident":
        hidden_NH *= 6.0
    hidden_NH = hidden_NH.bfloat16()
    logits_NV = hidden_NH.double() @ weight_VH.double().t()
    if kind == "confident":
        return hidden_NH, weight_VH, logits_NV.argmax(dim=-1)
    if kind == "calibrated":
        return hidden_NH, weight_VH, torch.multinomial(logits_NV.softmax(dim=-1), 1, generator=generator)[:, 0]
    shares_V = 1.0 / torch.arange(1, vocabulary + 1) ** (1.0 if kind == "frequent" else 0.0)
    return hidden_NH, weight_VH, torch.multinomial(shares_V, NUM_TOKENS, replacement=True, generator=generator)


def plain(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, weights_N: Tensor, dtype: torch.dtype) -> Tensor:
    """dW by autograd on whole logits; in bfloat16 as everyone computes it."""
    leaf_VH = weight_VH.to(dtype, copy=True).requires_grad_(True)
    logits_NV = hidden_NH.to(dtype) @ leaf_VH.t()
    logits_NV = logits_NV if dtype == torch.float64 else logits_NV.float()
    (functional.cross_entropy(logits_NV, targets_N, reduction="none").double() * weights_N).sum().backward()
    assert leaf_VH.grad is not None
    return leaf_VH.grad


def fused(hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """The fused head's."""

    def loss_of(start: int, stop: int, terms: Mapping[str, Tensor]) -> Tensor:
        return (terms["nll"].double() * weights_N[start:stop]).sum()

    leaf_VH = weight_VH.clone().requires_grad_(True)
    asked = Weighing(list(range(SAMPLE, NUM_TOKENS + 1, SAMPLE)), loss_of)
    weighed_loss(hidden_NH, leaf_VH, None, targets_N, PLAIN, asked, torch.bfloat16)[0].backward()
    assert leaf_VH.grad is not None
    return leaf_VH.grad


@pytest.mark.parametrize("kind", MOST)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_many_chunks_in_bfloat16(kind: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_tile, "TILE_BYTES", {"cpu": (1, 1)})  # chunks of 64 rows: eight of them
    ratios = []
    for seed in range(SEEDS):
        hidden_NH, weight_VH, targets_N = tokens_of(kind, *shape, seed)
        weights_N = torch.rand(NUM_TOKENS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
        given = (hidden_NH, weight_VH, targets_N, weights_N)
        exact = plain(*given, torch.float64)
        errors = [(grad.double() - exact).norm() for grad in (fused(*given), plain(*given, torch.bfloat16))]
        ratios.append(float(errors[0] / errors[1]))
    assert statistics.mean(ratios) <= MOST[kind], ratios


def test_a_target_that_comes_twice_counts_twice() -> None:
    """All tokens of a chunk have one target, and its slopes, exact, are not those that the tile holds."""
    hidden_CH = torch.tensor([[1.0, 2.0], [4.0, 8.0]]).bfloat16()
    weight_VH = torch.zeros(5, 2, dtype=torch.bfloat16)
    head = head_tile.Head(hidden_CH, weight_VH, None, torch.tensor([3, 3]), PLAIN, torch.bfloat16)
    sums = HeadGradients(hidden_CH, weight_VH, None, (False, True, False), torch.bfloat16)
    tile_CV = torch.tensor([[0.25, 0.0, 0.0, -0.75, 0.5], [0.0, 0.0, 0.5, -0.5, 0.0]]).bfloat16()
    own_C = torch.tensor([-0.7510, -0.5020])
    for _ in range(2):  # the second piece is added to the first
        sums.add(head, 0, 2, tile_CV, own_C)
    assert sums.weight_VH is not None
    expected_VH = 2 * tile_CV.float().t() @ hidden_CH.float()
    expected_VH[3] = 2 * (own_C @ hidden_CH.float())
    assert torch.allclose(sums.weight_VH, expected_VH, rtol=1e-6)
