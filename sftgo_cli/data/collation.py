"""Bins of rows -> the tensors of one micro-batch, every per-token column carried to the loss.

Two layouts. Padded: one row per sequence, `attention_mask`. Packed: a bin's rows after each other with `position_ids` that
restart at every row and no `attention_mask` (transformers isolates samples only then); the padded tail is a segment of
its own. Position 0 of a row is never supervised, so no row predicts into the next.

Rows that are not packed may still lie in one sequence, without padding (`padding_free_width`): the same losses, fewer
tokens. Attention over one long sequence costs more, so each micro-batch takes the cheaper layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sftgo_cli.columns import GROUP_IDS, IGNORE_INDEX, INPUT_IDS, LABELS, LOSS_WEIGHT, NO_GROUP, ROW_ID, TOKEN_WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

NO_SAMPLE = -1  # sample number of padding


def pad_token_id(tokenizer: Any) -> int:
    """The padding id: any id does (padding is never supervised); the tokenizer's own, else eos, else 0."""
    return next((int(value) for value in (tokenizer.pad_token_id, tokenizer.eos_token_id) if value is not None), 0)


def needs_one_sequence(config: Any) -> bool:
    """Whether packed bins must stand in one sequence: transformers (5.23) isolates samples under flash attention only
    in a batch of one; a larger one is silently run as plain causal attention."""
    return str(getattr(config, "_attn_implementation", "")).startswith(("flash", "kernels-community/"))


class Collator:
    """Callable for torch's DataLoader: list of bins (lists of rows) -> dict of tensors.

    Keys: input_ids, labels, group_ids, sample_index int64[B, T]; token_weights float32[B, T]; row_weights float64[S];
    num_tokens (non-padding) int64 scalar; row_ids list of S strings; position_ids or attention_mask int64[B, T];
    sample_ends list of S integers: where each sample's supervised tokens end when all are laid out flat.
    """

    def __init__(
        self,
        pad_token_id: int,
        packed: bool,
        pad_to: int | None = None,
        one_sequence: bool = False,
        token_columns: Sequence[str] = (),
        row_columns: Sequence[str] = (),
    ) -> None:
        self.pad_token_id = pad_token_id
        self.packed = packed
        self.pad_to = pad_to
        self.one_sequence = one_sequence  # all bins of a packed micro-batch after each other; see `needs_one_sequence`
        self.padding_free_width: int | None = None  # the model's hidden size, once it is known to isolate samples
        self.token_columns = tuple(token_columns)  # further columns for the objective: float32[B, T], NaN on padding
        self.row_columns = tuple(row_columns)  # and per row: float64[S]

    def __call__(self, bins: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Tensor | list[str]]:
        """Collate one micro-batch. An empty one becomes a sequence of two padding tokens without a sample."""
        import torch

        packed = self.packed or self._padding_costs_more([len(row[INPUT_IDS]) for rows in bins for row in rows])
        if packed and bins and (self.one_sequence or not self.packed):
            bins = [[row for rows in bins for row in rows]]
        lengths = [sum(len(row[INPUT_IDS]) for row in rows) for rows in bins]
        shape = (max(1, len(bins)), max([2, self.pad_to or 0, *lengths]))
        arrays = self._blank(shape)
        row_weights: list[float] = []
        own: dict[str, list[float]] = {name: [] for name in self.row_columns}
        row_ids: list[str] = []
        num_supervised = [0]
        for number, rows in enumerate(bins):
            end = 0
            for row in rows:
                end = self._place(arrays, number, end, row, len(row_ids))
                num_supervised.append(int(np.count_nonzero(np.asarray(row[LABELS])[1:] != IGNORE_INDEX)))
                row_weights.append(float(row.get(LOSS_WEIGHT, 1.0)))
                row_ids.append(str(row.get(ROW_ID, len(row_ids))))
                for name, values in own.items():
                    values.append(float(row[name]))
            arrays["position_ids"][number, end:] = np.arange(shape[1] - end)
        if not bins:
            # Attention over nothing but masked positions is NaN in eager attention; nothing here is supervised anyway.
            arrays["attention_mask"][:] = 1
        batch: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
        del batch["attention_mask" if packed else "position_ids"]
        batch["row_weights"] = torch.tensor(row_weights, dtype=torch.float64)
        batch |= {name: torch.tensor(values, dtype=torch.float64) for name, values in own.items()}
        batch["num_tokens"] = torch.tensor(sum(lengths))
        batch["row_ids"] = row_ids
        batch["sample_ends"] = np.cumsum(num_supervised)[1:].tolist()
        return batch

    def _padding_costs_more(self, lengths: Sequence[int]) -> bool:
        """Whether one sequence without padding is cheaper than a padded batch, for a layer of width H: matrix products
        take about 24 H^2 operations per token, attention 4 H per pair of tokens that it looks at."""
        if self.padding_free_width is None or not lengths:
            return False
        total, padded = sum(lengths), len(lengths) * max(lengths)
        pairs = sum(length**2 for length in lengths) if self.one_sequence else total**2
        width = 6 * self.padding_free_width
        return width * total + pairs < width * padded + padded * max(lengths)

    def _blank(self, shape: tuple[int, int]) -> dict[str, Any]:
        return {
            "input_ids": np.full(shape, self.pad_token_id, dtype=np.int64),
            "labels": np.full(shape, IGNORE_INDEX, dtype=np.int64),
            "group_ids": np.full(shape, NO_GROUP, dtype=np.int64),
            "sample_index": np.full(shape, NO_SAMPLE, dtype=np.int64),
            "token_weights": np.ones(shape, dtype=np.float32),
            "position_ids": np.zeros(shape, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
            **{name: np.full(shape, np.nan, dtype=np.float32) for name in self.token_columns},
        }

    def _place(self, arrays: dict[str, Any], number: int, start: int, row: dict[str, Any], sample: int) -> int:
        """Write one row behind the bin's earlier ones; returns where it ends."""
        stop = start + len(row[INPUT_IDS])
        place = (number, slice(start, stop))
        arrays["input_ids"][place] = row[INPUT_IDS]
        arrays["labels"][place] = row[LABELS]
        arrays["labels"][number, start] = IGNORE_INDEX
        arrays["group_ids"][place] = row.get(GROUP_IDS, 0)
        arrays["sample_index"][place] = sample
        if TOKEN_WEIGHTS in row:
            arrays["token_weights"][place] = row[TOKEN_WEIGHTS]
        for name in self.token_columns:
            arrays[name][place] = row[name]
        arrays["position_ids"][place] = np.arange(stop - start)
        arrays["attention_mask"][place] = 1
        return stop
