"""Prompts -> generated tokens, many rows at once: a row that ends makes room for the next prompt.

The logits of a row do not depend on the rows beside it but for rounding, and its choices on nothing else (see
`decoding_choice`), so neither the batch size nor the order of the prompts changes what is generated, near ties aside.
Prompts of similar length should follow one another: rows that enter together are padded to one length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from sftgo_cli.curation.decoding_choice import Sampling, choose, random_stream
from sftgo_cli.curation.decoding_rows import Block, joined, prefill, step

PREFILL_TOKENS = 1 << 14  # of one forward pass over prompts, padding included; a longer prompt stands alone


@dataclass(frozen=True)
class Prompt:
    """What is to be completed. `limit`: the most tokens that are generated."""

    number: int
    ids: tuple[int, ...]
    seed: int
    limit: int


@dataclass(frozen=True)
class Generated:
    """The tokens after a prompt, the stop token included."""

    number: int
    ids: list[int]
    stopped: bool  # by a stop token or text; False: at the limit
    near_ties: int


@dataclass(frozen=True)
class Stops:
    """What ends an answer: a token, or a text that `is_text_end` finds at the end of what was generated."""

    ids: frozenset[int]
    is_text_end: Callable[[Sequence[int]], bool] | None = None


@dataclass
class Row:
    """One prompt that is being completed."""

    prompt: Prompt
    stream: torch.Generator | None  # None: greedy
    ids: list[int] = field(default_factory=list)
    near_ties: int = 0
    stopped: bool = False
    is_open: bool = True
    is_handed_over: bool = False

    def add(self, token: int, near_tie: bool, stops: Stops) -> None:
        """Take the next token."""
        self.ids.append(token)
        self.near_ties += near_tie
        self.stopped = token in stops.ids or (stops.is_text_end is not None and stops.is_text_end(self.ids))
        self.is_open = not self.stopped and len(self.ids) < self.prompt.limit

    @property
    def generated(self) -> Generated:
        """What is handed over."""
        return Generated(self.prompt.number, self.ids, self.stopped, self.near_ties)


def new_row(prompt: Prompt, sampling: Sampling, device: torch.device) -> Row:
    """A row at its beginning."""
    return Row(prompt, random_stream(prompt.seed, device) if sampling.temperature > 0 else None)


def choose_and_add(
    rows: Sequence[Row], logits_RV: Tensor, sampling: Sampling, stops: Stops, dtype: torch.dtype
) -> Tensor:
    """Give every open row its next token; int64[R], on the device."""
    streams = [row.stream if row.is_open else None for row in rows]
    tokens_R, near_R = choose(logits_RV, streams, sampling, dtype)
    tokens, near = torch.stack([tokens_R, near_R.long()]).tolist()
    for row, token, near_tie in zip(rows, tokens, near, strict=True):
        if row.is_open:
            row.add(token, bool(near_tie), stops)
    return tokens_R


@dataclass
class _Batch:
    """The rows that are decoded together; finished ones stay among them until rows enter or the cache is full."""

    model: Any
    sampling: Sampling
    stops: Stops
    rows: list[Row] = field(default_factory=list)
    block: Block | None = None
    tokens_R: Tensor | None = None  # the last token of every row

    @property
    def num_open(self) -> int:
        return sum(row.is_open for row in self.rows)

    @property
    def is_wasteful(self) -> bool:
        """Whether leaving out finished rows is worth a copy of the cache, or there is no column left."""
        return self.block is not None and (self.block.is_full or 4 * self.num_open <= 3 * len(self.rows))

    def hand_over(self) -> list[Generated]:
        """What is finished and was not given before."""
        finished = [row for row in self.rows if not row.is_open and not row.is_handed_over]
        for row in finished:
            row.is_handed_over = True
        return [row.generated for row in finished]

    def change(self, prompts: Sequence[Prompt]) -> None:
        """Leave out the finished rows, and take in new ones with their first token."""
        kept = [number for number, row in enumerate(self.rows) if row.is_open]
        parts: list[tuple[Block, Sequence[int]]] = [(self.block, kept)] if self.block is not None and kept else []
        rows = [self.rows[number] for number in kept]
        tokens = [self.tokens_R[kept]] if self.tokens_R is not None and kept else []
        for chunk in _prefill_chunks(prompts):
            number_of = {ids: number for number, ids in enumerate(dict.fromkeys(prompt.ids for prompt in chunk))}
            block, logits_UV = prefill(self.model, list(number_of))  # equal prompts are read once
            numbers = [number_of[prompt.ids] for prompt in chunk]
            fresh = [new_row(prompt, self.sampling, logits_UV.device) for prompt in chunk]
            tokens.append(choose_and_add(fresh, logits_UV[numbers], self.sampling, self.stops, self.model.dtype))
            parts.append((block, numbers))
            rows += fresh
        self.rows, self.block = rows, joined(parts) if parts else None
        self.tokens_R = torch.cat(tokens) if tokens else None

    def step(self) -> None:
        """Give every open row one more token."""
        assert self.block is not None
        assert self.tokens_R is not None
        logits_RV = step(self.model, self.block, self.tokens_R, [row.is_open for row in self.rows])
        self.tokens_R = choose_and_add(self.rows, logits_RV, self.sampling, self.stops, self.model.dtype)


def _prefill_chunks(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """The prompts in pieces of at most PREFILL_TOKENS, padding included."""
    chunk: list[Prompt] = []
    width = 0
    for prompt in prompts:
        width = max(width, len(prompt.ids))
        if chunk and width * (len(chunk) + 1) > PREFILL_TOKENS:
            yield chunk
            chunk, width = [], len(prompt.ids)
        chunk.append(prompt)
    if chunk:
        yield chunk


def decode(
    model: Any, prompts: Iterator[Prompt], sampling: Sampling, stops: Stops, batch_size: int
) -> Iterator[list[Generated]]:
    """Complete the prompts, at most `batch_size` at a time. Finished ones are yielded before others take their place, so
    what was begun and not yet yielded is one batch at most.

    Rows enter when a quarter of the batch is free: every entry is a forward pass of its own.
    """
    batch = _Batch(model, sampling, stops)
    enough, is_last = max(1, batch_size // 4), False
    while not is_last or batch.rows:
        room = batch_size - batch.num_open
        enters = not is_last and room >= enough
        if not enters and batch.num_open and not batch.is_wasteful:
            batch.step()
            continue
        finished = batch.hand_over()
        if finished:
            yield finished
        new = list(islice(prompts, room)) if enters else []
        is_last = is_last or (enters and len(new) < room)
        batch.change(new)
