"""How much a message is trained on, by whichever of the keys in use its author wrote.

Numbers multiply the loss of the message's tokens: `loss_weight`, OpenAI's `weight`, ms-swift's `loss_scale`. Truth values
say whether it is trained on at all: `train`, ms-swift's `loss`, axolotl's `training`. 0 and false mean: not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sftgo_cli.data.cells import read_weight
from sftgo_cli.errors import UserError

NUMBERS = ("loss_weight", "weight", "loss_scale")
FLAGS = ("train", "loss", "training")
WEIGHT_KEYS = (*NUMBERS, *FLAGS)


def message_weight(message: Mapping[str, Any], place: str) -> float | None:
    """The weight that a message says, None where it says nothing.

    Args:
        place: where the message stands, for errors.

    Raises:
        UserError: a number is negative or not finite, a truth value is neither true nor false, or two keys contradict
            each other.
    """
    said = {key: message[key] for key in WEIGHT_KEYS if message.get(key) is not None}
    if not said:
        return None
    numbers = {key: _number(said[key], f"{place}.{key}") for key in NUMBERS if key in said}
    flags = {key: _flag(said[key], f"{place}.{key}") for key in FLAGS if key in said}
    weight = next(iter(numbers.values()), None)
    trained = next(iter(flags.values()), None)
    agree = len(set(numbers.values())) <= 1 and len(set(flags.values())) <= 1
    if not agree or (weight is not None and trained is not None and (weight > 0) != trained):
        text = ", ".join(f"{key}: {value!r}" for key, value in said.items())
        raise UserError(f"the message contradicts itself: {text}", place, "keep one of these keys")
    if weight is None:
        weight = 1.0 if trained else 0.0
    return weight


def asks_for_training(message: Mapping[str, Any]) -> bool:
    """Whether a truth value of the message says that it is to be trained on."""
    return any(message.get(key) in (True, 1) for key in FLAGS)


def _number(value: Any, place: str) -> float:
    where, _, name = place.rpartition(", column ")
    return read_weight(float(value) if isinstance(value, bool) else value, name, where)


def _flag(value: Any, place: str) -> bool:
    if value in (True, False):  # 0 and 1 too
        return bool(value)
    raise UserError(f"expected true or false, found {value!r}", place, "give true or false; a number is loss_weight")
