"""The loss head: a causal LM's forward that returns per-token losses of supervised positions instead of logits.

`attach(model)` replaces the instance's `forward`, before PEFT and wrapping. Called with `supervised_labels` it runs the
model's own forward with the head taken out, so that whatever the architecture does to its hidden states is done; selects
the positions whose next token is supervised; and calls `lm_head(hidden, targets)`, whose own `forward` is replaced too,
so that sharding hooks (FSDP, ZeRO-3) fire on the head. Called without, the original forward runs: generation and
evaluation by other tools see no difference.

    nll_N[i] = logsumexp(z_i) - z_i[target_i],   z = cap(scale * hidden W^T + b),  float32 (float64 for float64 models)

What the architecture does to its logits after the head (scale, cap) is read from the configuration here, and found out
and verified by `head_probe.fit`. Where no such rule is found, the model's own logits of all positions are used.

Three ways through the head: with `weighing` the fused one (fused_head.py), which returns the micro-batch's loss with its
gradients already computed; without gradients chunk by chunk; and, for gradients of the losses themselves, whole logits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sftgo_cli.columns import IGNORE_INDEX
from sftgo_cli.errors import UserError
from sftgo_cli.losses import fused_head
from sftgo_cli.losses.fused_head import Weighing
from sftgo_cli.losses.logits import LogitTransform, token_terms, transform_of

if TYPE_CHECKING:
    from sftgo_cli.losses.logits import Reference

ROUTE = "_sftgo_head"  # the model's attribute that holds its HeadRoute


@dataclass
class HeadRoute:
    """How a model's losses are computed. `head_name`: the output head among its modules; None for whole logits."""

    head_name: str | None
    transform: LogitTransform
    forward: Callable[..., Any] | None  # the instance's own before `attach`; None: its class's
    parameters: frozenset[str]  # what the model's forward takes by name
    takes_more: bool  # and whether it takes any other name

    def accepted(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the inputs that the model's forward takes."""
        return {name: value for name, value in inputs.items() if self.takes_more or name in self.parameters}


def attach(model: nn.Module) -> None:
    """Give `model` (a causal LM instance) the loss forward; doing it twice changes nothing.

    Raises:
        UserError: it is no causal language model of transformers.
    """
    if isinstance(getattr(model, ROUTE, None), HeadRoute):
        return
    config: Any = getattr(model, "config", None)
    if config is None:
        raise UserError(
            f"{type(model).__name__} has no separable backbone and language-model head",
            "model.name_or_path",
            "use a causal language model (AutoModelForCausalLM) with an lm_head",
        )
    signature = inspect.signature(model.forward)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    route = HeadRoute(
        head_name=_head_name(model),
        transform=transform_of(config.get_text_config()),
        forward=model.forward if "forward" in vars(model) else None,
        parameters=frozenset(signature.parameters),
        takes_more=inspect.Parameter.VAR_KEYWORD in kinds,
    )
    if route.head_name is not None:
        head: Any = model.get_submodule(route.head_name)
        uncompiled: Any = torch.compiler.disable  # the head's chunks depend on the rows
        head.forward = MethodType(uncompiled(_head_forward(vars(head).get("forward"))), head)
    setattr(model, ROUTE, route)
    model.forward = MethodType(_forward_like(signature), model)


def route_of(model: Any) -> HeadRoute:
    """How the losses of a model with its loss head attached are computed."""
    route: HeadRoute = getattr(model, ROUTE)
    return route


def _head_name(model: Any) -> str | None:
    """The name of the output embeddings among the model's modules, None where there are none of its own."""
    try:
        head = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    if head is None or head is model.get_input_embeddings():
        return None
    return next((name for name, module in model.named_modules() if module is head), None)


def _head_forward(own: Callable[[Tensor], Tensor] | None) -> Callable[..., Any]:
    """The head's forward, with targets the losses. `own`: what was set on the instance, such as a device hook."""

    def forward(self: Any, hidden: Tensor, targets_N: Tensor | None = None, **asked: Any) -> Any:
        if targets_N is None:
            return type(self).forward(self, hidden) if own is None else own(hidden)
        return _head_losses(self, own or MethodType(type(self).forward, self), hidden, targets_N, **asked)

    return forward


def _forward_like(signature: inspect.Signature) -> Callable[..., Any]:
    """The loss forward under the signature of the model's own: transformers' generation asks which inputs it takes."""

    def forward(self: Any, *args: Any, supervised_labels: Tensor | None = None, **kwargs: Any) -> Any:
        if supervised_labels is None:
            return own_forward(self, *args, **kwargs)
        mask_BT = nn.functional.pad(supervised_labels[:, 1:] != IGNORE_INDEX, (0, 1))
        targets_N = supervised_labels[:, 1:][mask_BT[:, :-1]]
        return _loss_forward(self, mask_BT, targets_N, *args, **kwargs)

    own = list(signature.parameters.values())
    extra = inspect.Parameter("supervised_labels", inspect.Parameter.KEYWORD_ONLY, default=None)
    place = len(own) - bool(own and own[-1].kind is inspect.Parameter.VAR_KEYWORD)
    own = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *own[:place], extra, *own[place:]]
    forward.__signature__ = signature.replace(parameters=_ordered(own))  # type: ignore[attr-defined]
    return forward


def _ordered(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return sorted(parameters, key=lambda parameter: parameter.kind)


def own_forward(model: Any, *args: Any, **inputs: Any) -> Any:
    """The outputs of the model's forward as it was before `attach`."""
    own = route_of(model).forward
    return type(model).forward(model, *args, **inputs) if own is None else own(*args, **inputs)


def is_plain_linear(head: Any) -> bool:
    """Whether the head is a matrix (and a bias) and nothing else, so that the chunked paths know what it computes."""
    return type(head).forward is nn.Linear.forward


def _head_losses(
    head: Any,
    logits_of: Callable[[Tensor], Tensor],
    hidden_NH: Tensor,
    targets_N: Tensor,
    transform: LogitTransform,
    weighing: Weighing | None = None,
    terms: Sequence[str] = (),
    reference: Reference | None = None,
) -> dict[str, Tensor]:
    plain = (hidden_NH, head.weight, head.bias, targets_N, transform) if is_plain_linear(head) else None
    if weighing is not None and plain is not None:
        loss, nll_N = fused_head.weighed_loss(*plain, weighing, compute_type(hidden_NH))
        return {"loss": loss, "nll": nll_N}
    if not torch.is_grad_enabled() and plain is not None:
        return fused_head.terms_without_graph(*plain, compute_type(hidden_NH), terms, reference)
    return _whole_losses(transform(logits_of(hidden_NH)), targets_N, weighing, terms, reference)


def _whole_losses(
    logits_NV: Tensor,
    targets_N: Tensor,
    weighing: Weighing | None = None,
    terms: Sequence[str] = (),
    reference: Reference | None = None,
) -> dict[str, Tensor]:
    """By autograd on logits that are there."""
    if weighing is not None:
        terms, reference = weighing.terms, weighing.reference
    values = token_terms(logits_NV, targets_N, terms, reference)
    if weighing is None:
        return values
    return {"loss": weighing.loss_of(0, len(targets_N), values), "nll": values["nll"].detach()}


def compute_type(hidden: Tensor) -> torch.dtype:
    """The type in which matrix products run here: autocast's, else the hidden states' own."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden.dtype


class HeadTap(nn.Module):
    """Stands in for the head while the model's forward runs: keeps the hidden states, and gives a single logit."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.hidden: list[Tensor] = []
        object.__setattr__(self, "head", head)  # not as a submodule: its parameters stay the model's

    def __getattr__(self, name: str) -> Any:
        """What the model asks its head for besides logits, such as the type of its weight."""
        return getattr(vars(self)["head"], name)

    def forward(self, hidden: Tensor) -> Tensor:
        """The place of the logits: one number per position, [..., 1]."""
        self.hidden.append(hidden)
        return hidden[..., :1]


class HeadFeed(HeadTap):
    """Gives known numbers as logits, float64[1, T, 1], over and over."""

    numbers: tuple[float, ...] = ()

    def forward(self, hidden: Tensor) -> Tensor:
        """The numbers, one per position."""
        given = [self.numbers[place % len(self.numbers)] for place in range(hidden.shape[1])]
        return torch.tensor(given, dtype=torch.float64, device=hidden.device)[None, :, None]


def tapped(model: Any, tap_of: Callable[[nn.Module], HeadTap], *args: Any, **inputs: Any) -> tuple[HeadTap, Any]:
    """The outputs of the model's own forward with a tap in the place of its head; and the tap."""
    parent_name, _, leaf = str(route_of(model).head_name).rpartition(".")
    parent = model.get_submodule(parent_name)
    head = parent._modules[leaf]
    tap = tap_of(head)
    parent._modules[leaf] = tap  # not setattr: nothing that watches the module's attributes should see it
    try:
        return tap, own_forward(model, *args, **inputs)
    finally:
        parent._modules[leaf] = head


def hidden_states(model: Any, *args: Any, **inputs: Any) -> tuple[Tensor, Any]:
    """What the model hands to its head [B, T, H], and its other outputs.

    Raises:
        ValueError: it does not call its head exactly once.
    """
    tap, outputs = tapped(model, HeadTap, *args, **inputs)
    if len(tap.hidden) != 1:
        raise ValueError(f"{type(model).__name__} calls its head {len(tap.hidden)} times")
    return tap.hidden[0], outputs


def _loss_forward(
    model: Any,
    mask_BT: Tensor,
    targets_N: Tensor,
    *args: Any,
    weighing: Weighing | None = None,
    terms: Sequence[str] = (),
    reference: Reference | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    route = route_of(model)
    kwargs.setdefault("use_cache", False)
    mixture = bool(getattr(model.config.get_text_config(), "output_router_logits", False))
    if mixture:
        kwargs["output_router_logits"] = True
    kwargs = route.accepted(kwargs)
    asked: dict[str, Any] = {"weighing": weighing, "terms": terms, "reference": reference}
    if route.head_name is None:
        outputs = own_forward(model, *args, **kwargs)
        result: dict[str, Any] = dict(_whole_losses(outputs.logits[mask_BT], targets_N, **asked))
    else:
        hidden_BTH, outputs = hidden_states(model, *args, **kwargs)
        head = model.get_submodule(route.head_name)
        if vars(head).get("forward") is None:  # peft has wrapped the head since: its logits come from the wrapper
            result = dict(_whole_losses(route.transform(head(hidden_BTH[mask_BT])), targets_N, **asked))
        else:
            result = dict(head(hidden_BTH[mask_BT], targets_N, transform=route.transform, **asked))
    if mixture and getattr(outputs, "aux_loss", None) is not None:
        result["auxiliary_loss"] = _auxiliary_weight(model.config.get_text_config()) * outputs.aux_loss
    return result


def _auxiliary_weight(config: Any) -> float:
    """How much the balance of a mixture's experts counts beside the loss."""
    named = (getattr(config, name, None) for name in ("router_aux_loss_coef", "aux_loss_coef"))
    return float(next((weight for weight in named if weight is not None), 0.0))


def select_supervised(hidden_BTH: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states that predict a supervised token [N, H] and those tokens [N], rows first, then positions.

    `labels_BT[b, t]` is the token at t itself, or -100: the state at t - 1 predicts it. Nothing predicts t = 0.
    """
    targets_BT = labels_BT[:, 1:]
    mask_BT = targets_BT != IGNORE_INDEX
    return hidden_BTH[:, :-1][mask_BT], targets_BT[mask_BT]


def losses_at(model: Any, inputs: Mapping[str, Any], predicts_BT: Tensor, targets_N: Tensor) -> Tensor:
    """NLL float32[N] in nats of the targets, predicted at the positions where `predicts_BT` is true, rows first."""
    with torch.no_grad():
        result: Tensor = _loss_forward(model, predicts_BT, targets_N, **inputs)["nll"]
    return result


def reference_of(model: Any, inputs: Mapping[str, Any], labels_BT: Tensor) -> Reference:
    """What `reference_kl` needs of a frozen model: its hidden states at the supervised positions [N, H], and the
    function that turns rows of them into its logits. Where the whole logits are used, these and the identity."""
    route = route_of(model)
    fed = route.accepted({**inputs, "use_cache": False})
    with torch.no_grad():
        if route.head_name is None:
            return select_supervised(own_forward(model, **fed).logits, labels_BT)[0], lambda logits_NV: logits_NV
        hidden_BTH, _ = hidden_states(model, **fed)
    head, transform = model.get_submodule(route.head_name), route.transform
    return select_supervised(hidden_BTH, labels_BT)[0], lambda rows_NH: transform(head(rows_NH))
