"""Rows of different lengths that are decoded together, over a key-value cache that rows can leave and enter.

Every row ends at the same column, so one step appends one column to all of them; what lies before a row's first token is
masked. Keys are stored as the model made them, after their rotation by position, so a row may be moved to other columns
and beside other rows at any time. transformers' own caches cannot do that: `DynamicCache` copies all of itself at every
step and drops rows but takes none in, `StaticCache` does neither, and its paged `generate_batch` is made for
accelerators (benchmarks/generation.py has the measurements).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

SPARE_COLUMNS = 64  # how many steps go by between two copies of the cache


class _Columns(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, [R, heads, capacity, head size]; the first `end` columns are in use. Layers with a
    sliding window keep all columns as well: the attention mask, which transformers makes, has the window."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.end = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = key_states, value_states
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put new columns behind those there are; returns all."""
        start, self.end = self.end, self.end + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        else:
            self.keys[:, :, start : self.end] = key_states
            self.values[:, :, start : self.end] = value_states
        return self.keys[:, :, : self.end], self.values[:, :, : self.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.end + query_length, 0

    def get_seq_length(self) -> int:
        return self.end

    def get_max_length(self) -> int:
        return -1


@dataclass
class Block:
    """R rows that are decoded together. `lengths[r]` columns, the last ones, are row r's tokens."""

    cache: Any
    mask_RC: Tensor  # int64, 1 where a column is a row's token; C is the capacity
    lengths: list[int]

    @property
    def end(self) -> int:
        """Columns in use."""
        return self.cache.layers[0].end  # type: ignore[no-any-return]

    @property
    def is_full(self) -> bool:
        """Whether the next step has no column left."""
        return self.end == self.mask_RC.shape[1]


def device_of(model: Any) -> torch.device:
    """Where the model reads token ids."""
    device: torch.device = model.get_input_embeddings().weight.device
    return device


@torch.inference_mode()
def prefill(model: Any, prompts: Sequence[Sequence[int]]) -> tuple[Block, Tensor]:
    """Read prompts; returns their rows and float32[R, V], the logits after each prompt's last token."""
    device = device_of(model)
    lengths = [len(ids) for ids in prompts]
    width = max(lengths)
    ids_RC = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
    lengths_R = torch.tensor(lengths, device=device)
    column_C = torch.arange(width, device=device)
    places_RC = column_C - (width - lengths_R[:, None])
    block = Block(Cache(layer_class_to_replicate=_Columns), (places_RC >= 0).long(), lengths)
    logits_RV = _forward(model, block, ids_RC, places_RC.clamp(min=0), block.mask_RC)
    return block, logits_RV


@torch.inference_mode()
def step(model: Any, block: Block, tokens_R: Tensor, alive: Sequence[bool]) -> Tensor:
    """Append one token to every row; returns the logits that follow, float32[R, V].

    Args:
        alive: rows that are not are carried along until the block is joined again; what they give means nothing.
    """
    positions = [length if kept else 0 for length, kept in zip(block.lengths, alive, strict=True)]
    positions_R = torch.tensor(positions, device=tokens_R.device)
    block.mask_RC[:, block.end] = 1
    mask_RC = block.mask_RC[:, : block.end + 1]
    logits_RV = _forward(model, block, tokens_R[:, None], positions_R[:, None], mask_RC)
    block.lengths = [length + kept for length, kept in zip(block.lengths, alive, strict=True)]
    return logits_RV


def _forward(model: Any, block: Block, ids_RC: Tensor, positions_RC: Tensor, mask_RC: Tensor) -> Tensor:
    known = inspect.signature(model.forward).parameters
    more: dict[str, Any] = {"position_ids": positions_RC, "logits_to_keep": 1}
    output = model(
        input_ids=ids_RC,
        attention_mask=mask_RC,
        past_key_values=block.cache,
        use_cache=True,
        **{name: value for name, value in more.items() if name in known},
    )
    logits_RV: Tensor = output.logits[:, -1].float()
    return logits_RV


@torch.inference_mode()
def joined(parts: Sequence[tuple[Block, Sequence[int]]]) -> Block:
    """The chosen rows of several blocks as one, in the order given, no wider than the longest of them needs.

    Args:
        parts: blocks with the numbers of the rows that stay; a number may stand more than once.
    """
    lengths = [block.lengths[row] for block, rows in parts for row in rows]
    width = max(lengths)
    device = parts[0][0].mask_RC.device
    column_C = torch.arange(width + SPARE_COLUMNS, device=device)
    starts_R = width - torch.tensor(lengths, device=device)
    mask_RC = ((column_C >= starts_R[:, None]) & (column_C < width)).long()
    layers = []
    for number, _ in enumerate(parts[0][0].cache.layers):
        old = [(block.cache.layers[number], rows) for block, rows in parts]
        layer = _Columns()
        keys = _moved([(part.keys, part.end, rows) for part, rows in old], width)
        layer.lazy_initialization(keys, _moved([(part.values, part.end, rows) for part, rows in old], width))
        layer.end = width
        layers.append(layer)
    return Block(Cache(layers=layers), mask_RC, lengths)


def _moved(parts: Sequence[tuple[Tensor, int, Sequence[int]]], width: int) -> Tensor:
    """The last columns of the chosen rows, moved so that they end at column `width`; zero elsewhere, for what is masked
    is still multiplied."""
    num_rows = sum(len(rows) for _, _, rows in parts)
    heads, size = parts[0][0].shape[1], parts[0][0].shape[3]
    new = parts[0][0].new_zeros(num_rows, heads, width + SPARE_COLUMNS, size)
    first = 0
    for old, end, rows in parts:
        taken = min(width, end)
        chosen = torch.tensor(rows, device=old.device, dtype=torch.long)
        new[first : first + len(rows), :, width - taken : width] = old[:, :, end - taken : end].index_select(0, chosen)
        first += len(rows)
    return new
