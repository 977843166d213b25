"""What only the Trainer, the optimizer or the machine would refuse, refused before any data is prepared.

The Trainer's arguments, the optimizer and the schedule are built once, on a model of a few parameters, and one step is
taken whose state is written as a checkpoint would hold it. `validate`, `train` and `train --dry-run` begin with it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sftgo_cli.errors import EnvironmentProblem, SftgoError, UserError, nearest
from sftgo_cli.recipe.load import LoadedRecipe, said_defaults
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.recipe.trainer_names import MUON, TRACKERS
from sftgo_cli.recipe.training_section import TrainingSection
from sftgo_cli.run_dir import check_output_dir
from sftgo_cli.training.arguments import refused, training_arguments
from sftgo_cli.training.environment import missing_for_model
from sftgo_cli.training.imports import import_libraries
from sftgo_cli.training.launch import inside_launcher

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments

STEPS = 10  # of the schedule that is tried
WORKERS_PER_PROCESSOR = 8
BACKENDS = ("nccl", "gloo", "mpi", "ucc", "xccl", "hccl", "cncl", "mccl")


def check_start(loaded: LoadedRecipe, alone: bool, say: Callable[[str], None]) -> None:
    """Say the defaults that hang on other values, and check the run's folder and the training; once, not in every rank.

    Args:
        alone: the training runs in this process, or nothing does.

    Raises:
        UserError, EnvironmentProblem: as `check_training`.
    """
    folder = check_output_dir(loaded.recipe.training.output_dir)
    if inside_launcher():
        return
    for line in said_defaults(loaded):
        say(line)
    check_training(loaded.recipe, folder, on_device=alone)


def check_training(recipe: Recipe, folder: Path, on_device: bool = True) -> None:
    """Refuse what a training of this recipe would refuse later on this machine.

    Args:
        folder: the run's.
        on_device: try the optimizer where the training will run; else on the CPU, and without a step: a process that only
            starts others leaves the accelerators to them.

    Raises:
        UserError, EnvironmentProblem: what is wrong, and what to do.
    """
    import_libraries()
    section = recipe.training
    _check_packages(recipe)
    _check_machine(recipe)
    _check_compilation(section)
    _check_gradient_checkpointing(section)
    with _as_it_was():
        device = _device(section) if on_device else None
        on_cpu = recipe.model_copy(update={"training": section.model_copy(update={"use_cpu": True, "tf32": None})})
        args = training_arguments(recipe if device is not None else on_cpu, folder, resuming=False)
        _try_optimizer(args, section, device)


def _check_packages(recipe: Recipe) -> None:
    """Trackers, DeepSpeed and the optimizer's package."""
    from transformers.integrations import get_available_reporting_integrations

    from sftgo_cli.training.optimizers import check_installed

    for line in missing_for_model(recipe):
        what, _, fix = line.partition(" - ")
        package, _, where = what.partition(", for ")
        raise EnvironmentProblem(f"{package} is not installed", where, fix)
    section = recipe.training
    trackers = [section.report_to] if isinstance(section.report_to, str) else section.report_to
    available = get_available_reporting_integrations()
    known = ["none", "all", *TRACKERS]
    for name in trackers:
        if name in TRACKERS and name not in available:
            raise EnvironmentProblem(
                f"the tracker {name} is not installed", f"training.report_to: {name}", f"pip install {TRACKERS[name]}"
            )
        if name not in known and name not in available:
            close = nearest(name, known)
            fix = f"did you mean {close}?" if close else f"choose from {', '.join(known)}"
            raise UserError(f"{name!r} is not available", "training.report_to", fix)
    if len(trackers) > 1 and {"none", "all"} & {*trackers}:
        raise UserError("none and all stand alone", "training.report_to", "list the trackers")
    check_installed(section.optim)
    if recipe.model.quantization is not None and importlib.util.find_spec("bitsandbytes") is None:
        raise EnvironmentProblem(
            "quantization needs bitsandbytes", "model.quantization", "pip install 'sftgo[quantization]'"
        )
    if section.deepspeed is not None:
        if importlib.util.find_spec("deepspeed") is None:
            raise EnvironmentProblem(
                "deepspeed is not installed", "training.deepspeed", "pip install 'sftgo[deepspeed]'"
            )
        if not Path(section.deepspeed).is_file():
            raise UserError(f"{section.deepspeed} does not exist", "training.deepspeed", "give DeepSpeed's JSON file")
    if section.push_to_hub and section.hub_model_id is not None:
        _check_repository(section.hub_model_id)


def _check_repository(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{name!r} is no repository name: {reason}", "training.hub_model_id", "write owner/name"
        ) from error


def _check_machine(recipe: Recipe) -> None:
    """Compute type, data workers and the backend between processes."""
    import torch

    section = recipe.training
    if recipe.model.dtype == "float16" and (section.use_cpu or not torch.accelerator.is_available()):
        raise UserError("float16 needs an accelerator", "model.dtype", "use bfloat16 or float32 on the CPU")
    if section.neftune_noise_alpha is not None and section.neftune_noise_alpha > torch.finfo(torch.float32).max / 2:
        raise UserError(
            "the noise is larger than float32 can hold", "training.neftune_noise_alpha", "5 to 15 are usual values"
        )
    most = WORKERS_PER_PROCESSOR * (os.cpu_count() or 1)
    if section.dataloader_num_workers > most:
        raise UserError(
            f"{section.dataloader_num_workers} data workers on {os.cpu_count()} processors",
            "training.dataloader_num_workers",
            f"use at most {most}; a few are enough",
        )
    backend = section.ddp_backend
    if backend is None:
        return
    if backend not in BACKENDS:
        close = nearest(backend, BACKENDS)
        fix = f"did you mean {close}?" if close else f"choose from {', '.join(BACKENDS)}"
        raise UserError(f"there is no backend {backend!r}", "training.ddp_backend", fix)
    if not torch.distributed.is_backend_available(backend):
        raise EnvironmentProblem(
            f"this torch has no backend {backend}",
            "training.ddp_backend",
            "remove it: the machine's own is then chosen",
        )


def _check_compilation(section: TrainingSection) -> None:
    """Backend and mode of torch.compile."""
    backend, mode = section.torch_compile_backend, section.torch_compile_mode
    if not (section.torch_compile or backend or mode):
        return
    from accelerate.utils import DynamoBackend
    from torch._inductor import list_mode_options

    backends = [item.value.lower() for item in DynamoBackend if item.value != "NO"]
    for key, value, known in (
        ("torch_compile_backend", backend, backends),
        ("torch_compile_mode", mode, [*list_mode_options()]),
    ):
        if value is not None and value not in known:
            close = nearest(value, known)
            fix = f"did you mean {close}?" if close else f"choose from {', '.join(known)}"
            raise UserError(f"torch.compile has no {key.rpartition('_')[2]} {value!r}", f"training.{key}", fix)


def _check_gradient_checkpointing(section: TrainingSection) -> None:
    """Arguments of torch's checkpointing, tried on one number."""
    import torch
    from torch.utils.checkpoint import checkpoint

    arguments = section.gradient_checkpointing_kwargs
    if not arguments:
        return
    where = "training.gradient_checkpointing_kwargs"
    if arguments.get("use_reentrant"):
        raise UserError(
            "reentrant checkpointing loses the gradients of adapters", where, "remove use_reentrant, or set it to false"
        )
    try:
        checkpoint(torch.exp, torch.ones(1, requires_grad=True), **{"use_reentrant": False, **arguments}).backward()
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"torch's checkpointing refuses it: {reason}", where, "change its arguments") from error


def _device(section: TrainingSection) -> torch.device:
    import torch

    accelerator = None if section.use_cpu else torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if accelerator is None else accelerator


def _try_optimizer(args: TrainingArguments, section: TrainingSection, device: torch.device | None) -> None:
    """Build optimizer and schedule on a small model; with a device, take a step there and write the state down."""
    import torch
    from transformers import get_scheduler

    from sftgo_cli.training.optimizer_state import save_optimizer
    from sftgo_cli.training.optimizers import class_and_arguments

    kind, arguments = class_and_arguments(args, section, STEPS)
    with torch.random.fork_rng(devices=[]):
        model = torch.nn.Linear(512, 256, device=device)  # large enough for state that is quantized or paged
    try:
        groups = [{"params": [*model.parameters()], "weight_decay": section.weight_decay}]
        optimizer = kind()(model, **arguments) if section.optim == MUON else kind(groups, **arguments)
        get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(STEPS),
            num_training_steps=STEPS,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
    except (TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
        raise refused(error) from error
    if device is None:
        return
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for group in optimizer.param_groups:  # the schedule may begin at zero
        group["lr"] = (
            arguments["lr"] if not isinstance(group["lr"], torch.Tensor) else group["lr"].fill_(arguments["lr"])
        )
    try:
        with torch.compiler.set_stance("force_eager"), tempfile.TemporaryDirectory() as folder:
            if "train_mode" in optimizer.param_groups[0]:
                optimizer.train()
            optimizer.step()
            save_optimizer(Path(folder), optimizer)
    except SftgoError:
        raise
    except OSError:
        return  # a full disk says nothing about the optimizer; where checkpoints go, it is met and named
    except Exception as error:  # whatever a foreign optimizer raises: the training would end with it
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "I/O error" in reason:
            return  # safetensors' own kind of OSError
        raise UserError(
            f"{section.optim} cannot make a step on {device.type}: {reason}",
            "training.optim",
            "choose another, or change its numbers",
        ) from error


@contextmanager
def _as_it_was() -> Iterator[None]:
    """What trying things out leaves behind in the process is put back: accelerate's state, TF32, warnings."""
    import torch
    from accelerate.state import AcceleratorState, GradientState

    environment, logger = dict(os.environ), (logging.root.level, list(logging.root.handlers))
    tf32 = torch.backends.cuda.matmul.allow_tf32
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        logging.root.setLevel(logger[0])  # grokadamw sets up logging where it is imported
        logging.root.handlers[:] = logger[1]
        if not torch.distributed.is_initialized():
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
        for key in os.environ.keys() - environment.keys():
            del os.environ[key]
