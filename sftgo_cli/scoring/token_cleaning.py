"""Token Cleaning with fixed models: tokens whose loss a fine-tuned reference lowers most are informative.

    token_scores[t] = base_nll[t] - reference_nll[t]

The base is the model to be trained, the reference a fine-tuned one with the same tokenizer (arXiv 2502.01968). The
difference is `rho1`'s; what differs is the cut: the paper keeps the top 60 % of all training tokens, not of each sample.
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
SOURCE = "Token Cleaning, arXiv 2502.01968, fixed-model cleaning; its self-evolving form is not built"
PATH_OPTIONS = reference.PATH_OPTIONS


class Options(reference.ReferenceOptions):
    """Recipe options of `scoring: {name: token_cleaning}`."""


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
