"""A piece of the loss head's rows: logits, their losses, and in their place the slopes of the loss.

    z = cap(scale * (h W^T + b))      l = logsumexp(z) - z[target]      tile <- g (softmax(z) - target) dz/dx

A tile is worked on in blocks of rows in float32 (float64 for float64) and rounded once. The target's entry is expm1(-l):
softmax - 1 loses everything where p is near 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftgo_cli.losses.logits import LogitTransform

CHUNK_BYTES = {"cpu": 1 << 27, "accelerator": 1 << 29}  # of one tile of logits
BLOCK_ELEMENTS = {"cpu": 1 << 20, "accelerator": 1 << 26}  # of the float32 rows in which a tile is worked on
MIN_CHUNK_ROWS = 64


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of losses: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Head:
    """The inputs of the head in the compute type, and the tile of one piece of rows."""

    def __init__(
        self,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        transform: LogitTransform,
        dtype: torch.dtype,
    ) -> None:
        self.hidden_NH = hidden_NH.detach().to(dtype)
        self.weight_VH = weight_VH.detach().to(dtype)
        self.bias_V = None if bias_V is None else bias_V.detach().to(dtype)
        self.targets_N = targets_N
        self.transform = transform
        device, size = hidden_NH.device.type, weight_VH.shape[0]
        chunk_bytes = CHUNK_BYTES["cpu" if device == "cpu" else "accelerator"]
        self.chunk_rows = max(MIN_CHUNK_ROWS, chunk_bytes // (size * self.hidden_NH.element_size()))
        self.block_rows = max(1, BLOCK_ELEMENTS["cpu" if device == "cpu" else "accelerator"] // size)
        self._buffer: Tensor | None = None

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Consecutive rows from `start` to `stop`, at most a chunk each."""
        for first in range(start, stop, self.chunk_rows):
            yield first, min(stop, first + self.chunk_rows)

    def chunks(self, ends: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Whole samples, as many as fit in a chunk; a longer sample is a chunk of its own."""
        start = last = 0
        for end in ends:
            if end - start > self.chunk_rows and last > start:
                yield start, last
                start = last
            last = end
        if last > start:
            yield start, last

    def losses(self, start: int, stop: int) -> Rows:
        """The logits of a piece and their losses. The tile lies in one buffer that the next call overwrites."""
        tile_CV, targets_C = self.products(start, stop), self.targets_N[start:stop]
        kind = wide(tile_CV.dtype)
        rows = Rows(tile_CV, targets_C, *(self.hidden_NH.new_empty(stop - start, dtype=kind) for _ in range(2)))
        for block in self._blocks(stop - start):
            _losses_of(tile_CV[block], targets_C[block], rows.nll_C[block], rows.total_C[block], self.transform)
        return rows

    def slopes(self, rows: Rows, slope_C: Tensor | None) -> Tensor:
        """d loss / d(h W^T + b) of a piece, in the place of its logits: [C, V] in the compute type.

        Args:
            slope_C: d loss / d l; None for d l / d(h W^T + b).
        """
        for block in self._blocks(len(rows.nll_C)):
            own = None if slope_C is None else slope_C[block]
            _slopes_of(
                rows.tile_CV[block], rows.targets_C[block], rows.nll_C[block], rows.total_C[block], own, self.transform
            )
        return rows.tile_CV

    def _blocks(self, num_rows: int) -> Iterator[slice]:
        for first in range(0, num_rows, self.block_rows):
            yield slice(first, min(num_rows, first + self.block_rows))

    def products(self, start: int, stop: int) -> Tensor:
        """h W^T + b of a piece [C, V], in the same buffer."""
        rows = stop - start
        if self._buffer is None or self._buffer.shape[0] < rows:
            self._buffer = self.hidden_NH.new_empty(rows, self.weight_VH.shape[0])
        tile_CV = self._buffer[:rows]
        if self.bias_V is None:
            torch.mm(self.hidden_NH[start:stop], self.weight_VH.t(), out=tile_CV)
        else:
            torch.addmm(self.bias_V, self.hidden_NH[start:stop], self.weight_VH.t(), out=tile_CV)
        return tile_CV


@dataclass(frozen=True)
class Rows:
    """A piece of C rows: its products h W^T + b, targets, losses and log-sum-exps."""

    tile_CV: Tensor
    targets_C: Tensor
    nll_C: Tensor
    total_C: Tensor


def _losses_of(tile_RV: Tensor, targets_R: Tensor, nll_R: Tensor, total_R: Tensor, transform: LogitTransform) -> None:
    logits_RV = transform(tile_RV.to(nll_R.dtype))
    torch.logsumexp(logits_RV, dim=-1, out=total_R)
    torch.sub(total_R, logits_RV.gather(1, targets_R[:, None])[:, 0], out=nll_R)


def _slopes_of(
    tile_RV: Tensor,
    targets_R: Tensor,
    nll_R: Tensor,
    total_R: Tensor,
    slope_R: Tensor | None,
    transform: LogitTransform,
) -> None:
    """tile <- slope (softmax(z) - target) dz/dx."""
    logits_RV = transform(tile_RV.to(nll_R.dtype))
    p_RV = (logits_RV - total_R[:, None]).exp_()
    p_RV.scatter_(1, targets_R[:, None], torch.expm1(-nll_R)[:, None])
    if transform.changes:
        p_RV *= transform.slope(logits_RV)
    if slope_R is not None:
        p_RV *= slope_R[:, None]
    tile_RV.copy_(p_RV)
