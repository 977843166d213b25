"""Rho-1's excess loss: tokens that the base model finds harder than a reference trained on good data are important.

    token_scores[t] = base_nll[t] - reference_nll[t]

The reference is the same base model, fine-tuned on a small high-quality set (arXiv 2404.07965 section 2.2, equation 3);
the paper keeps the top 60 % of the tokens at 1B parameters and 70 % at 7B. There the first loss is the live model's;
here it is the base model's, so that the scores can be cached [R]. Both losses are kept as columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sftgo_cli.columns import INPUT_IDS, LABELS
from sftgo_cli.scoring import reference

if TYPE_CHECKING:
    from sftgo_cli.data.rows import TokenChunk
    from sftgo_cli.scoring.context import ScoringContext

VERSION = 1
SOURCE = "Rho-1, arXiv 2404.07965; static form: the base model's loss in the live model's place"
PATH_OPTIONS = reference.PATH_OPTIONS


class Options(reference.ReferenceOptions):
    """Recipe options of `scoring: {name: rho1}`."""


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that scoring reads."""
    return (INPUT_IDS, LABELS), ()


def written(options: Options) -> tuple[str, ...]:
    """The per-token columns that scoring writes."""
    return reference.COLUMNS


def fingerprint(options: Options, context: ScoringContext) -> dict[str, Any]:
    """The content of everything that the scores depend on. Raises UserError for what can be known before loading."""
    return reference.pair_fingerprint(options, context)


def open_scorer(options: Options, context: ScoringContext) -> Callable[[TokenChunk], reference.Scores]:
    """Load both models; returns the function shard -> columns, each float32[N] in nats, NaN where not supervised."""
    return reference.open_excess(options, context)
