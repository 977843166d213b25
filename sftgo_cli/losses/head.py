"""The loss head: a causal LM's forward that returns per-token losses of supervised positions instead of logits.

`attach(model)` replaces the instance's `forward`, before PEFT and wrapping. Called with `supervised_labels` it runs the
backbone, selects the positions whose next token is supervised, and calls `lm_head(hidden, targets)`, whose own `forward`
is replaced too, so that sharding hooks (FSDP, ZeRO-3) fire on the head. Called without, the original forward runs:
generation and evaluation by other tools see no difference. `probe(model)` compares the two on a few tokens.

    nll_N[i] = logsumexp(z_i) - z_i[target_i],   z = cap(scale * hidden W^T + b),  float32 (float64 for float64 models)

Soft-capping (`final_logit_softcapping`: cap(z) = c tanh(z / c), Gemma 2) and the logit scales (`logit_scale`, Cohere
multiplies; `logits_scaling`, Granite divides) are applied as the models' own heads do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

from sftgo_cli.columns import IGNORE_INDEX
from sftgo_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    Reference = tuple[Tensor, Callable[[Tensor], Tensor]]

TERMS: dict[str, str] = {
    "correct": "bool[N]: the target is the likeliest token",
    "top_entropy": "entropy in nats over the renormalized 20 likeliest tokens (fewer in a smaller vocabulary); no gradient",
    "uniform_nll": "mean over the vocabulary of -log p: logsumexp(z) - mean(z)",
    "reference_kl": "KL(reference || model) = sum over v of p_ref (log p_ref - log p), nats; gradient to the model only",
}
TOP_ENTROPY = 20
PROBE_TOKENS = 16
PROBE_TOLERANCE = 2e-2  # bf16 logits of two code paths differ by rounding; a missing scale or cap by far more


@dataclass(frozen=True)
class LogitTransform:
    """What an architecture does to its logits: z -> cap(scale z)."""

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, logits_NV: Tensor) -> Tensor:
        """Transformed logits, same shape and dtype."""
        scaled_NV = logits_NV if self.scale == 1.0 else logits_NV * self.scale
        return scaled_NV if self.softcap is None else (scaled_NV / self.softcap).tanh() * self.softcap


def transform_of(config: Any) -> LogitTransform:
    """Scale and soft cap from the model's configuration."""
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return LogitTransform(scale=scale, softcap=getattr(config, "final_logit_softcapping", None))


def attach(model: nn.Module) -> None:
    """Give `model` (a causal LM instance) the loss forward; doing it twice changes nothing.

    Raises:
        UserError: the model has no separable language-model head.
    """
    if getattr(model, "_sftgo_head", False):
        return
    embeddings: Any = getattr(model, "get_output_embeddings", lambda: None)
    head = embeddings()
    backbone_name = getattr(model, "base_model_prefix", "")
    if head is None or not hasattr(model, backbone_name):
        raise UserError(
            f"{type(model).__name__} has no separable backbone and language-model head",
            "model.name_or_path",
            "use a causal language model (AutoModelForCausalLM) with an lm_head",
        )
    transform = transform_of(model.config)
    original_head, original_forward = head.forward, model.forward

    def head_forward(
        self: nn.Module,
        hidden: Tensor,
        targets_N: Tensor | None = None,
        terms: Sequence[str] = (),
        reference: Reference | None = None,
    ) -> Any:
        if targets_N is None:
            return original_head(hidden)
        return token_losses(transform(original_head(hidden)), targets_N, terms, reference)

    def forward(self: Any, *args: Any, supervised_labels: Tensor | None = None, **kwargs: Any) -> Any:
        if supervised_labels is None:
            return original_forward(*args, **kwargs)
        return _loss_forward(self, getattr(self, backbone_name), head, supervised_labels, *args, **kwargs)

    head.forward = MethodType(head_forward, head)
    model.forward = MethodType(forward, model)
    model._sftgo_head = True  # type: ignore[assignment]


def _loss_forward(
    model: Any,
    backbone: Any,
    head: Any,
    labels_BT: Tensor,
    *args: Any,
    terms: Sequence[str] = (),
    reference: Reference | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    kwargs.setdefault("use_cache", False)
    mixture = bool(getattr(model.config, "output_router_logits", False))
    if mixture:
        kwargs["output_router_logits"] = True
    outputs = backbone(*args, **kwargs)
    hidden_NH, targets_N = select_supervised(outputs.last_hidden_state, labels_BT)
    result: dict[str, Any] = dict(head(hidden_NH, targets_N, terms, reference))
    if mixture:
        balance = sys.modules[type(model).__module__].load_balancing_loss_func
        experts = model.num_experts if hasattr(model, "num_experts") else model.config.num_local_experts
        per_token = model.config.num_experts_per_tok
        auxiliary = balance(outputs.router_logits, experts, per_token, kwargs.get("attention_mask"))
        result["auxiliary_loss"] = model.config.router_aux_loss_coef * auxiliary
    return result


def select_supervised(hidden_BTH: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states that predict a supervised token [N, H] and those tokens [N], rows first, then positions.

    `labels_BT[b, t]` is the token at t itself, or -100: the state at t - 1 predicts it. Nothing predicts t = 0.
    """
    targets_BT = labels_BT[:, 1:]
    mask_BT = targets_BT != IGNORE_INDEX
    return hidden_BTH[:, :-1][mask_BT], targets_BT[mask_BT]


def token_losses(
    logits_NV: Tensor, targets_N: Tensor, terms: Sequence[str] = (), reference: Reference | None = None
) -> dict[str, Tensor]:
    """`nll` [N] in nats, float32 or wider, and the further `terms` (see TERMS) that an objective or evaluation asks for."""
    import torch
    from torch.nn import functional

    wide_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    result = {"nll": functional.cross_entropy(wide_NV, targets_N, reduction="none")}
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


def reference_of(model: Any, inputs: Mapping[str, Any], labels_BT: Tensor) -> Reference:
    """What `reference_kl` needs of a frozen model whose head is attached: its hidden states at the supervised
    positions [N, H], and the function that turns rows of them into its logits."""
    import torch

    head, transform = model.get_output_embeddings(), transform_of(model.config)
    with torch.no_grad():
        outputs = getattr(model, model.base_model_prefix)(**inputs, use_cache=False)
        hidden_NH, _ = select_supervised(outputs.last_hidden_state, labels_BT)
    return hidden_NH, lambda rows_NH: transform(head(rows_NH))


def probe(model: Any, vocab_size: int) -> None:
    """Check on a few tokens that the loss forward equals cross-entropy on the model's own logits.

    Raises:
        UserError: they differ: the architecture does something to its logits that the head does not know.
    """
    import torch
    from torch.nn import functional

    device = next(model.parameters()).device
    input_ids = torch.arange(PROBE_TOKENS, device=device)[None] % vocab_size
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits_TV = model(input_ids=input_ids).logits[0].float()
            nll_N = model(input_ids=input_ids, supervised_labels=input_ids)["nll"].float()
    finally:
        model.train(was_training)
    expected_N = functional.cross_entropy(logits_TV[:-1], input_ids[0, 1:], reduction="none")
    difference = float((nll_N - expected_N).abs().max())
    if difference > PROBE_TOLERANCE * max(1.0, float(expected_N.abs().max())):
        raise UserError(
            f"{type(model).__name__} computes its logits in a way the loss head does not know (losses differ by "
            f"{difference:.3g} nats)",
            "model.name_or_path",
            "report the architecture; its head needs a logit transform in losses/head.py",
        )
