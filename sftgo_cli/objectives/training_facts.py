"""What an objective may ask about the training rows and the model when a run begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class TrainingFacts:
    """Functions, because counting a large data set takes time and most objectives ask nothing."""

    count_tokens: Callable[[], npt.NDArray[np.int64]]  # supervised training tokens per group, int64[G]
    row_values: Callable[[str], npt.NDArray[np.float64]]  # a row column of all training rows, float64[R]
    vocab_size: int  # rows of the language-model head
