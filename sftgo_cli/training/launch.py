"""Starts the ranks with an existing launcher and brings their exit code back.

torchrun on CPU; accelerate launch on accelerators, or when flags follow `--`. Both turn every worker's exit code into 1,
so the code comes back through a file. What was asked for (processes, wrapper) is written into the environment and
asserted by every rank: `accelerate launch` was seen to start one CPU process silently where two were configured.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftgo_cli.errors import EXIT_BUG, EXIT_INTERRUPTED, EnvironmentProblem, UserError

EXIT_FILE = "SFTGO_EXIT_FILE"
EXPECTED = "SFTGO_EXPECTED"
WRAPPERS = {"FSDP": "FSDP", "DEEPSPEED": "DEEPSPEED", "MULTI_GPU": "MULTI_GPU", "MULTI_CPU": "MULTI_CPU", "NO": "NO"}


@dataclass(frozen=True)
class Launch:
    """How to start the ranks: the command in front of `-m sftgo_cli ...`, and what every rank must find."""

    command: list[str]
    expected: dict[str, Any]


def inside_launcher() -> bool:
    """Whether a launcher started this process (torchrun, accelerate, srun with torch variables).

    `run_ranks` always leaves EXPECTED: accelerate starts a single CPU process without RANK, and that must be noticed.
    """
    return ("RANK" in os.environ and "WORLD_SIZE" in os.environ) or EXPECTED in os.environ


def plan_launch(num_processes: int | None, flags: Sequence[str], use_cpu: bool) -> Launch | None:
    """The launch that is needed, or None to train in this process.

    Args:
        num_processes: `-n`, or None for every accelerator (one process on CPU).
        flags: what followed `--`: flags of `accelerate launch`.
        use_cpu: training.use_cpu.

    Raises:
        UserError: the accelerate configuration cannot be read, or contradicts `-n`.
    """
    accelerators = 0 if use_cpu else num_accelerators()
    if flags:
        return _accelerate(list(flags), num_processes)
    wanted = num_processes or max(1, accelerators)
    if accelerators > 1:
        return _accelerate(["--num_processes", str(wanted)] + (["--multi_gpu"] if wanted > 1 else []), None)
    if wanted == 1:
        return None
    if accelerators == 1:
        raise UserError(
            f"{wanted} processes for one accelerator", f"-n {wanted}", "use -n 1, or training.use_cpu: true"
        )
    command = [sys.executable, "-m", "sftgo_cli.training.torchrun", "--standalone", "--nproc_per_node", str(wanted)]
    return Launch(command, {"world_size": wanted, "wrapper": None})


def check_launcher(flags: Sequence[str]) -> None:
    """What the flags ask for can be started on this machine; checked before any data is prepared.

    Raises:
        EnvironmentProblem: DeepSpeed is not installed, or sharding is asked for and there is no accelerator.
        UserError: the accelerate configuration cannot be read.
    """
    wrapper = expected_of_flags(flags)["wrapper"] if flags else None
    if wrapper == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise EnvironmentProblem("DeepSpeed is not installed", "flags after --", "pip install 'sftgo[deepspeed]'")
    if wrapper in ("FSDP", "DEEPSPEED") and num_accelerators() == 0:
        raise EnvironmentProblem(
            f"{wrapper} shards over accelerators, and this machine has none",
            "flags after --",
            "leave the flags out; on the CPU -n N starts N processes",
        )


def num_accelerators() -> int:
    """How many this machine offers to processes of their own."""
    import torch

    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0


def _accelerate(flags: list[str], num_processes: int | None) -> Launch:
    expected = expected_of_flags(flags)
    if num_processes is not None:
        if expected["world_size"] not in (None, num_processes):
            raise UserError(
                f"-n {num_processes} contradicts num_processes {expected['world_size']}", "flags after --", "give one"
            )
        if expected["world_size"] is None:
            flags = ["--num_processes", str(num_processes), *flags]
            expected["world_size"] = num_processes
    return Launch([sys.executable, "-m", "accelerate.commands.launch", *flags], expected)


def expected_of_flags(flags: Sequence[str]) -> dict[str, Any]:
    """World size and wrapper that accelerate flags (and their configuration file) ask for; None where they do not say.

    Raises:
        UserError: the configuration file is missing or not a mapping.
    """
    import yaml

    values = _flag_values(flags)
    config: dict[str, Any] = {}
    if "config_file" in values:
        path = Path(values["config_file"])
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UserError("cannot read the accelerate configuration", str(path), "see configs/accelerate/") from error
        if not isinstance(config, dict):
            raise UserError("the accelerate configuration is not a mapping", str(path), "see configs/accelerate/")
    wrapper = config.get("distributed_type")
    for flag, name in (("use_fsdp", "FSDP"), ("use_deepspeed", "DEEPSPEED"), ("multi_gpu", "MULTI_GPU")):
        wrapper = name if flag in values else wrapper
    size = values.get("num_processes", config.get("num_processes"))
    return {"world_size": int(size) if size is not None else None, "wrapper": wrapper}


def _flag_values(flags: Sequence[str]) -> dict[str, str]:
    """`--num_processes 2`, `--num-processes=2` and bare `--use_fsdp` as a mapping."""
    values: dict[str, str] = {}
    for index, flag in enumerate(flags):
        if flag.startswith("--"):
            name, _, value = flag[2:].partition("=")
            following = flags[index + 1] if index + 1 < len(flags) else ""
            values[name.replace("-", "_")] = value or ("" if following.startswith("-") else following)
    return values


def run_ranks(launch: Launch, arguments: Sequence[str]) -> int:
    """Run `sftgo ARGUMENTS` in every rank; returns the first failing rank's exit code, 0 when all succeeded."""
    with tempfile.TemporaryDirectory(prefix="sftgo-") as folder:
        exit_file = Path(folder) / "exit_code"
        environment = {**os.environ, EXIT_FILE: str(exit_file), EXPECTED: json.dumps(launch.expected)}
        world = launch.expected["world_size"] or 1
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // world)))
        environment["PYTHONWARNINGS"] = environment.get("PYTHONWARNINGS", "ignore")
        command = [*launch.command, "-m", "sftgo_cli", *arguments]
        process = subprocess.Popen(command, env=environment)
        code, signalled = _wait(process)
        if exit_file.is_file():
            return int(exit_file.read_text(encoding="utf-8"))
        if code and signalled:  # it reached the ranks while they were still starting: nothing was done yet
            return EXIT_INTERRUPTED
        return EXIT_BUG if code else 0


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """Wait for the launcher: its exit code, and whether a signal arrived meanwhile.

    Ctrl-C reaches the whole process group by itself; a SIGTERM is passed on.
    """
    import signal

    received: list[int] = []

    def forward(number: int, frame: Any) -> None:
        received.append(number)
        if number == signal.SIGTERM:
            process.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return process.wait(), bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def report_exit(code: int) -> bool:
    """In a rank: leave the exit code for the parent. The first rank that fails decides (O_EXCL); whether it was this one."""
    path = os.environ.get(EXIT_FILE)
    if not path or code == 0:
        return False
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except (FileExistsError, FileNotFoundError):  # another rank was first, or the parent is gone
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(str(code))
    return True


def check_expected() -> None:
    """In a rank: what the launcher started is what was asked for.

    Raises:
        EnvironmentProblem: another world size or wrapper.
    """
    described = os.environ.get(EXPECTED)
    if not described:
        return
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    expected = json.loads(described)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if expected["world_size"] not in (None, world):
        raise EnvironmentProblem(
            f"asked for {expected['world_size']} processes, the launcher started {world}",
            "launch",
            "on CPU use -n N without flags; on accelerators check the accelerate configuration",
        )
    wrapper = expected["wrapper"]
    if wrapper not in ("FSDP", "DEEPSPEED"):
        return
    asked = {"FSDP": "ACCELERATE_USE_FSDP", "DEEPSPEED": "ACCELERATE_USE_DEEPSPEED"}[wrapper]
    state = PartialState()
    active = os.environ.get(asked, "false").lower() in ("true", "1")
    if not active or state.distributed_type == DistributedType.NO:
        raise EnvironmentProblem(
            f"asked for {wrapper}, the launcher started {state.distributed_type.value}",
            "launch",
            f"{wrapper} needs accelerators; check the accelerate configuration",
        )


def check_joined(joined: int) -> None:
    """In a rank: the processes that train together are all that the launcher started, not each one alone.

    Raises:
        EnvironmentProblem: they did not join.
    """
    started = world_size()
    if joined != started:
        raise EnvironmentProblem(
            f"the launcher started {started} processes, but {joined} train together",
            "launch",
            "check the accelerate configuration; on CPU use -n N without flags",
        )


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
