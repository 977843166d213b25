"""The loss head: a causal LM's forward that returns per-token losses of supervised positions instead of logits.

`attach(model)` replaces the instance's `forward`, before PEFT and wrapping. Called with `supervised_labels` it runs the
backbone, selects the positions whose next token is supervised, and calls `lm_head(hidden, targets)`, whose own `forward`
is replaced too, so that sharding hooks (FSDP, ZeRO-3) fire on the head. Called without, the original forward runs:
generation and evaluation by other tools see no difference. `probe(model)` compares the two on a few tokens.

    nll_N[i] = logsumexp(z_i) - z_i[target_i],   z = cap(scale * hidden W^T + b),  float32 (float64 for float64 models)

Three ways through the head: with `weighing` the fused one (fused_head.py), which returns the micro-batch's loss with its
gradients already computed; without gradients chunk by chunk; and, for gradients of the losses themselves, whole logits.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any

from sftgo_cli.columns import IGNORE_INDEX
from sftgo_cli.errors import UserError
from sftgo_cli.losses.logits import LogitTransform, token_terms, transform_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sftgo_cli.losses.fused_head import Weighing
    from sftgo_cli.losses.logits import Reference

PROBE_TOKENS = 16
PROBE_TOLERANCE = 2e-2  # bf16 logits of two code paths differ by rounding; a missing scale or cap by far more


def attach(model: nn.Module) -> None:
    """Give `model` (a causal LM instance) the loss forward; doing it twice changes nothing.

    Raises:
        UserError: the model has no separable language-model head.
    """
    import torch

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

    def head_forward(self: Any, hidden: Tensor, targets_N: Tensor | None = None, **asked: Any) -> Any:
        if targets_N is None:
            return original_head(hidden)
        return _head_losses(self, original_head, hidden, targets_N, transform, **asked)

    def forward(self: Any, *args: Any, supervised_labels: Tensor | None = None, **kwargs: Any) -> Any:
        if supervised_labels is None:
            return original_forward(*args, **kwargs)
        return _loss_forward(self, getattr(self, backbone_name), head, supervised_labels, *args, **kwargs)

    uncompiled: Any = torch.compiler.disable  # the head's chunks depend on the rows
    head.forward = MethodType(uncompiled(head_forward), head)
    model.forward = MethodType(forward, model)
    model._sftgo_head = True  # type: ignore[assignment]


def is_plain_linear(head: Any) -> bool:
    """Whether the head is a matrix (and a bias) and nothing else, so that the chunked paths know what it computes."""
    from torch import nn

    return type(head).forward is nn.Linear.forward


def _head_losses(
    head: Any,
    original_head: Any,
    hidden_NH: Tensor,
    targets_N: Tensor,
    transform: LogitTransform,
    weighing: Weighing | None = None,
    terms: Sequence[str] = (),
    reference: Reference | None = None,
) -> dict[str, Tensor]:
    import torch

    from sftgo_cli.losses import fused_head

    plain = (hidden_NH, head.weight, head.bias, targets_N, transform) if is_plain_linear(head) else None
    if weighing is not None and plain is not None:
        loss, nll_N = fused_head.weighed_loss(*plain, weighing, compute_type(hidden_NH))
        return {"loss": loss, "nll": nll_N}
    if not torch.is_grad_enabled() and plain is not None:
        return fused_head.terms_without_graph(*plain, compute_type(hidden_NH), terms, reference)
    if weighing is not None:
        terms, reference = weighing.terms, weighing.reference
    values = token_terms(transform(original_head(hidden_NH)), targets_N, terms, reference)
    if weighing is None:
        return values
    return {"loss": weighing.loss_of(0, len(targets_N), values), "nll": values["nll"].detach()}


def compute_type(hidden: Tensor) -> torch.dtype:
    """The type in which matrix products run here: autocast's, else the hidden states' own."""
    import torch

    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def _loss_forward(
    model: Any,
    backbone: Any,
    head: Any,
    labels_BT: Tensor,
    *args: Any,
    weighing: Weighing | None = None,
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
    result: dict[str, Any] = dict(head(hidden_NH, targets_N, weighing=weighing, terms=terms, reference=reference))
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


def reference_of(model: Any, inputs: Mapping[str, Any], labels_BT: Tensor) -> Reference:
    """What `reference_kl` needs of a frozen model: its hidden states at the supervised positions [N, H], and the
    function that turns rows of them into its logits."""
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
            "report the architecture; its head needs a logit transform in losses/logits.py",
        )
