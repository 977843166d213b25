"""The data set `arithmetic`: one- and two-step sums of small numbers with a short worked answer and the bare result.

A row is `{id, prompt, completion, answer}`; `answer` is the result as decimal digits, and `completion` ends with it.
The shipped base model has met the one-step facts in another wording, as any base model has, and no two-step expression
of these rows: so it is right on some prompts and wrong on others. No expression stands in both splits.
"""

from __future__ import annotations

import random
from typing import Any

SEED = 20250602
NUM_ROWS = {"train": 480, "heldout": 120}
NUM_ONE_STEP = {"train": 132, "heldout": 33}

# A step is (sign, number); an expression is its first number and one or two steps.
Step = tuple[str, int]
Expression = tuple[int, tuple[Step, ...]]

_WORDS = {"+": "plus", "-": "minus"}


def one_step_expressions() -> list[Expression]:
    """a plus b with a, b in 1..9, and a minus b with b in 1..9 and a result in 0..9; 171 in all."""
    sums: list[Expression] = [(a, (("+", b),)) for a in range(1, 10) for b in range(1, 10)]
    differences: list[Expression] = [(b + rest, (("-", b),)) for b in range(1, 10) for rest in range(10)]
    return sums + differences


def two_step_expressions() -> list[Expression]:
    """a plus b plus or minus c, with a, b, c in 1..9 and no result below 0 or above 20."""
    return [
        (a, (("+", b), (sign, c)))
        for a in range(1, 10)
        for b in range(1, 10)
        for sign in ("+", "-")
        for c in range(1, 10)
        if 0 <= value((a, (("+", b), (sign, c)))) <= 20
    ]


def value(expression: Expression) -> int:
    """The expression's result, evaluated from left to right."""
    total, steps = expression
    for sign, number in steps:
        total += number if sign == "+" else -number
    return total


def words(expression: Expression) -> str:
    """The expression as one says it: "3 plus 4 minus 2"."""
    first, steps = expression
    return " ".join([str(first), *(f"{_WORDS[sign]} {number}" for sign, number in steps)])


def question(expression: Expression) -> str:
    """The prompt of an expression, in the wording that the base model knows."""
    return f"What is {words(expression)}?"


def plain_answer(expression: Expression) -> str:
    """The base model's own wording: "3 plus 4 is 7. 7 minus 2 is 5."."""
    total, steps = expression
    said = []
    for step in steps:
        after = value((total, (step,)))
        said.append(f"{words((total, (step,)))} is {after}.")
        total = after
    return " ".join(said)


def worked_answer(expression: Expression) -> str:
    """The gold wording: "Start with 3 and add 4 to get 7. Then take away 2 to get 5. The answer is 5."."""
    total, steps = expression
    said = []
    for place, (sign, number) in enumerate(steps):
        opening = f"Start with {total} and" if place == 0 else "Then"
        total = value((total, ((sign, number),)))
        said.append(f"{opening} {'add' if sign == '+' else 'take away'} {number} to get {total}.")
    return " ".join([*said, f"The answer is {total}."])


def split_expressions() -> dict[str, list[Expression]]:
    """The expressions of each split, in the order of the rows."""
    rng = random.Random(SEED)
    one_step, two_step = one_step_expressions(), two_step_expressions()
    rng.shuffle(one_step)
    rng.shuffle(two_step)
    chosen: dict[str, list[Expression]] = {}
    for split, num_rows in NUM_ROWS.items():
        num_one_step = NUM_ONE_STEP[split]
        picked = _take(one_step, num_one_step) + _take(two_step, num_rows - num_one_step)
        rng.shuffle(picked)
        chosen[split] = picked
    return chosen


def rows(split: str) -> list[dict[str, Any]]:
    """The rows of `train` or `heldout`; the same on every machine.

    Raises:
        KeyError: another split.
    """
    return [_row(split, place, expression) for place, expression in enumerate(split_expressions()[split])]


def _row(split: str, place: int, expression: Expression) -> dict[str, Any]:
    return {
        "id": f"arithmetic-{split}-{place:04d}",
        "prompt": question(expression),
        "completion": worked_answer(expression),
        "answer": str(value(expression)),
    }


def _take(pool: list[Expression], count: int) -> list[Expression]:
    taken = pool[:count]
    del pool[:count]
    return taken
