"""What architectures do to their logits, and the per-token quantities that are read off them.

Soft-capping (`final_logit_softcapping`: cap(z) = c tanh(z / c), Gemma 2) and the logit scales (`logit_scale`, Cohere
multiplies; `logits_scaling`, Granite divides) are applied as the models' own heads do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    # A frozen model at the same positions: its hidden states [N, H], and what turns rows of them into its logits.
    Reference = tuple[Tensor, Callable[[Tensor], Tensor]]

TERMS: dict[str, str] = {
    "correct": "bool[N]: the target is the likeliest token",
    "top_entropy": "entropy in nats over the renormalized 20 likeliest tokens (fewer in a smaller vocabulary); no gradient",
    "uniform_nll": "mean over the vocabulary of -log p: logsumexp(z) - mean(z)",
    "reference_kl": "KL(reference || model) = sum over v of p_ref (log p_ref - log p), nats; gradient to the model only",
}
TOP_ENTROPY = 20


@dataclass(frozen=True)
class LogitTransform:
    """z = cap(scale x) of the products x = h W^T + b."""

    scale: float = 1.0
    softcap: float | None = None

    @property
    def changes(self) -> bool:
        """Whether z differs from x."""
        return self.scale != 1.0 or self.softcap is not None

    def __call__(self, products_NV: Tensor) -> Tensor:
        """z, same shape and dtype."""
        if self.softcap is not None:
            return (products_NV * (self.scale / self.softcap)).tanh() * self.softcap
        return products_NV if self.scale == 1.0 else products_NV * self.scale

    def with_slope(self, products_NV: Tensor) -> tuple[Tensor, Tensor | float]:
        """z, and dz/dx = scale (1 - tanh^2) from the hyperbolic tangent itself: z / softcap would round it again."""
        if self.softcap is None:
            return self(products_NV), self.scale
        tanh_NV = (products_NV * (self.scale / self.softcap)).tanh()
        return tanh_NV * self.softcap, self.scale * (1.0 - tanh_NV * tanh_NV)


def transform_of(config: Any) -> LogitTransform:
    """Scale and soft cap that a (text) configuration names; `head_probe.fit` finds those that it does not."""
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return LogitTransform(scale=scale, softcap=getattr(config, "final_logit_softcapping", None))


def token_terms(
    logits_NV: Tensor, targets_N: Tensor, terms: Sequence[str] = (), reference: Reference | None = None
) -> dict[str, Tensor]:
    """`nll` [N] in nats, float32 or wider, and the further `terms` (see TERMS), by autograd on whole logits.

    Raises:
        KeyError: an unknown term, or `reference_kl` without a reference.
    """
    import torch
    from torch.nn import functional

    wide_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    result = {"nll": functional.cross_entropy(wide_NV, targets_N, reduction="none").clamp(min=0.0)}
    for name in terms:
        result[name] = _term(name, wide_NV, targets_N, reference)
    return result


def _term(name: str, logits_NV: Tensor, targets_N: Tensor, reference: Reference | None) -> Tensor:
    import torch

    if name == "correct":
        return logits_NV.argmax(dim=-1) == targets_N
    if name == "uniform_nll":
        return torch.logsumexp(logits_NV, dim=-1) - logits_NV.mean(dim=-1)
    if name == "top_entropy":
        top_NK = logits_NV.detach().topk(min(TOP_ENTROPY, logits_NV.shape[-1]), dim=-1).values.log_softmax(dim=-1)
        return -(top_NK.exp() * top_NK).sum(dim=-1)
    if name == "reference_kl" and reference is not None:
        hidden_NH, logits_of = reference
        with torch.no_grad():
            expected_NV = logits_of(hidden_NH).to(logits_NV.dtype).log_softmax(dim=-1)
        return (expected_NV.exp() * (expected_NV - logits_NV.log_softmax(dim=-1))).sum(dim=-1)
    raise KeyError(name)


def rows_of(reference: Reference | None, start: int, stop: int) -> Reference | None:
    """The reference at some of the positions."""
    return None if reference is None else (reference[0][start:stop], reference[1])
