"""The memory-lean loss head: losses and gradients in one pass over chunks of whole samples, never all logits.

    z = cap(scale * (h W^T + b))      l = logsumexp(z) - z[target]      loss = sum over chunks of loss_of(l of the chunk)

Per chunk: logits (product 1) and their losses; `loss_of` then gives the slopes g = d loss / d l; in place, the tile
becomes g (softmax - target) dz/dx; `dh = tile W` (2) and `dW += tile^T h` (3). What must see all losses before any slope
(`at_once`, and a sample longer than a chunk) makes the logits twice; with a frozen W it does not: dh is linear in g, so
it is kept unscaled until g is known.

Precision: a tile is worked on in blocks of rows in float32 (float64 for float64) and rounded once; the target's entry is
expm1(-l), for softmax - 1 loses everything where p is near 1; dW is summed in float32 at least (head_gradients.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sftgo_cli.losses.head_gradients import HeadGradients
from sftgo_cli.losses.head_tile import Head, wide
from sftgo_cli.losses.logits import LogitTransform, rows_of, token_terms

if TYPE_CHECKING:
    from sftgo_cli.losses.logits import Reference


@dataclass(frozen=True)
class Weighing:
    """How the losses of a micro-batch's N supervised tokens become its loss."""

    ends: Sequence[int]  # where each sample's tokens end: ascending, the last is N
    loss_of: Callable[[int, int, Mapping[str, Tensor]], Tensor]  # (start, stop, terms of these tokens) -> their share
    at_once: bool = False  # loss_of must see all tokens in one call
    terms: Sequence[str] = ()  # what loss_of gets besides `nll`
    reference: Reference | None = None
    compile_tiles: bool = False  # faster from some ten billion logits on: compiling takes seconds
    scale: float = 1.0  # what the loss will be multiplied by before its backward pass (fp16 loss scale, ranks)


def weighed_loss(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    transform: LogitTransform,
    weighing: Weighing,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The micro-batch's loss, a scalar with the graph, and its nll float32[N] without.

    Args:
        dtype: in which the products are computed (the autocast type, else the hidden states').
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _FusedHead.apply
    return apply(hidden_NH, weight_VH, bias_V, targets_N, transform, weighing, dtype)


def terms_without_graph(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    transform: LogitTransform,
    dtype: torch.dtype,
    terms: Sequence[str] = (),
    reference: Reference | None = None,
) -> dict[str, Tensor]:
    """`nll` float32[N] and further terms, chunk by chunk."""
    with torch.no_grad(), torch.autocast(hidden_NH.device.type, enabled=False):
        head = Head(hidden_NH, weight_VH, bias_V, targets_N, transform, dtype)
        parts = [_piece_terms(head, start, stop, terms, reference) for start, stop in head.pieces(0, len(targets_N))]
        if not parts:
            return token_terms(
                hidden_NH.new_zeros(0, weight_VH.shape[0], dtype=wide(dtype)), targets_N, terms, reference
            )
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _piece_terms(
    head: Head, start: int, stop: int, terms: Sequence[str], reference: Reference | None
) -> dict[str, Tensor]:
    if not terms:
        return {"nll": head.losses(start, stop).nll_C}
    logits_CV = head.transform(head.products(start, stop))
    return token_terms(logits_CV, head.targets_N[start:stop], terms, rows_of(reference, start, stop))


class _FusedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        transform: LogitTransform,
        weighing: Weighing,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(hidden_NH.device.type, enabled=False):
            head = Head(hidden_NH, weight_VH, bias_V, targets_N, transform, dtype, weighing.compile_tiles)
            wants = ctx.needs_input_grad[:3]
            sums = HeadGradients(hidden_NH, weight_VH, bias_V, wants, dtype)
            loss, nll_N = _passes(head, weighing, sums)
        ctx.scale = weighing.scale
        ctx.save_for_backward(*sums.finished())
        ctx.mark_non_differentiable(nll_N)
        return loss, nll_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        factor = grad_loss / ctx.scale
        grads = [None if grad is None else grad * factor.to(grad.dtype) for grad in ctx.saved_tensors]
        return (*grads, None, None, None, None)


def _passes(head: Head, weighing: Weighing, sums: HeadGradients) -> tuple[Tensor, Tensor]:
    if weighing.terms:
        return _with_terms(head, weighing, sums)
    return _all_at_once(head, weighing, sums) if weighing.at_once else _by_chunks(head, weighing, sums)


def _share(weighing: Weighing, start: int, stop: int, nll: Tensor) -> tuple[Tensor, Tensor]:
    """The share of the loss of these tokens, and its slope in each nll times the scale, in the nll's type."""
    with torch.enable_grad():
        leaf = nll.detach().requires_grad_(True)
        loss = weighing.loss_of(start, stop, {"nll": leaf})
        (slope,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), slope if weighing.scale == 1.0 else slope * weighing.scale


def _by_chunks(head: Head, weighing: Weighing, sums: HeadGradients) -> tuple[Tensor, Tensor]:
    """One pass: a chunk's slopes are known once its losses are."""
    nll_N = head.hidden_NH.new_empty(len(head.targets_N), dtype=wide(head.hidden_NH.dtype))
    loss = torch.zeros((), dtype=torch.float64, device=nll_N.device)
    for start, stop in head.chunks(weighing.ends):
        if stop - start > head.chunk_rows:
            loss += _weighed_at_once(head, weighing, sums, start, stop, nll_N)
            continue
        rows = head.losses(start, stop)
        nll_N[start:stop] = rows.nll_C
        share, slope_C = _share(weighing, start, stop, rows.nll_C)
        loss += share
        own_C = head.own_slopes(rows, slope_C)
        sums.add(head, start, stop, head.slopes(rows, slope_C), own_C)
    return loss, nll_N


def _weighed_at_once(
    head: Head, weighing: Weighing, sums: HeadGradients, start: int, stop: int, nll_N: Tensor
) -> Tensor:
    """Rows that may be more than a chunk but must be weighed together; returns their share of the loss."""
    for first, last in head.pieces(start, stop):
        rows = head.losses(first, last)
        nll_N[first:last] = rows.nll_C
        if sums.frozen:
            sums.add(head, first, last, head.slopes(rows, None))
    share, slope = _share(weighing, start, stop, nll_N[start:stop])
    if sums.frozen:
        if sums.hidden_NH is not None:
            scaled = sums.hidden_NH[start:stop].to(slope.dtype) * slope[:, None]  # multiplied before it is rounded
            sums.hidden_NH[start:stop] = scaled.to(sums.hidden_NH.dtype)
        return share
    for first, last in head.pieces(start, stop):
        rows = head.losses(first, last)
        slope_C = slope[first - start : last - start]
        own_C = head.own_slopes(rows, slope_C)
        sums.add(head, first, last, head.slopes(rows, slope_C), own_C)
    return share


def _with_terms(head: Head, weighing: Weighing, sums: HeadGradients) -> tuple[Tensor, Tensor]:
    """Further terms of the logits: each chunk's tile is what autograd finds, its rows already scaled."""
    nll_N = head.hidden_NH.new_empty(len(head.targets_N), dtype=wide(head.hidden_NH.dtype))
    loss = torch.zeros((), dtype=torch.float64, device=nll_N.device)
    for start, stop in [(0, len(nll_N))] if weighing.at_once else head.chunks(weighing.ends):
        with torch.enable_grad():
            leaf_CV = head.products(start, stop).requires_grad_(True)
            reference = rows_of(weighing.reference, start, stop)
            terms = token_terms(head.transform(leaf_CV), head.targets_N[start:stop], weighing.terms, reference)
            share = weighing.loss_of(start, stop, terms)
            (tile_CV,) = torch.autograd.grad(share * weighing.scale, leaf_CV)
        nll_N[start:stop] = terms["nll"].detach()
        loss += share.detach()
        sums.add(head, start, stop, tile_CV)
    return loss, nll_N


def _all_at_once(head: Head, weighing: Weighing, sums: HeadGradients) -> tuple[Tensor, Tensor]:
    """Every loss is needed before any slope is known."""
    nll_N = head.hidden_NH.new_empty(len(head.targets_N), dtype=wide(head.hidden_NH.dtype))
    share = _weighed_at_once(head, weighing, sums, 0, len(nll_N), nll_N)
    return share.double(), nll_N
