"""Which rows each optimizer step trains on: a pure function of (data seed, epoch), the same for every way to split a step.

An epoch draws its rows (floor(w n) of a source's n rows), orders them by a permutation seeded with (data_seed, epoch),
puts them in bins (one row each, or packed), and cuts the bins into global batches of
per_device_train_batch_size x gradient_accumulation_steps x world size. A global batch is dealt to micro-batches and ranks
in slices of the device batch; a short last step is filled with empty micro-batches. No row is repeated or dropped, and a
resumed run needs nothing but its step number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sftgo_cli.data.packing import best_fit_decreasing, split_bins
from sftgo_cli.errors import UserError

Strategy = Literal["random", "sequential", "group_by_length"]
Bin = list[int]
LENGTH_WINDOW = 50  # global batches that group_by_length sorts together


@dataclass(frozen=True)
class SourceRows:
    """Consecutive rows of the table that one data source gave, and its weight."""

    first_row: int
    num_rows: int
    weight: float = 1.0

    def num_drawn(self) -> int:
        """Rows drawn each epoch: floor(w n); the 1e-9 keeps 0.1 x 30 at 3."""
        return math.floor(self.weight * self.num_rows + 1e-9)


def check_drawn(num_rows: Sequence[int], weights: Sequence[float]) -> None:
    """Raises UserError when a source's weight draws none of its rows."""
    for number, (count, weight) in enumerate(zip(num_rows, weights, strict=True)):
        if SourceRows(0, count, weight).num_drawn() == 0:
            raise UserError(
                f"a weight of {weight:g} draws none of {count} rows",
                f"data.train.{number}.weight",
                "raise it, or remove the source",
            )


@dataclass(frozen=True)
class SamplingPlan:
    """Everything that decides an epoch's order of rows."""

    sources: tuple[SourceRows, ...]
    lengths: npt.NDArray[np.int64]
    data_seed: int
    strategy: Strategy = "random"
    pack_to: int | None = None  # tokens per bin when packing


def draw_rows(plan: SamplingPlan, epoch: int) -> list[int]:
    """The epoch's rows in table order: each source whole floor(w) times, plus a seeded part of it."""
    drawn: list[int] = []
    for number, source in enumerate(plan.sources):
        rows = list(range(source.first_row, source.first_row + source.num_rows))
        whole, part = divmod(source.num_drawn(), source.num_rows)
        generator = np.random.default_rng([plan.data_seed, epoch, number, 1])
        extra = sorted(generator.permutation(source.num_rows)[:part].tolist())
        drawn += rows * whole + [source.first_row + index for index in extra]
    return drawn


def epoch_bins(plan: SamplingPlan, epoch: int, num_bins: int | None = None) -> list[Bin]:
    """The epoch's bins in training order; `num_bins` makes a packed epoch as long as the others."""
    rows = draw_rows(plan, epoch)
    generator = np.random.default_rng([plan.data_seed, epoch, 0])
    if plan.strategy != "sequential":
        rows = [rows[index] for index in generator.permutation(len(rows))]
    if plan.pack_to is None:
        return [[row] for row in rows]
    bins = best_fit_decreasing(rows, plan.lengths.tolist(), plan.pack_to)
    if num_bins is not None:
        bins = split_bins(bins, num_bins)
    if plan.strategy == "sequential":
        return bins
    return [bins[index] for index in generator.permutation(len(bins))]


def bins_per_epoch(plan: SamplingPlan, num_epochs: int) -> int:
    """Bins of every epoch. Epochs that draw different rows are all brought to the longest one's number of bins."""
    fractional = any(source.num_drawn() % source.num_rows for source in plan.sources)
    if plan.pack_to is None:
        return sum(source.num_drawn() for source in plan.sources)
    return max(len(epoch_bins(plan, epoch)) for epoch in range(num_epochs if fractional else 1))


def global_batches(plan: SamplingPlan, epoch: int, num_bins: int, bins_per_step: int) -> list[list[Bin]]:
    """The bins of each optimizer step of the epoch; all of `bins_per_step` but the last, which may be shorter."""
    bins = epoch_bins(plan, epoch, num_bins if plan.pack_to is not None else None)
    if plan.strategy == "group_by_length":
        return _length_grouped(plan, bins, epoch, bins_per_step)
    return [bins[start : start + bins_per_step] for start in range(0, len(bins), bins_per_step)]


def _length_grouped(plan: SamplingPlan, bins: list[Bin], epoch: int, bins_per_step: int) -> list[list[Bin]]:
    """Steps of rows of similar length, in a random order of steps; the short step stays last."""
    window = LENGTH_WINDOW * bins_per_step
    ordered: list[Bin] = []
    for start in range(0, len(bins), window):
        ordered += sorted(bins[start : start + window], key=lambda members: -int(plan.lengths[members].sum()))
    steps = [ordered[start : start + bins_per_step] for start in range(0, len(ordered), bins_per_step)]
    whole = [step for step in steps if len(step) == bins_per_step]
    short = [step for step in steps if len(step) < bins_per_step]
    order = np.random.default_rng([plan.data_seed, epoch, 2]).permutation(len(whole))
    return [whole[index] for index in order] + short


class StepSampler:
    """Batch sampler of one rank: yields micro-batches (lists of bins, possibly empty), accumulation steps after each other.

    Every rank and epoch yields ceil(bins / bins per step) x gradient_accumulation_steps micro-batches. Inside a step the
    bins are sorted by length before they are dealt, so that a micro-batch pads little; the step's sum does not change.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        num_epochs: int,
        device_batch_size: int,
        accumulation_steps: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.plan = plan
        self.device_batch_size = device_batch_size
        self.accumulation_steps = accumulation_steps
        self.rank = rank
        self.world_size = world_size
        self.num_bins = bins_per_epoch(plan, num_epochs)
        self.bins_per_step = device_batch_size * accumulation_steps * world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The Trainer calls this before it iterates."""
        self.epoch = epoch

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return math.ceil(self.num_bins / self.bins_per_step)

    def __len__(self) -> int:
        return self.steps_per_epoch * self.accumulation_steps

    def __iter__(self) -> Iterator[list[Bin]]:
        for step in global_batches(self.plan, self.epoch, self.num_bins, self.bins_per_step):
            yield from self.deal(step)

    def deal(self, step: Sequence[Bin]) -> list[list[Bin]]:
        """This rank's micro-batches of one step: slice j x world_size + rank for micro-batch j."""
        ordered = sorted(step, key=lambda members: -int(self.plan.lengths[members].sum()))
        size = self.device_batch_size
        slices = [ordered[start : start + size] for start in range(0, self.bins_per_step, size)]
        return slices[self.rank :: self.world_size]


class EvaluationSampler:
    """Batches of an evaluation set for one rank: every row once, longest first, ranks padded with empty batches."""

    def __init__(
        self, lengths: npt.NDArray[np.int64], device_batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        order = np.argsort(-lengths, kind="stable").tolist()
        batches = [
            [[row] for row in order[start : start + device_batch_size]]
            for start in range(0, len(order), device_batch_size)
        ]
        rounds = math.ceil(len(batches) / world_size)
        padded = batches + [[] for _ in range(rounds * world_size - len(batches))]
        self.batches: list[list[Bin]] = padded[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Bin]]:
        return iter(self.batches)
