"""The optimizer of a run: the Trainer's, with every argument of `optim_args` obeyed or refused; and Muon.

The Trainer reads only some keys of `optim_args`, as text, and for AdamW none. Here each key is either one that it reads or
an argument of the optimizer's class, and has the type that it is written as.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from sftgo_cli.errors import EnvironmentProblem, UserError, nearest
from sftgo_cli.recipe.scalars import scalar
from sftgo_cli.recipe.trainer_names import INSTALL, MUON, OPTIMIZERS, WITHOUT_WARMUP
from sftgo_cli.recipe.training_section import TrainingSection

if TYPE_CHECKING:
    from transformers import TrainingArguments

WHERE = "training.optim_args"
# Arguments that have a key of their own, or that the training itself decides.
ELSEWHERE = {
    "params": "",
    "model": "",
    "named_parameters": "",
    "lr": "training.learning_rate",
    "weight_decay": "training.weight_decay",
    "betas": "training.adam_beta1 and training.adam_beta2",
    "warmup_steps": "training.warmup_steps",
    "is_paged": "the optimizer's name",
    "optim_bits": "the optimizer's name",
    "fused": "training.optim: adamw_torch_fused",
}


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices of the layers, AdamW for embeddings, head, vectors and everything else.

        matrices: U = orthogonalize(nesterov momentum of the gradient), W -= lr * 0.2 * sqrt(max(shape)) * U
        the rest: AdamW

    Both are torch's own; Muon's update is scaled to AdamW's size (arXiv 2502.16982), so that one learning rate serves both.
    Source: https://kellerjordan.github.io/posts/muon/
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
    ) -> None:
        groups = list(groups)
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "matrices": False})
        matrices = [{**group} for group in groups if group["matrices"]]
        others = [{**group} for group in groups if not group["matrices"]]
        self._parts: list[tuple[bool, torch.optim.Optimizer]] = []
        if matrices:
            muon = torch.optim.Muon(
                matrices,
                lr=lr,
                weight_decay=0.0,
                momentum=momentum,
                nesterov=nesterov,
                ns_steps=ns_steps,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts.append((True, muon))
        if others:
            self._parts.append((False, torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=0.0)))
        for of_matrices, part in self._parts:
            for group in (group for group in self.param_groups if group["matrices"] is of_matrices):
                group.update({key: value for key, value in part.defaults.items() if key not in group})

    def step(self, closure: Any = None) -> Any:
        """One step of both parts, over this optimizer's own groups and state: the schedule and checkpoints see those."""
        for of_matrices, part in self._parts:
            part.param_groups = [group for group in self.param_groups if group["matrices"] is of_matrices]
            part.state = self.state
            part.step()
        return None


class MuonFactory:
    """What the Trainer calls to build Muon: it needs the model, to tell matrices of layers from embeddings and head."""

    def __call__(self, model: Any, **arguments: Any) -> MuonWithAdamW:
        """The optimizer of the model's trainable parameters; `weight_decay` acts on matrices and embeddings."""
        decay = arguments.pop("weight_decay")
        return MuonWithAdamW(_muon_groups(model, decay), **arguments)


def _muon_groups(model: Any, weight_decay: float) -> Iterator[dict[str, Any]]:
    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    if head is not None:
        tables.add(id(head.weight))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim == 2 and id(parameter) not in tables]
    known = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in trained if id(parameter) not in known]
    for of_matrices, decay, chosen in (
        (True, weight_decay, matrices),
        (False, weight_decay, [parameter for parameter in rest if parameter.ndim >= 2]),
        (False, 0.0, [parameter for parameter in rest if parameter.ndim < 2]),
    ):
        if chosen:
            yield {"params": chosen, "weight_decay": decay, "matrices": of_matrices}


class _Read(dict[str, str]):
    """`optim_args` as the Trainer gets them; remembers which keys it reads."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def pop(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().pop(key, default)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)


def check_installed(name: str) -> None:
    """Raises EnvironmentProblem when the optimizer's package is missing, with how to install it."""
    package = OPTIMIZERS[name]
    if package is not None and importlib.util.find_spec(package) is None:
        raise EnvironmentProblem(f"{name} needs {package}", "training.optim", INSTALL[package])


def parsed_arguments(text: str | None) -> dict[str, str]:
    """`key=value, ...` as a mapping of texts.

    Raises:
        UserError: a part is no `key=value`.
    """
    pairs = [part.partition("=") for part in (text or "").replace(" ", "").split(",") if part]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise UserError(f"{key + equals + value!r} is no key=value", WHERE, "write key=value,key=value")
    return {key: value for key, _, value in pairs}


def class_and_arguments(
    args: TrainingArguments, section: TrainingSection, num_steps: int
) -> tuple[Any, dict[str, Any]]:
    """The optimizer's class (or factory) and its arguments, as the Trainer takes them.

    Args:
        args: the Trainer's arguments, whose optimizer is the recipe's unless that is Muon.
        num_steps: of the whole run, to turn a share of warm-up into steps.

    Raises:
        UserError: an argument that the optimizer has not, or that stands under another key.
        EnvironmentProblem: its package is missing.
    """
    from transformers import trainer_optimizer

    check_installed(section.optim)
    given = parsed_arguments(section.optim_args)
    read = _Read(given)
    adam = {"betas": (section.adam_beta1, section.adam_beta2), "eps": section.adam_epsilon}
    if section.optim == MUON:
        kind: Any = MuonFactory
        arguments: dict[str, Any] = {"lr": section.learning_rate, "weight_decay": section.weight_decay, **adam}
        signature: Any = MuonWithAdamW
    else:
        context = trainer_optimizer.OptimizerContext(args, None, {"lr": section.learning_rate}, dict(adam), read)
        try:
            kind, arguments = trainer_optimizer._OPTIMIZER_HANDLERS[args.optim](context)
        except (ImportError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{section.optim}: {str(error).splitlines()[0]}", WHERE, "change its arguments") from error
        signature = kind
    if "warmup_steps" in arguments:  # the Trainer hands over a share of the run as if it were a number of steps
        alone = section.lr_scheduler_type in WITHOUT_WARMUP
        arguments["warmup_steps"] = args.get_warmup_steps(num_steps) if alone else 0
    elsewhere = {
        **ELSEWHERE,
        **({} if "eps" in read.read or "eps" not in arguments else {"eps": "training.adam_epsilon"}),
    }
    arguments.update(_typed(given, read.read, signature, section.optim, elsewhere))
    _check_adam_keys(section, arguments)
    return kind, arguments


def _typed(
    given: dict[str, str], read: set[str], signature: Any, name: str, elsewhere: dict[str, str]
) -> dict[str, Any]:
    """The keys of `optim_args` that the optimizer's class takes, each with its value."""
    taken = [key for key in inspect.signature(signature).parameters if key not in ("self", "groups", *elsewhere)]
    for key in given:
        if key in elsewhere:
            fix = f"set {elsewhere[key]}" if elsewhere[key] else "remove it"
            raise UserError(f"{key} is not set here", WHERE, fix)
        if key not in taken and key not in read:
            known = sorted({*taken, *read} - {*elsewhere})
            close = nearest(key, known)
            fix = f"did you mean {close}?" if close else f"it takes {', '.join(known) or 'none'}"
            raise UserError(f"{name} has no argument {key!r}", WHERE, fix)
    return {key: scalar(value) for key, value in given.items() if key in taken}


def _check_adam_keys(section: TrainingSection, arguments: dict[str, Any]) -> None:
    """Keys of Adam that are changed for an optimizer without them would have no effect."""
    fields, has = type(section).model_fields, {"betas": "betas" in arguments, "eps": "eps" in arguments}
    for key, needed in (("adam_beta1", "betas"), ("adam_beta2", "betas"), ("adam_epsilon", "eps")):
        if not has[needed] and getattr(section, key) != fields[key].default:
            raise UserError(f"{section.optim} has no {key}", f"training.{key}", "remove it, or choose an Adam")
