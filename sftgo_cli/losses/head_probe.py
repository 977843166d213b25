"""Finds out how a model's losses are computed, and verifies it on a few tokens: the loss head's numbers must be those of
the model's own logits, and no logit may depend on a later token.

What stands between the head and the logits is found by feeding known numbers in the head's place and looking at what
comes out: nothing, a factor, or a soft cap. An architecture that does anything else there, or has no head of its own,
keeps its own logits of all positions, which is right for every causal model and takes more memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sftgo_cli.errors import UserError
from sftgo_cli.losses import head
from sftgo_cli.losses.logits import LogitTransform

PROBE_TOKENS = 16
# Relative to the largest loss; bf16 logits of two code paths differ by rounding, as do TF32 ones.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
NARROW_TOLERANCE = 2e-2
FIT_TOLERANCE = 1e-5  # of what comes out for a number fed in the head's place, in float32 at least
PROBED = (-80.0, -8.0, -1.0, -0.25, 0.25, 1.0, 8.0, 80.0, 1e4)
WHERE = "model.name_or_path"


def fit(model: Any, where: str = WHERE) -> str | None:
    """Choose the way to the model's losses and verify it; a line to be said where it is the slower one.

    Args:
        model: a causal LM with its loss head attached, or peft's wrapper around one.
        where: what the user called the model, for messages.

    Raises:
        UserError: it does not run on plain text, a later token changes an earlier logit, padding changes a row's logits,
            or logits differ from call to call.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    route = head.route_of(causal)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            input_ids = probe_ids(causal)
            logits_TV = _first_logits(model, input_ids, where)
            _check_causal(model, input_ids, logits_TV, where)
            _check_batch(model, input_ids, logits_TV, where)
            head_name = route.head_name
            if head_name is not None:
                for transform in _transforms(causal, input_ids):
                    route.transform = transform
                    if _agrees(model, input_ids, logits_TV):
                        return None
                route.head_name = None
            difference = _difference(model, input_ids, logits_TV)
            if not _within(difference, logits_TV):
                raise UserError(
                    f"the logits of {type(causal).__name__} differ from call to call (losses by {difference:.3g} nats)",
                    where,
                    "use an architecture whose evaluation draws no random numbers",
                )
    finally:
        model.train(was_training)
    return f"{type(causal).__name__} gives its losses from all logits of a batch at once: this takes more memory"


def probe_ids(model: Any) -> Tensor:
    """int64[1, T]: ordinary tokens, none that the configuration gives a meaning of its own."""
    config = model.config
    parts = (config, config.get_text_config())
    special = {
        value
        for part in parts
        for name, entry in vars(part).items()
        if name.endswith(("_token_id", "_token_index", "_token_ids"))
        for value in (entry if isinstance(entry, list) else [entry])
    }
    known = model.get_input_embeddings().weight.shape[0]
    size = min(known, getattr(config.get_text_config(), "vocab_size", None) or known)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, size, (4 * PROBE_TOKENS + len(special),), generator=generator).tolist()
    ids = [number for number in drawn if number not in special][:PROBE_TOKENS]
    return torch.tensor([ids or drawn[:PROBE_TOKENS]], device=next(model.parameters()).device)


def _inputs(model: Any, input_ids: Tensor) -> dict[str, Any]:
    """What a row of training gives the model."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "use_cache": False}
    return head.route_of(causal).accepted(inputs)


def _logits(model: Any, input_ids: Tensor) -> Tensor:
    """The model's own logits [T, V], in float32 at least."""
    logits_TV: Tensor = model(**_inputs(model, input_ids)).logits[0]
    return logits_TV if logits_TV.dtype == torch.float64 else logits_TV.float()


def _first_logits(model: Any, input_ids: Tensor, where: str) -> Tensor:
    """The same; an architecture whose forward wants images, a language or another length fails here, whatever it says."""
    try:
        return _logits(model, input_ids)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models raise whatever they like
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"{type(model).__name__} does not run on plain text: {reason}",
            where,
            "set what it asks for in its config.json, or use a text model",
        ) from error


def _tolerance(model: Any) -> float:
    parameter = next(parameter for parameter in model.parameters() if parameter.is_floating_point())
    if torch.is_autocast_enabled(parameter.device.type):
        return NARROW_TOLERANCE
    return TOLERANCE.get(parameter.dtype, NARROW_TOLERANCE)


def _check_causal(model: Any, input_ids: Tensor, logits_TV: Tensor, where: str) -> None:
    """A changed second half must leave the logits of the first as they are."""
    half = PROBE_TOKENS // 2
    other = input_ids.clone()
    other[0, half:] = input_ids[0, half:].flip(0).roll(1)
    difference = float((_logits(model, other)[:half] - logits_TV[:half]).abs().max())
    if difference > _tolerance(model) * max(1.0, float(logits_TV.abs().max())):
        raise UserError(
            f"{type(model).__name__} is not causal: a later token changes the logits of earlier ones by {difference:.3g}",
            where,
            "use a causal language model (a decoder; for BERT's kind with is_decoder: true in its config.json)",
        )


def _check_batch(model: Any, input_ids: Tensor, logits_TV: Tensor, where: str) -> None:
    """A row in a batch, padded on the right, must have the logits that it has alone."""
    short = PROBE_TOKENS - 5
    batch = input_ids.repeat(2, 1)
    batch[1, short:] = 0
    mask = torch.ones_like(batch)
    mask[1, short:] = 0
    inputs = {**_inputs(model, batch), "attention_mask": mask}
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    logits_BTV = model(**head.route_of(causal).accepted(inputs)).logits.to(logits_TV.dtype)
    alone_TV = _logits(model, input_ids[:, :short])
    differences = [(logits_BTV[0] - logits_TV).abs().max(), (logits_BTV[1, :short] - alone_TV).abs().max()]
    difference = max(float(each) for each in differences)
    if difference > _tolerance(model) * max(1.0, float(logits_TV.abs().max())):
        raise UserError(
            f"{type(causal).__name__} gives a row other logits in a padded batch than alone (by {difference:.3g})",
            where,
            "use another architecture, or another model.attn_implementation",
        )


def _expected(input_ids: Tensor, logits_TV: Tensor) -> Tensor:
    return functional.cross_entropy(logits_TV[:-1], input_ids[0, 1:], reduction="none")


def _difference(model: Any, input_ids: Tensor, logits_TV: Tensor) -> float:
    nll_N = model(**_inputs(model, input_ids), supervised_labels=input_ids)["nll"]
    expected_N = _expected(input_ids, logits_TV)
    return float((nll_N.to(expected_N.dtype) - expected_N).abs().max())


def _within(difference: float, logits_TV: Tensor, tolerance: float = NARROW_TOLERANCE) -> bool:
    """NaN is within: a base model whose weights are not finite is the first step's to report."""
    largest = float(logits_TV.abs().max())
    return not difference > tolerance * max(1.0, largest if math.isfinite(largest) else 1.0)


def _agrees(model: Any, input_ids: Tensor, logits_TV: Tensor) -> bool:
    try:
        difference = _difference(model, input_ids, logits_TV)
    except (ValueError, RuntimeError, IndexError):  # what stands behind the head wants more than one logit
        return False
    return _within(difference, _expected(input_ids, logits_TV), _tolerance(model))


class _Feed(head.HeadFeed):
    numbers = PROBED


def _transforms(model: Any, input_ids: Tensor) -> Iterator[LogitTransform]:
    """What turns the head's products into logits: as the configuration says, else as it is found; none may fit."""
    inputs = head.route_of(model).accepted({"input_ids": input_ids, "use_cache": False})
    try:
        given_T = head.tapped(model, _Feed, **inputs)[1].logits.flatten()
    except (ValueError, RuntimeError, IndexError):
        return
    if given_T.shape != input_ids.shape[1:]:
        return
    fed_T = given_T.new_tensor([PROBED[place % len(PROBED)] for place in range(len(given_T))])
    tolerance = max(FIT_TOLERANCE, 4 * torch.finfo(given_T.dtype).eps)
    at_one, largest = (float(given_T[PROBED.index(number)]) for number in (1.0, max(PROBED)))
    candidates = [head.route_of(model).transform, LogitTransform(scale=at_one)]
    if 0 < abs(at_one) < largest:
        candidates.append(LogitTransform(scale=largest * math.atanh(at_one / largest), softcap=largest))
    for candidate in candidates:
        error_T = (candidate(fed_T) - given_T).abs()
        if bool((error_T <= tolerance * (given_T.abs() + 1e-9)).all()):
            yield candidate
