"""The base model's loss: hard tokens are important; or, with `threshold`, the tokens that are not too hard.

    token_scores[t] = base_nll[t]
    token_scores[t] = ln(threshold) - base_nll[t]      with `threshold`: >= 0 exactly where perplexity <= threshold

The second form is selective token masking (STM, arXiv 2501.14315), which trains only on tokens whose perplexity
exp(base_nll) under the base model is at most 2.5: cut the scores at 0 and train the upper group.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sftgo_cli import token_nll
from sftgo_cli.columns import BASE_NLL, INPUT_IDS, LABELS, TOKEN_SCORES
from sftgo_cli.scoring import reference

if TYPE_CHECKING:
    from sftgo_cli.data.rows import TokenChunk
    from sftgo_cli.scoring.context import ScoringContext

VERSION = 1
SOURCE = "the base model's own loss; with `threshold`: STM, arXiv 2501.14315"
PATH_OPTIONS = ("dtype",)  # the resolved one is in the fingerprint


class Options(token_nll.NllOptions):
    """Recipe options of `scoring: {name: base_nll}`."""

    threshold: Annotated[float, Field(gt=1.0, allow_inf_nan=False)] | None = Field(
        None, description="Perplexity of a token (STM: 2.5); scores are then >= 0 up to it. null: hard is important"
    )


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that scoring reads."""
    return (INPUT_IDS, LABELS), ()


def written(options: Options) -> tuple[str, ...]:
    """The per-token columns that scoring writes."""
    return (TOKEN_SCORES, BASE_NLL)


def fingerprint(options: Options, context: ScoringContext) -> dict[str, Any]:
    """The content of everything that the scores depend on. Raises UserError for what can be known before loading."""
    return reference.base_fingerprint(options, context)


def open_scorer(options: Options, context: ScoringContext) -> Callable[[TokenChunk], reference.Scores]:
    """Load the base model; returns the function shard -> columns, each float32[N] in nats, NaN where not supervised."""
    import numpy as np

    base_nll = reference.open_base(options, context)

    def score(chunk: TokenChunk) -> reference.Scores:
        nll_N = base_nll(chunk)
        scores_N = nll_N if options.threshold is None else np.float32(math.log(options.threshold)) - nll_N
        return {TOKEN_SCORES: scores_N, BASE_NLL: nll_N}

    return score
