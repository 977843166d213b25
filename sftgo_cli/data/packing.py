"""Packing: whole samples into bins of at most `capacity` tokens, best-fit decreasing; a sample is never split.

The number of bins depends only on the multiset of lengths, so an epoch's steps can be counted before it starts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit_decreasing(rows: Sequence[int], lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of row numbers; each bin's lengths sum to at most `capacity`.

    Args:
        rows: row numbers, possibly repeated, in the epoch's order (it decides among equal lengths).
        lengths: length of every row of the table, each at most `capacity`.
        capacity: tokens per bin.

    Longest first, each into the fullest bin that still has room: O(n log n).
    """
    bins: list[list[int]] = []
    open_bins: dict[int, list[int]] = {}  # free tokens -> bins with exactly that much room, newest last
    free_sizes: list[int] = []  # the keys of open_bins, sorted
    for row in sorted(rows, key=lambda index: -lengths[index]):
        length = int(lengths[row])
        place = bisect_left(free_sizes, length)
        if place == len(free_sizes):
            number, free = len(bins), capacity
            bins.append([])
        else:
            free = free_sizes[place]
            number = open_bins[free].pop()
            if not open_bins[free]:
                del open_bins[free], free_sizes[place]
        bins[number].append(row)
        left = free - length
        if left > 0:
            if left not in open_bins:
                open_bins[left] = []
                insort(free_sizes, left)
            open_bins[left].append(number)
    return bins


def split_bins(bins: list[list[int]], num_bins: int) -> list[list[int]]:
    """Take samples out of the fullest-by-count bins into bins of their own until there are `num_bins`.

    Used where epochs draw different rows: all epochs then have equally many bins, and no row is dropped or repeated.

    Raises:
        ValueError: there are fewer samples than `num_bins`, or more bins already.
    """
    if not len(bins) <= num_bins <= sum(len(members) for members in bins):
        raise ValueError(f"cannot turn {len(bins)} bins into {num_bins}")
    split = [list(members) for members in bins]
    while len(split) < num_bins:
        largest = max(range(len(split)), key=lambda number: len(split[number]))
        split.append([split[largest].pop()])
    return split
