"""SFT-GO (arXiv 2506.15021): train the worst token group together with cross-entropy.

    L_k(x) = sum over S_k of w l / sum over S_k of w          l = -log p(token | before), nats
    W(x)   = max over non-empty k of L_k(x)                   exact ties share the gradient equally
    CE     = sum of r w l / sum of r w                        over the whole optimizer step
    L      = (1 - m) CE + m (sum of r W(x) / sum of r)        m = mixing_weight

The paper: two groups, m = 0.9, hard max, an optional decay of m. Ours [R]: a group's loss is the mean over its tokens (a
max of sums would pick the larger group), the max is per sample, and both normalizers run over the whole optimizer step.

`aggregation` replaces the max (see aggregation.py for the formulas), `scope: step` pools the groups over the whole step:

    L_k = sum over the step's S_k of r w l / sum of r w       W = aggregation of L_k;   L = (1 - m) CE + m W
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from sftgo_cli.objectives import aggregation
from sftgo_cli.objectives.group_losses import (
    LocalTerms,
    Step,
    SupervisedTokens,
    cross_entropy_share,
    group_losses,
    mean_where_filled,
    per_cell,
    per_group,
    weighted_nll,
    worst_group,
)
from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    from torch import Tensor

    from sftgo_cli.objectives.training_facts import TrainingFacts

SOURCE = (
    "arXiv 2506.15021, equations 3-5; group mean and per-sample max [R]; exponentiated_gradient: arXiv 1911.08731 "
    "with a lag of one step [R]"
)
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
BELONGS_TO = {"temperature": "softmax", "alpha": "cvar", "ema": "cvar", "eta": "exponentiated_gradient"}
BELONGS_TO["size_adjustment"] = "exponentiated_gradient"


class Options(MethodOptions):
    """Recipe options of `objective: {name: sft_go}`; null means the default of the chosen aggregation."""

    mixing_weight: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.9, description="The paper's lambda: weight of the worst group's loss; 0 is plain SFT"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="How the mixing weight moves")
    mixing_weight_end: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0, description="Mixing weight of the last step, for linear and cosine; may be above the first"
    )
    aggregation: Literal["max", "softmax", "cvar", "exponentiated_gradient"] = Field(
        "max", description="How group losses become one: the worst, a soft worst, the worst share, learned weights"
    )
    scope: Literal["sample", "step"] | None = Field(
        None, description="Groups of each sample, or pooled over the optimizer step; null: sample where possible"
    )
    temperature: Positive | None = Field(None, description="softmax: towards 0 is max, large is the mean; default 1")
    alpha: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="cvar: the worst share of the weight; towards 0 is max, 1 the token mean; default 0.5"
    )
    ema: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="cvar with scope step: order groups by a moving average with this rate, such as 0.1"
    )
    eta: Positive | None = Field(None, description="exponentiated_gradient: step size of the weights; default 0.01")
    size_adjustment: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = Field(
        None, description="exponentiated_gradient: adds C / sqrt(tokens of the group) to its loss; default 0"
    )

    @field_validator("scope")
    @classmethod
    def _scope_fits(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value == "sample" and info.data.get("aggregation") == "exponentiated_gradient":
            raise ValueError("exponentiated_gradient has one weight per group for all samples: scope must be step")
        return value

    @field_validator(*BELONGS_TO)
    @classmethod
    def _aggregation_fits(cls, value: float | None, info: ValidationInfo) -> float | None:
        chosen, owner = info.data.get("aggregation"), BELONGS_TO[str(info.field_name)]
        if value is not None and chosen is not None and chosen != owner:
            raise ValueError(f"has no effect with aggregation: {chosen} (it belongs to {owner})")
        if value is not None and info.field_name == "ema" and info.data.get("scope") != "step":
            raise ValueError("needs scope: step (a sample's groups have no history)")
        return value

    def per_step(self) -> bool:
        """Whether groups are pooled over the optimizer step."""
        return self.scope == "step" or self.aggregation == "exponentiated_gradient"


def mixing_weight(options: Options, progress: float) -> float:
    """The mixing weight at `progress` = completed steps / max(1, max_steps - 1), in [0, 1].

    linear: m0 + (m1 - m0) p; cosine: m1 + (m0 - m1) (1 + cos(pi p)) / 2.
    """
    start, end = options.mixing_weight, options.mixing_weight_end
    if options.schedule == "constant":
        return start
    if options.schedule == "linear":
        return start + (end - start) * progress
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def local_loss(tokens: SupervisedTokens, step: Step, options: Options) -> LocalTerms:
    """This micro-batch's share of L; the shares of all micro-batches and ranks add up to L."""
    mixing = mixing_weight(options, step.progress)
    ce = cross_entropy_share(tokens, step.totals)
    worst = _step_share(tokens, step, options) if options.per_step() else _sample_share(tokens, step, options)
    return LocalTerms(loss=(1.0 - mixing) * ce + mixing * worst, ce_loss=ce.detach(), worst_group_loss=worst.detach())


def _aggregate(losses_SG: Tensor, weight_SG: Tensor, options: Options, order_SG: Tensor | None = None) -> Tensor:
    if options.aggregation == "softmax":
        return aggregation.softmax(losses_SG, 1.0 if options.temperature is None else options.temperature)
    if options.aggregation == "cvar":
        return aggregation.cvar(losses_SG, weight_SG, 0.5 if options.alpha is None else options.alpha, order_SG)
    return worst_group(losses_SG)


def _sample_share(tokens: SupervisedTokens, step: Step, options: Options) -> Tensor:
    """sum of r W(x) over this micro-batch / sum of r over the step, float64 scalar."""
    worst_S = _aggregate(group_losses(tokens), per_cell(tokens, tokens.token_weights_N), options)
    return (tokens.row_weights_S * worst_S).sum() / step.totals.row_weight


def _step_share(tokens: SupervisedTokens, step: Step, options: Options) -> Tensor:
    """This micro-batch's share of W over the step's pooled groups.

    dW/dL_k is known from the step's statistics, so the share sum_k dW/dL_k (sum of r w l) / (step's sum of r w) has W's
    gradient; its value is W times this micro-batch's part of the row weights.
    """
    import torch

    total_G = step.totals.group_weight_G.to(tokens.nll_N.device)
    own_G = per_group(tokens, weighted_nll(tokens)) / torch.where(total_G > 0, total_G, 1.0)
    if options.aggregation == "exponentiated_gradient":
        return (step.state["q"].to(own_G.device) * own_G).sum()
    losses_G = step_group_losses(step).to(own_G.device).requires_grad_(True)
    with torch.enable_grad():
        order_1G = _moved_average(step.state, losses_G, options)["average"][None] if options.ema else None
        worst = _aggregate(losses_G[None], total_G[None], options, order_1G)[0]
        slope_G = torch.autograd.grad(worst, losses_G)[0]
    linear = (slope_G * own_G).sum()
    value = worst.detach() * tokens.row_weights_S.sum() / step.totals.row_weight
    return linear + (value - linear).detach()


def needs_step(options: Options) -> bool:
    """Whether no token's weight is known before all losses of the step are."""
    return options.per_step() and options.aggregation != "exponentiated_gradient"


def local_statistics(tokens: SupervisedTokens, options: Options) -> Tensor:
    """The micro-batch's sums of r w l per group, float64[G]."""
    return per_group(tokens, weighted_nll(tokens))


def step_group_losses(step: Step) -> Tensor:
    """L_k over the whole step, float64[G], -inf for an empty group."""
    import torch

    if step.statistics is None:
        raise ValueError("scope step needs the step's statistics")
    return mean_where_filled(torch.stack(step.statistics.parts).sum(dim=0), step.totals.group_weight_G)


def initial_state(options: Options, num_groups: int, facts: TrainingFacts) -> dict[str, Tensor]:
    """What is kept from step to step, float64[G] each; empty for most aggregations."""
    import torch

    if options.aggregation == "exponentiated_gradient":
        size = options.size_adjustment or 0.0
        counts_G = torch.as_tensor(facts.count_tokens(), dtype=torch.float64) if size else torch.ones(num_groups)
        q_G = torch.full((num_groups,), 1.0 / num_groups, dtype=torch.float64)
        return {"q": q_G, "adjustment": size / counts_G.clamp(min=1.0).double().sqrt()}
    if options.ema:
        return {name: torch.zeros(num_groups, dtype=torch.float64) for name in ("average", "seen")}
    return {}


def next_state(state: Mapping[str, Tensor], losses_G: Tensor, options: Options) -> dict[str, Tensor]:
    """The state after a step whose pooled group losses were `losses_G` (-inf: empty); the same on every rank."""
    if options.aggregation == "exponentiated_gradient":
        eta = 0.01 if options.eta is None else options.eta
        return {**state, "q": aggregation.grown_weights(state["q"], losses_G + state["adjustment"], eta)}
    return _moved_average(state, losses_G, options) if options.ema else dict(state)


def _moved_average(state: Mapping[str, Tensor], losses_G: Tensor, options: Options) -> dict[str, Tensor]:
    """(1 - ema) average + ema L_k; a group's first loss is its average; an empty group keeps its own."""
    import torch

    rate = options.ema or 1.0
    average_G, seen_G = state["average"].to(losses_G.device), state["seen"].to(losses_G.device)
    new_G = torch.isfinite(losses_G)
    known_G = torch.where(new_G, losses_G.detach(), average_G)
    moved_G = torch.where(new_G & (seen_G > 0), (1.0 - rate) * average_G + rate * known_G, known_G)
    return {"average": moved_G, "seen": torch.maximum(seen_G, new_G.double())}
