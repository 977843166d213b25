"""The gradients of a loss head, summed over pieces of rows: `dh = tile W`, `dW = sum of tile^T h`, `db = sum of tile`.

In bfloat16 and float16 a product is rounded to its 8 or 11 bits, once for each piece, on top of the sum's own rounding.
dW has its largest rows at the targets of the piece, and at tokens that many rows find likely: those, few beside the
vocabulary, are computed once more in float32, with the target's own slope as it was before the tile was rounded. [R] The
slopes of the other tokens of a row add up to the target's, so their squares are at most as large: what is gained at the
targets outweighs the second rounding elsewhere. On a CPU, which has no product of narrow types with a wide result; on
accelerators the second rounding stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sftgo_cli.losses.head_tile import Head, wide

ADDED_ELEMENTS = 1 << 19  # 2 MiB in float32: stays in a core's cache
SAMPLED_ROWS = 16  # of a tile, to find the tokens that many of its rows find likely


class HeadGradients:
    """The sums of the gradients over the pieces: of hidden states, weight and bias, those that are wanted."""

    def __init__(
        self,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        wants: Sequence[bool],
        dtype: torch.dtype,
    ) -> None:
        self.hidden_NH = torch.empty_like(hidden_NH) if wants[0] else None
        self.weight_VH = torch.empty_like(weight_VH, dtype=wide(dtype)) if wants[1] else None
        self.bias_V = torch.zeros_like(bias_V, dtype=wide(dtype)) if bias_V is not None and wants[2] else None
        self._product_VH: Tensor | None = None
        self._empty = True
        self._kinds = (weight_VH.dtype, None if bias_V is None else bias_V.dtype)

    @property
    def frozen(self) -> bool:
        """Whether nothing but the hidden states wants a gradient."""
        return self.weight_VH is None and self.bias_V is None

    def add(self, head: Head, start: int, stop: int, tile_CV: Tensor, own_C: Tensor | None = None) -> None:
        """Add the products of one piece, whose rows carry their slopes.

        Args:
            own_C: the tile's entries at the targets before they were rounded, where they are known.
        """
        if self.hidden_NH is not None:
            self.hidden_NH[start:stop] = tile_CV @ head.weight_VH
        if self.weight_VH is not None:
            hidden_CH, targets_C = head.hidden_NH[start:stop], head.targets_N[start:stop]
            if self.weight_VH.dtype == tile_CV.dtype:
                self._add_weight(self.weight_VH, tile_CV, hidden_CH)
            else:
                self._add_wider_weight(self.weight_VH, tile_CV, hidden_CH, targets_C, own_C)
            self._empty = False
        if self.bias_V is not None:
            self.bias_V += tile_CV.sum(dim=0, dtype=self.bias_V.dtype)

    def _add_weight(self, sum_VH: Tensor, tile_CV: Tensor, hidden_CH: Tensor) -> None:
        """sum += tile^T hidden."""
        torch.mm(tile_CV.t(), hidden_CH, out=sum_VH) if self._empty else sum_VH.addmm_(tile_CV.t(), hidden_CH)

    def _add_wider_weight(
        self, sum_VH: Tensor, tile_CV: Tensor, hidden_CH: Tensor, targets_C: Tensor, own_C: Tensor | None
    ) -> None:
        """The same in a wider sum; the product gets a buffer of its own, for a new one is a page fault every 4 KiB."""
        if self._product_VH is None:
            self._product_VH = torch.empty_like(sum_VH, dtype=tile_CV.dtype)
        torch.mm(tile_CV.t(), hidden_CH, out=self._product_VH)
        exact = _largest_rows(tile_CV, hidden_CH, targets_C, own_C) if sum_VH.device.type == "cpu" else None
        if exact is not None:
            self._product_VH.index_fill_(0, exact[0], 0.0)
        sum_VH.copy_(self._product_VH) if self._empty else _add_wider(sum_VH, self._product_VH)
        if exact is not None:
            sum_VH.index_add_(0, *exact)

    def finished(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """In the inputs' types."""
        if self.weight_VH is not None and self._empty:
            self.weight_VH.zero_()
        self._product_VH = None
        weight = None if self.weight_VH is None else self.weight_VH.to(self._kinds[0])
        bias = None if self.bias_V is None or self._kinds[1] is None else self.bias_V.to(self._kinds[1])
        return self.hidden_NH, weight, bias


def _add_wider(sum_VH: Tensor, product_VH: Tensor) -> None:
    """sum += product of a narrower type; on a CPU block by block through a copy, six times as fast as `add_`."""
    if sum_VH.device.type != "cpu":
        sum_VH.add_(product_VH)
        return
    rows = max(1, ADDED_ELEMENTS // sum_VH.shape[1])
    block_RH = torch.empty(min(rows, len(sum_VH)), sum_VH.shape[1], dtype=sum_VH.dtype)
    for first in range(0, len(sum_VH), rows):
        part_RH = product_VH[first : first + rows]
        sum_VH[first : first + rows].add_(block_RH[: len(part_RH)].copy_(part_RH))


def _largest_rows(tile_CV: Tensor, hidden_CH: Tensor, targets_C: Tensor, own_C: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens [U], ascending: a piece's targets, and those that some of its rows find likely; and the rows of
    tile^T hidden there, float32[U, H]."""
    some_SV = tile_CV[:: max(1, len(tile_CV) // SAMPLED_ROWS)]
    mass_V = some_SV.abs().sum(dim=0, dtype=torch.float32)
    likely = mass_V.topk(min(1 + len(tile_CV) // 4, len(mass_V))).indices
    tokens_U: Tensor = torch.unique(torch.cat([targets_C, likely]))
    columns_CU = tile_CV.index_select(1, tokens_U).float()
    if own_C is not None:
        columns_CU.scatter_(1, torch.searchsorted(tokens_U, targets_C)[:, None], own_C[:, None].float())
    return tokens_U, columns_CU.t() @ hidden_CH.float()
