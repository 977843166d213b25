"""A peft adapter's numbers put into its base model's weights, and proof that the model is then still the same.

An adapter on the embedding of a model with tied weights leaves the head as it was (or the other way round): such a model is
untied, else both would get the change. Before and after, the logits of a few tokens must agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sftgo_cli.errors import UserError

PROBED_TOKENS = 16
TOLERANCE = {
    torch.float64: 1e-8,
    torch.float32: 1e-3,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}  # of the largest logit


@contextmanager
def quiet_about_ties() -> Iterator[None]:
    """Without peft's advice to untie weights by hand: it is done here."""
    with warnings.catch_warnings():
        for beginning in ("Model with `tie_word_embeddings=True`", "Model has `tie_word_embeddings=True`"):
            warnings.filterwarnings("ignore", message=beginning, category=UserWarning)
        warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys", category=RuntimeWarning)
        yield


def merged(wrapped: Any, where: str) -> Any:
    """The base model of a `PeftModel` with the adapter merged into its weights.

    Raises:
        UserError: the merged model gives other logits.
    """
    before = probe_logits(wrapped)
    tied = _untied(wrapped.get_base_model())
    with quiet_about_ties():
        model = wrapped.merge_and_unload(safe_merge=True)
    if tied:
        _tie_equal(model)
    check_same_logits(before, probe_logits(model), where)
    return model


def _configs(model: Any) -> list[Any]:
    return [model.config, model.config.get_text_config()]


def _untied(base: Any) -> bool:
    """Give the head a weight of its own where it shares the embedding's; whether it did."""
    head = base.get_output_embeddings()
    if head is None or not any(getattr(config, "tie_word_embeddings", False) for config in _configs(base)):
        return False
    for module in head.modules():  # the layer itself, below whatever an adapter puts around it
        if type(module).__module__.partition(".")[0] != "peft" and isinstance(
            module._parameters.get("weight"), torch.nn.Parameter
        ):
            module.weight = torch.nn.Parameter(module.weight.detach().clone(), requires_grad=False)
            break
    for config in _configs(base):
        config.tie_word_embeddings = False
    return True


def _tie_equal(model: Any) -> None:
    """Share the weight again where no adapter made a difference."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if torch.equal(embedding.weight, head.weight):
        head.weight = embedding.weight
        for config in _configs(model):
            config.tie_word_embeddings = True


def probe_logits(model: Any) -> Tensor:
    """float64 [tokens, vocabulary]: logits of a few tokens, the model left as it was."""
    embedding = model.get_input_embeddings()
    ids = torch.arange(PROBED_TOKENS, device=embedding.weight.device) * 7919 % embedding.weight.shape[0]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits: Tensor = model(input_ids=ids[None], use_cache=False).logits[0]
    finally:
        model.train(training)
    return logits.double().cpu()


def check_same_logits(before: Tensor, after: Tensor, where: str, dtype: torch.dtype = torch.float32) -> None:
    """Raises UserError when two models' logits differ by more than rounding in `dtype`."""
    largest = float(before.abs().max().clamp(min=1.0))
    difference = float((before - after).abs().max()) if before.shape == after.shape else float("inf")
    if not difference <= TOLERANCE[dtype] * largest:
        raise UserError(
            f"the merged model is another model: its logits differ by {difference:.3g} (of {largest:.3g})",
            where,
            "use the adapter as it is, beside its base model",
        )
