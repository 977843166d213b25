"""Which modules LoRA adapts: names checked against the model, what cannot be adapted left out and said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import nn

ALL_LINEAR = "all-linear"
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]+")
# peft refuses these modules of these architectures: their kernels read the weights past the module's forward.
STATE_SPACE_TYPES = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
STATE_SPACE_MODULES = ("out_proj", "conv1d")
READ_DIRECTLY = {"mamba": ("dt_proj",), "falcon_mamba": ("dt_proj",)}  # an adapter there would get no gradient


@dataclass(frozen=True)
class Targets:
    """What peft is given, and what the user is told."""

    modules: str | list[str]
    excluded: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def chosen_targets(model: nn.Module, wanted: str | Sequence[str]) -> Targets:
    """The target modules of a recipe for this model; a plain name given as text means that module.

    Raises:
        UserError: a name or expression that matches no module, or one that cannot be adapted.
    """
    import torch

    where = "tuning.target_modules"
    names = [name for name, _ in model.named_modules() if name]
    left_out = _cannot_adapt(model)
    if isinstance(wanted, str) and wanted.lower() == ALL_LINEAR:
        linear = {name: why for name, why in left_out.items() if isinstance(model.get_submodule(name), torch.nn.Linear)}
        notes = [f"LoRA leaves out {_listed(group)}: {why}" for why, group in _grouped(linear).items()]
        return Targets(ALL_LINEAR, list(linear), notes)
    if isinstance(wanted, str) and (not PLAIN_NAME.fullmatch(wanted) or not matching(names, wanted)):
        found = _matched(names, wanted, where)
        _refuse([name for name in found if name in left_out], left_out, where)
        return Targets(wanted)
    listed = [wanted] if isinstance(wanted, str) else list(wanted)
    check_names(names, listed, where)
    _refuse([name for one in listed for name in matching(names, one) if name in left_out], left_out, where)
    return Targets(listed)


def check_names(names: Sequence[str], wanted: Iterable[str], where: str) -> None:
    """Raises UserError for a name that no module ends with."""
    for one in wanted:
        if not matching(names, one):
            known = sorted({name.rpartition(".")[2] for name in names} - {str(number) for number in range(1000)})
            close = nearest(one, known)
            fix = f"did you mean {close}?" if close else f"the model has {', '.join(known[:20])}"
            raise UserError(f"no module matches {one!r}", where, fix)


def matching(names: Iterable[str], wanted: str) -> list[str]:
    """The modules of that name: their own, or the end of their path."""
    return [name for name in names if name == wanted or name.endswith(f".{wanted}")]


def _matched(names: Sequence[str], expression: str, where: str) -> list[str]:
    try:
        found = [name for name in names if re.fullmatch(expression, name)]
    except re.error as error:
        raise UserError(
            f"{expression!r} is no regular expression: {error}", where, "use names or all-linear"
        ) from error
    if not found:
        if PLAIN_NAME.fullmatch(expression):
            check_names(names, [expression], where)
        raise UserError(
            f"no module matches {expression!r} as a whole",
            where,
            f"modules are named like {names[-1]}; or use all-linear",
        )
    return found


def _refuse(found: Sequence[str], left_out: dict[str, str], where: str) -> None:
    if found:
        raise UserError(f"{found[0]} cannot be adapted: {left_out[found[0]]}", where, "leave it out; all-linear does")


def _cannot_adapt(model: nn.Module) -> dict[str, str]:
    """Linear modules that LoRA cannot wrap, and why."""
    from torch import nn

    found: dict[str, str] = {}
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    for name, module in model.named_modules():
        own = type(module).__module__.startswith("transformers.models")
        banned = (*STATE_SPACE_MODULES, *READ_DIRECTLY.get(str(model_type), ()))
        if model_type in STATE_SPACE_TYPES and name.rpartition(".")[2] in banned:
            found[name] = f"the kernels of {model_type} read its weight past an adapter"
        elif isinstance(module, nn.Linear) and own and type(module).forward is not nn.Linear.forward:
            found[name] = f"{type(module).__name__} is more than a linear layer"
    return found


def _grouped(left_out: dict[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, why in left_out.items():
        groups.setdefault(why, []).append(name)
    return groups


def _listed(names: Sequence[str]) -> str:
    """Modules by the ends of their names."""
    return ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names))


def experts_reason(error: Exception, options: Any) -> UserError:
    """What peft says about fused experts, which it adapts as one parameter."""
    option = next((name for name in ("lora_dropout", "use_dora", "bias") if name in str(error)), "target_modules")
    return UserError(
        f"the experts of this model are one parameter, which takes no {option}: {str(error).splitlines()[0]}",
        f"tuning.{option}",
        f"remove {option}, or list target_modules without the experts: [q_proj, k_proj, v_proj, o_proj]",
    )
