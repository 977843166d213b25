"""Scorers that compare the base model with a reference: their options, what identifies both, and the excess loss.

    excess[t] = base_nll[t] - reference_nll[t]

Both models are held in memory at once; each shard goes through the base model, then through the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sftgo_cli.columns import BASE_NLL, REFERENCE_NLL, TOKEN_SCORES
from sftgo_cli.token_nll import NllOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenChunk
    from sftgo_cli.reference_model import ReferenceModel
    from sftgo_cli.scoring.context import ScoringContext

    Scores = dict[str, npt.NDArray[np.float32]]

COLUMNS = (TOKEN_SCORES, BASE_NLL, REFERENCE_NLL)
PATH_OPTIONS = ("reference", "revision", "dtype")  # the content they stand for is in the fingerprint


class ReferenceOptions(NllOptions):
    """Options of a scorer with a reference model."""

    reference: str = Field(
        min_length=1, description="Hub id, folder of a model, folder of a finished run, or a recipe (.yaml): its run"
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a reference on the Hub")


def found(options: ReferenceOptions, context: ScoringContext) -> ReferenceModel:
    """The reference that the options name. Raises UserError when there is none."""
    from sftgo_cli.reference_model import find_reference

    return find_reference(
        options.reference,
        options.revision,
        context.model,
        context.recipe_dir,
        context.find_run,
        "scoring.reference",
    )


def base_fingerprint(options: NllOptions, context: ScoringContext) -> dict[str, Any]:
    """The base weights' content, their quantization, and the compute type of the scoring models."""
    from sftgo_cli.base_model import model_fingerprint
    from sftgo_cli.reference_model import check_safetensors

    check_safetensors(context.model, context.recipe_dir)
    return {
        "base": model_fingerprint(context.model, context.recipe_dir),
        "quantization": context.model.quantization,
        "dtype": options.dtype or context.model.dtype,
    }


def pair_fingerprint(options: ReferenceOptions, context: ScoringContext) -> dict[str, Any]:
    """Content of base and reference, and the compute type; says so when both are the same model.

    Raises:
        UserError: there is no such reference, it is not finished or pickled, or its tokenizer is another one.
    """
    from sftgo_cli.reference_model import check_same_tokenizer, reference_fingerprint

    reference = found(options, context)
    check_same_tokenizer(reference, context.tokenizer)
    content = {**base_fingerprint(options, context), "reference": reference_fingerprint(reference)}
    if content["reference"] == content["base"]:
        context.say(f"{reference.where} is the base model itself: every score is 0")
    return content


def open_base(options: NllOptions, context: ScoringContext) -> Callable[[TokenChunk], npt.NDArray[np.float32]]:
    """Load the recipe's base model; returns the function shard -> NLL per token."""
    from sftgo_cli.base_model import load_base_model
    from sftgo_cli.token_nll import check_model, to_device, token_nll

    where = f"model.name_or_path: {context.model.name_or_path}"
    model = to_device(load_base_model(context.model, context.recipe_dir, options.dtype or context.model.dtype))
    check_model(model, where)
    return lambda chunk: token_nll(model, chunk, options.batch_tokens, where)


def open_excess(options: ReferenceOptions, context: ScoringContext) -> Callable[[TokenChunk], Scores]:
    """Load base and reference; returns the function shard -> `COLUMNS`, each float32[N], NaN where not supervised."""
    from sftgo_cli.reference_model import load_reference
    from sftgo_cli.token_nll import check_model, to_device, token_nll

    reference = found(options, context)
    base_nll = open_base(options, context)
    model = to_device(load_reference(reference, options.dtype or context.model.dtype))
    check_model(model, reference.where)

    def score(chunk: TokenChunk) -> Scores:
        base_N = base_nll(chunk)
        reference_N = token_nll(model, chunk, options.batch_tokens, reference.where)
        return dict(zip(COLUMNS, (base_N - reference_N, base_N, reference_N), strict=True))

    return score
