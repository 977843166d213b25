"""A piece of the loss head's rows: logits, their losses, and in their place the slopes of the loss.

    z = cap(scale * (h W^T + b))      l = logsumexp(z) - z[target]      tile <- g (softmax(z) - target) dz/dx

A tile is worked on in blocks of rows in float32 (float64 for float64) and rounded once. The target's entry is expm1(-l):
softmax - 1 loses everything where p is near 1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sftgo_cli.losses.logits import LogitTransform

# A tile holds an eighth of all logits, but at least the first and at most the second number of bytes: larger tiles are
# hardly faster (measured at 64 to 1,024 rows of 131,072), and what they take is on top of the gradients.
TILE_BYTES = {"cpu": (1 << 25, 1 << 28), "accelerator": (1 << 28, 1 << 30)}
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
        compile_tiles: bool = False,
    ) -> None:
        self.hidden_NH = hidden_NH.detach().to(dtype)
        self.weight_VH = weight_VH.detach().to(dtype)
        self.bias_V = None if bias_V is None else bias_V.detach().to(dtype)
        self.targets_N = targets_N
        self.transform = transform
        device, size = hidden_NH.device.type, weight_VH.shape[0]
        least, most = TILE_BYTES["cpu" if device == "cpu" else "accelerator"]
        row_bytes = size * self.hidden_NH.element_size()
        tile_bytes = min(most, max(least, len(targets_N) * row_bytes // 8))
        self.chunk_rows = max(MIN_CHUNK_ROWS, tile_bytes // row_bytes)
        self.block_rows = max(1, BLOCK_ELEMENTS["cpu" if device == "cpu" else "accelerator"] // size)
        self.compile_tiles = compile_tiles
        self._buffer: Tensor | None = None
        self._scratch: list[Tensor] = []
        if not compile_tiles:
            shape = (min(self.block_rows, max(1, len(targets_N))), size)
            self._scratch = [self.hidden_NH.new_empty(shape, dtype=wide(dtype)) for _ in range(2)]

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
        if self.compile_tiles:
            top_C, rest_C = compiled(_total_of)(tile_CV, kind, self.transform.scale, self.transform.softcap)
            own_C = self.transform(tile_CV.gather(1, targets_C[:, None])[:, 0].to(kind))
            nll_C = (top_C - own_C + rest_C).clamp_(min=0.0)
            return Rows(tile_CV, targets_C, nll_C, top_C, rest_C)
        rows = Rows(tile_CV, targets_C, *(self.hidden_NH.new_empty(stop - start, dtype=kind) for _ in range(2)))
        for block in self._blocks(stop - start):
            _losses_of(rows, block, self.transform, self._scratch)
        rows.nll_C.clamp_(min=0.0)  # rounding must not make a loss that powers of 1 - p cannot take
        return rows

    def slopes(self, rows: Rows, slope_C: Tensor | None) -> Tensor:
        """d loss / d(h W^T + b) of a piece, in the place of its logits: [C, V] in the compute type.

        Args:
            slope_C: d loss / d l; None for d l / d(h W^T + b).
        """
        if self.compile_tiles:
            own_C = torch.ones_like(rows.nll_C) if slope_C is None else slope_C
            given = (
                rows.total_C,
                rows.rest_C,
                rows.nll_C,
                rows.targets_C,
                own_C,
                self.transform.scale,
                self.transform.softcap,
            )
            compiled(_tile_slopes)(rows.tile_CV, *given)
            return rows.tile_CV
        for block in self._blocks(len(rows.nll_C)):
            _slopes_of(rows, block, slope_C, self.transform, self._scratch)
        return rows.tile_CV

    def own_slopes(self, rows: Rows, slope_C: Tensor) -> Tensor | None:
        """The targets' entries of `slopes`, [C] unrounded; None under a soft cap, whose slope the logits give."""
        if self.transform.softcap is not None:
            return None
        return torch.expm1(-rows.nll_C) * (slope_C * self.transform.scale)

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
    """A piece of C rows: its products h W^T + b, targets, losses and log-sum-exps (total + rest).

    Compiled, the sum is kept in two parts, max z and log sum exp(z - max): adding them would round away what is left of
    a confident token's loss.
    """

    tile_CV: Tensor
    targets_C: Tensor
    nll_C: Tensor
    total_C: Tensor
    rest_C: Tensor | None = None


def _losses_of(rows: Rows, block: slice, transform: LogitTransform, scratch: Sequence[Tensor]) -> None:
    """l and log-sum-exp of some rows. `scratch`: two buffers at least as large, in the type of the losses."""
    tile_RV, targets_R1 = rows.tile_CV[block], rows.targets_C[block, None]
    logits_RV, log_p_RV = (buffer[: len(tile_RV)] for buffer in scratch)
    logits_RV.copy_(tile_RV)
    if transform.changes:
        logits_RV.copy_(transform(logits_RV))
    torch.log_softmax(logits_RV, dim=-1, out=log_p_RV)
    torch.neg(log_p_RV.gather(1, targets_R1)[:, 0], out=rows.nll_C[block])
    torch.add(logits_RV.gather(1, targets_R1)[:, 0], rows.nll_C[block], out=rows.total_C[block])


def _slopes_of(
    rows: Rows, block: slice, slope_C: Tensor | None, transform: LogitTransform, scratch: Sequence[Tensor]
) -> None:
    """tile <- slope (softmax(z) - target) dz/dx."""
    tile_RV, targets_R1 = rows.tile_CV[block], rows.targets_C[block, None]
    in_place = tile_RV.dtype == scratch[0].dtype and not transform.changes
    p_RV = tile_RV if in_place else scratch[0][: len(tile_RV)].copy_(tile_RV)
    derivative: Tensor | float = 1.0
    if transform.changes:
        logits_RV, derivative = transform.with_slope(p_RV)
        p_RV.copy_(logits_RV)
    p_RV.sub_(rows.total_C[block, None]).exp_()
    p_RV.scatter_(1, targets_R1, torch.expm1(-rows.nll_C[block, None]))
    if transform.changes:
        p_RV.mul_(derivative)
    if slope_C is not None:
        p_RV.mul_(slope_C[block, None])
    if not in_place:
        tile_RV.copy_(p_RV)


def _total_of(tile_CV: Tensor, wider: torch.dtype, scale: float, softcap: float | None) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of every row in two parts; compiled, it reads the tile twice and writes nothing else."""
    logits_CV = LogitTransform(scale, softcap)(tile_CV.to(wider))
    top_C = logits_CV.amax(dim=-1)
    return top_C, (logits_CV - top_C[:, None]).exp().sum(dim=-1).log()


def _tile_slopes(
    tile_CV: Tensor,
    top_C: Tensor,
    rest_C: Tensor,
    nll_C: Tensor,
    targets_C: Tensor,
    slope_C: Tensor,
    scale: float,
    softcap: float | None,
) -> None:
    """`_slopes_of` a whole tile; compiled, one pass."""
    logits_CV, derivative = LogitTransform(scale, softcap).with_slope(tile_CV.to(top_C.dtype))
    own_CV = torch.arange(tile_CV.shape[1], device=tile_CV.device)[None] == targets_C[:, None]
    error_CV = torch.where(own_CV, torch.expm1(-nll_C)[:, None], (logits_CV - top_C[:, None] - rest_C[:, None]).exp())
    tile_CV.copy_(error_CV * derivative * slope_C[:, None])


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled for any number of rows, once per process."""
    return torch.compile(function, dynamic=True)
