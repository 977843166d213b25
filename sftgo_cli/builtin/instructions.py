"""The data set `instructions`: short tasks in simple English with answers of one to three sentences.

A row is `{id, instruction, input, output}`, as in Alpaca; `input` is often empty. Rows are drawn from templates by one
seeded generator, so they are the same on every machine, and no two rows of either split have the same instruction and
input. The answers follow from the input, from arithmetic, or from the facts in `words.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from sftgo_cli.builtin.facts import Example, fact_example, word_example
from sftgo_cli.builtin.passages import order_example, passage_example, sum_example

SEED = 20250601
NUM_ROWS = {"train": 1500, "heldout": 200}

# Rows of each family in train and held-out together: (name, generator, count).
FAMILIES: tuple[tuple[str, Callable[[random.Random], Example], int], ...] = (
    ("passage", passage_example, 520),
    ("fact", fact_example, 420),
    ("word", word_example, 380),
    ("sum", sum_example, 220),
    ("order", order_example, 160),
)


def rows(split: str) -> list[dict[str, Any]]:
    """The rows of `train` or `heldout`; the same on every machine.

    Raises:
        KeyError: another split.
    """
    num_train, num_rows = NUM_ROWS["train"], NUM_ROWS[split]
    examples = _examples()
    chosen = examples[:num_train] if split == "train" else examples[num_train : num_train + num_rows]
    return [_row(split, place, family, example) for place, (family, example) in enumerate(chosen)]


def _examples() -> list[tuple[str, Example]]:
    """All examples of both splits, shuffled, no two with the same instruction and input."""
    rng = random.Random(SEED)
    examples = [(name, example) for name, draw, count in FAMILIES for example in _distinct(rng, draw, count)]
    rng.shuffle(examples)
    return examples


def _distinct(rng: random.Random, draw: Callable[[random.Random], Example], count: int) -> list[Example]:
    """`count` examples in the order drawn; a prompt drawn again is passed over."""
    found: dict[tuple[str, str], Example] = {}
    while len(found) < count:
        example = draw(rng)
        found.setdefault((example.instruction, example.input), example)
    return list(found.values())


def _row(split: str, place: int, family: str, example: Example) -> dict[str, Any]:
    return {"id": f"{family}-{split}-{place:04d}", **example._asdict()}
