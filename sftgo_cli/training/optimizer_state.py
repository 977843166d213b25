"""Any optimizer's state as safetensors and JSON, and back bit for bit.

optimizer.safetensors holds the tensors; optimizer.json holds the tree in which they hang: the state of each parameter and
the parameter groups, with references to the tensors. State may be nested, keyed by parameters (grokadamw), shared between
parameters (bitsandbytes' quantization maps) or a tensor subclass (torchao). It is read from and put back into the live
optimizer, not through `load_state_dict`, which casts what is floating to the parameter's type.

    {"version": 2, "state": {"0": <tree>, ...}, "param_groups": [<tree>, ...], "on_host": ["0/step", ...]}

A tree is a JSON scalar, a list, {"tensor": key}, {"tuple": [..]}, {"dict": [[key, tree], ..]}, {"parameter": index},
{"dtype": name} or {"class": name, "tensors": {..}, "context": tree}. Optimizers that average the weights themselves
(schedule-free) are saved with the weights that the next step is taken from; the model's file holds the averaged ones.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import EnvironmentProblem, StateError, UserError

if TYPE_CHECKING:
    import torch

VERSION = 2
TENSORS, TREE = "optimizer.safetensors", "optimizer.json"
SUBCLASSES = "torchao."  # tensor classes of this package are built from a checkpoint, no others
MODE = "train_mode"  # the key of schedule-free parameter groups that says which weights the model holds


def innermost(optimizer: Any) -> Any:
    """The optimizer itself, out of accelerate's wrapper."""
    from accelerate.optimizer import AcceleratedOptimizer

    return optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer


def parameters_of(optimizer: Any) -> list[torch.Tensor]:
    """The optimizer's parameters, in the order of its groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def save_optimizer(folder: Path, optimizer: Any) -> None:
    """Write the optimizer's state. Raises UserError when it holds something that is neither tensor nor plain data."""
    from safetensors.torch import save_file

    optimizer = innermost(optimizer)
    writer = _Writer(parameters_of(optimizer))
    state = {str(writer.index[id(key)]): writer.state_of(key, entry) for key, entry in optimizer.state.items() if entry}
    groups = [
        writer.tree({key: value for key, value in group.items() if key != "params"}, f"groups/{number}")
        for number, group in enumerate(optimizer.param_groups)
    ]
    if _training_weights(optimizer):
        writer.weights()
    save_file(writer.tensors, folder / TENSORS)
    described = {"version": VERSION, "state": state, "param_groups": groups, "on_host": writer.on_host}
    (folder / TREE).write_text(json.dumps(described), encoding="utf-8")


def load_optimizer(folder: Path, optimizer: Any) -> None:
    """Put back what `save_optimizer` wrote, into an optimizer over the same parameters.

    Raises:
        StateError: it was written by another optimizer, or for other parameters.
    """
    import torch
    from safetensors.torch import load_file

    optimizer = innermost(optimizer)
    described = json.loads((folder / TREE).read_text(encoding="utf-8"))
    tensors = load_file(folder / TENSORS)
    if "version" not in described:
        described = _upgraded(described, list(tensors))
    parameters = parameters_of(optimizer)
    groups = described["param_groups"]
    if len(groups) != len(optimizer.param_groups) or any(int(index) >= len(parameters) for index in described["state"]):
        raise StateError(
            "the checkpoint's optimizer has other parameters", str(folder), "resume with the recipe it was saved with"
        )
    reader = _Reader(tensors, parameters, set(described["on_host"]))
    state = {parameters[int(index)]: reader.tree(tree, int(index)) for index, tree in described["state"].items()}
    optimizer.state.clear()
    optimizer.state.update(state)
    for group, tree in zip(optimizer.param_groups, groups, strict=True):
        group.update({key: _placed_like(value, group.get(key)) for key, value in reader.tree(tree, None).items()})
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            weights = tensors.get(f"parameters/{index}")
            if weights is not None:
                parameter.copy_(weights)


def _placed_like(value: Any, other: Any) -> Any:
    """A group's tensor (a learning rate, for one) where the optimizer's own one lies."""
    import torch

    both = isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor)
    return value.to(other.device) if both else value


def state_bytes(optimizer: Any) -> int:
    """About what the optimizer's state takes on disk."""
    return sum(
        tensor.numel() * tensor.element_size() for tensor in _tensors_in(list(innermost(optimizer).state.values()))
    )


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    import torch
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if isinstance(value, torch.Tensor):
        if is_traceable_wrapper_subclass(value):
            yield from (getattr(value, name) for name in value.__tensor_flatten__()[0])
        else:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors_in(item)


def _training_weights(optimizer: Any) -> bool:
    """Whether the model now holds weights that only the next step is taken from, not those that are evaluated."""
    return any(group.get(MODE) is True for group in optimizer.param_groups)


@contextmanager
def averaged_weights(optimizer: Any, exact: bool = True) -> Iterator[None]:
    """Within it, the model holds the weights that are evaluated and published: for a schedule-free optimizer its average.

    Args:
        optimizer: wrapped or not; None before training.
        exact: put the weights back bit for bit afterwards, from a copy in host memory; else the next training step
            computes them anew, up to rounding (where parameters are sharded).
    """
    import torch

    inner = None if optimizer is None else innermost(optimizer)
    if inner is None or not _training_weights(inner):
        yield
        return
    kept = [parameter.detach().to("cpu", copy=True) for parameter in parameters_of(inner)] if exact else None
    inner.eval()
    try:
        yield
    finally:
        if kept is not None:
            with torch.no_grad():
                for parameter, weights in zip(parameters_of(inner), kept, strict=True):
                    parameter.copy_(weights)
            for group in inner.param_groups:
                group[MODE] = True


def holds_averaged_weights(optimizer: Any) -> None:
    """Tell a schedule-free optimizer that the model now holds averaged weights: those of a checkpoint were loaded."""
    for group in () if optimizer is None else innermost(optimizer).param_groups:
        if MODE in group:
            group[MODE] = False


class _Writer:
    """Collects tensors under keys while it turns state into trees."""

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        self.parameters = parameters
        self.index = {id(parameter): number for number, parameter in enumerate(parameters)}
        self.tensors: dict[str, torch.Tensor] = {}
        self.on_host: list[str] = []  # tensors that lie on the host though their parameter does not
        self._written: dict[tuple[int, Any, Any], str] = {}

    def state_of(self, parameter: torch.Tensor, entry: Any) -> Any:
        return self.tree(entry, str(self.index[id(parameter)]), parameter.device)

    def weights(self) -> None:
        for number, parameter in enumerate(self.parameters):
            self.tensors[f"parameters/{number}"] = parameter.detach().cpu().contiguous()

    def tree(self, value: Any, key: str, device: Any = None) -> Any:
        import torch
        from torch.utils._python_dispatch import is_traceable_wrapper_subclass

        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, torch.Tensor):
            if id(value) in self.index:
                return {"parameter": self.index[id(value)]}
            if is_traceable_wrapper_subclass(value):
                return self._subclass(value, key, device)
            return {"tensor": self._tensor(value, key, device)}
        if isinstance(value, dict):
            pairs = enumerate(value.items())
            return {"dict": [[self._name(k), self.tree(v, f"{key}/{self._text(k, i)}", device)] for i, (k, v) in pairs]}
        if isinstance(value, list | tuple):
            items = [self.tree(item, f"{key}/{number}", device) for number, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        raise UserError(
            f"the optimizer keeps a {type(value).__name__} in its state ({key}), which a checkpoint cannot hold",
            "training.optim",
            "choose another optimizer",
        )

    def _name(self, key: Any) -> Any:
        return key if isinstance(key, str | int) else self.tree(key, "key")

    def _text(self, key: Any, number: int) -> str:
        return key.replace("/", "_") if isinstance(key, str) else str(number)

    def _subclass(self, value: Any, key: str, device: Any) -> Any:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if not name.startswith(SUBCLASSES):
            raise UserError(
                f"the optimizer keeps a {name} in its state, which a checkpoint cannot hold",
                "training.optim",
                "choose another optimizer",
            )
        parts, context = value.__tensor_flatten__()
        tensors = {part: self.tree(getattr(value, part), f"{key}/{part}", device) for part in parts}
        return {"class": name, "tensors": tensors, "context": self.tree(context, f"{key}/context", device)}

    def _tensor(self, value: torch.Tensor, key: str, device: Any) -> str:
        if device is not None and value.device.type == "cpu" and device.type != "cpu":
            self.on_host.append(key)
        same = (value.data_ptr(), value.shape, value.dtype)
        if value.numel() and same in self._written:  # one tensor that several parameters share is written once
            return self._written[same]
        flat = value.detach().cpu().contiguous()
        whole = flat.untyped_storage().nbytes() == flat.numel() * flat.element_size()
        self.tensors[key] = flat if whole else flat.clone()
        self._written[same] = key
        return key


class _Reader:
    """Turns trees back into state."""

    def __init__(self, tensors: dict[str, torch.Tensor], parameters: list[torch.Tensor], on_host: set[str]) -> None:
        self.tensors = tensors
        self.parameters = parameters
        self.on_host = on_host
        self._placed: dict[tuple[str, Any], torch.Tensor] = {}

    def tree(self, value: Any, index: int | None) -> Any:
        import torch

        if isinstance(value, list):
            return [self.tree(item, index) for item in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return self._tensor(value["tensor"], index)
        if "dict" in value:
            return {self._key(key): self.tree(item, self._owner(key, index)) for key, item in value["dict"]}
        if "tuple" in value:
            return tuple(self.tree(item, index) for item in value["tuple"])
        if "parameter" in value:
            return self.parameters[value["parameter"]]
        if "dtype" in value:
            return getattr(torch, value["dtype"])
        return self._subclass(value, index)

    def _key(self, key: Any) -> Any:
        return self.tree(key, None) if isinstance(key, dict) else key

    def _owner(self, key: Any, index: int | None) -> int | None:
        return (
            None if isinstance(key, dict) else index
        )  # state under a parameter in a group stays where it was: the host

    def _tensor(self, key: str, index: int | None) -> torch.Tensor:
        device = None if index is None or key in self.on_host else self.parameters[index].device
        if (key, device) not in self._placed:
            tensor = self.tensors[key]
            self._placed[key, device] = tensor if device is None else tensor.to(device)
        return self._placed[key, device]

    def _subclass(self, value: dict[str, Any], index: int | None) -> Any:
        module, _, name = str(value["class"]).rpartition(".")
        if not module.startswith(SUBCLASSES):
            raise StateError(f"the checkpoint's optimizer state is of the unknown kind {value['class']}", TREE)
        try:
            kind = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise EnvironmentProblem(
                f"the checkpoint's optimizer needs {value['class']}", TREE, "pip install torchao, as it was saved with"
            ) from error
        tensors = {part: self.tree(tree, index) for part, tree in value["tensors"].items()}
        return kind.__tensor_unflatten__(tensors, self.tree(value["context"], index))


def _upgraded(described: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """What checkpoints held before version 2: flat state, tensors under `<index>/<name>`."""
    state: dict[str, list[list[Any]]] = {
        index: [[name, value] for name, value in entry.items()] for index, entry in described["state"].items()
    }
    for key in keys:
        index, name = key.split("/", 1)
        state.setdefault(index, []).append([name, {"tensor": key}])
    groups = [
        {
            "dict": [
                [name, {"tuple": value} if name == "betas" else value]
                for name, value in group.items()
                if name != "params"
            ]
        }
        for group in described["param_groups"]
    ]
    on_host = [key for key in keys if key.endswith("/step")]
    return {
        "state": {index: {"dict": pairs} for index, pairs in state.items()},
        "param_groups": groups,
        "on_host": on_host,
    }
