"""`reference_nll` alone, for an objective that compares its live loss with a reference model's: no score, no group.

Run by the same stage as the scorers that run a model, under the same kind of key; see the package's docstring.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sftgo_cli.columns import INPUT_IDS, LABELS, REFERENCE_NLL
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodChoice
from sftgo_cli.scoring import reference

if TYPE_CHECKING:
    from sftgo_cli.data.rows import TokenChunk
    from sftgo_cli.data.stages import Rows
    from sftgo_cli.reference_model import ReferenceModel
    from sftgo_cli.scoring.context import ScoringContext

VERSION = 1
PATH_OPTIONS = reference.PATH_OPTIONS
KEY = "objective.reference"


class Options(reference.ReferenceOptions):
    """The objective's reference, scored as `scoring: {name: rho1}` would."""


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that scoring reads."""
    return (INPUT_IDS, LABELS), ()


def written(options: Options) -> tuple[str, ...]:
    """The per-token columns that scoring writes."""
    return (REFERENCE_NLL,)


def fingerprint(options: Options, context: ScoringContext) -> dict[str, Any]:
    """The reference's content and the compute type. Raises UserError as `reference.pair_fingerprint`."""
    from sftgo_cli.reference_model import check_same_tokenizer, reference_fingerprint

    model = _found(options, context)
    check_same_tokenizer(model, context.tokenizer)
    return {"reference": reference_fingerprint(model), "dtype": options.dtype or context.model.dtype}


def open_scorer(options: Options, context: ScoringContext) -> Callable[[TokenChunk], reference.Scores]:
    """Load the reference; returns the function shard -> `reference_nll`, float32[N] in nats, NaN where unsupervised."""
    from sftgo_cli.reference_model import load_reference
    from sftgo_cli.token_nll import check_model, to_device, token_nll

    found = _found(options, context)
    model = to_device(load_reference(found, options.dtype or context.model.dtype))
    check_model(model, found.where)
    return lambda chunk: {REFERENCE_NLL: token_nll(model, chunk, options.batch_tokens, found.where)}


def _found(options: Options, context: ScoringContext) -> ReferenceModel:
    from sftgo_cli.reference_model import find_reference

    return find_reference(options.reference, options.revision, context.model, context.recipe_dir, context.find_run, KEY)


def check_objective(
    objective: MethodChoice, module: ModuleType, scorer: MethodChoice, scorer_module: ModuleType
) -> None:
    """Raises UserError when the objective needs `reference_nll` and neither it nor the scorer names a reference."""
    wants = hasattr(module, "token_columns") and REFERENCE_NLL in module.token_columns(objective.options)
    written = scorer_module.written(scorer.options) if hasattr(scorer_module, "written") else ()
    if wants and module.reference(objective.options) is None and REFERENCE_NLL not in written:
        raise UserError(
            f"objective {objective.name} compares with a reference model, and there is none",
            KEY,
            "name one here: a Hub id, a folder, a run or the recipe of a run (a combination of scorers keeps none)",
        )


def with_reference_nll(
    rows: Rows, tokens: Rows, objective: MethodChoice, module: ModuleType, context: ScoringContext
) -> Rows:
    """The finished rows with `reference_nll` beside them where the objective reads it and names a reference of its own,
    in the place of what scoring may have written from another one.

    Args:
        tokens: the same rows before scoring: what the reference's losses depend on.
    """
    from datasets import concatenate_datasets

    from sftgo_cli.data.stages import Rows
    from sftgo_cli.scoring.stages import scored

    if not hasattr(module, "token_columns") or REFERENCE_NLL not in module.token_columns(objective.options):
        return rows
    name = module.reference(objective.options)
    if name is None:
        return rows
    choice = MethodChoice(name=REFERENCE_NLL, options=Options.model_validate({"reference": name}))
    losses = scored(tokens, tokens, choice, sys.modules[__name__], context, context.say)
    datasets = []
    for dataset, scored_rows in zip(rows.datasets, losses.datasets, strict=True):
        kept = dataset.remove_columns([REFERENCE_NLL]) if REFERENCE_NLL in dataset.column_names else dataset
        datasets.append(concatenate_datasets([kept, scored_rows.select_columns([REFERENCE_NLL])], axis=1))
    return Rows(datasets, [f"{key}+{other}" for key, other in zip(rows.keys, losses.keys, strict=True)])
