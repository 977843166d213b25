"""Which launcher starts the ranks, what is asserted inside them, and how their exit code comes back."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.training import launch


@pytest.fixture
def accelerators(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many accelerators the machine has."""
    count = [0]
    monkeypatch.setattr(launch, "num_accelerators", lambda: count[0])
    return count


def test_one_process_needs_no_launcher(accelerators: list[int]) -> None:
    assert launch.plan_launch(None, [], use_cpu=False) is None
    assert launch.plan_launch(1, [], use_cpu=True) is None
    accelerators[0] = 1
    assert launch.plan_launch(None, [], use_cpu=False) is None


def test_cpu_processes_are_torchruns(accelerators: list[int]) -> None:
    planned = launch.plan_launch(2, [], use_cpu=True)
    assert planned is not None
    assert planned.command[1:] == ["-m", "sftgo_cli.training.torchrun", "--standalone", "--nproc_per_node", "2"]
    assert planned.expected == {"world_size": 2, "wrapper": None}


def test_several_accelerators_are_used_by_themselves(accelerators: list[int]) -> None:
    accelerators[0] = 4
    planned = launch.plan_launch(None, [], use_cpu=False)
    assert planned is not None
    assert planned.command[1:] == ["-m", "accelerate.commands.launch", "--num_processes", "4", "--multi_gpu"]
    assert planned.expected == {"world_size": 4, "wrapper": "MULTI_GPU"}
    assert launch.plan_launch(None, [], use_cpu=True) is None


def test_more_processes_than_accelerators_is_refused(accelerators: list[int]) -> None:
    accelerators[0] = 1
    with pytest.raises(UserError, match="2 processes for one accelerator"):
        launch.plan_launch(2, [], use_cpu=False)


def test_flags_go_to_accelerate_and_are_remembered(accelerators: list[int], tmp_path: Path) -> None:
    config = tmp_path / "fsdp.yaml"
    config.write_text("distributed_type: FSDP\nnum_processes: 8\n")
    planned = launch.plan_launch(None, ["--config_file", str(config)], use_cpu=False)
    assert planned is not None
    assert planned.expected == {"world_size": 8, "wrapper": "FSDP"}
    planned = launch.plan_launch(
        None, [f"--config-file={config}", "--num-processes=2", "--use_deepspeed"], use_cpu=False
    )
    assert planned is not None
    assert planned.expected == {"world_size": 2, "wrapper": "DEEPSPEED"}
    planned = launch.plan_launch(3, ["--use_fsdp"], use_cpu=False)
    assert planned is not None
    assert planned.command[-3:] == ["--num_processes", "3", "--use_fsdp"]
    with pytest.raises(UserError, match="-n 2 contradicts num_processes 8"):
        launch.plan_launch(2, ["--config_file", str(config)], use_cpu=False)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot read"), ("- a list", "not a mapping"), ("a: [", "cannot read")]
)
def test_a_bad_accelerate_configuration(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        launch.expected_of_flags(["--config_file", str(path)])


def test_the_first_failing_ranks_code_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "exit_code"
    monkeypatch.setenv(launch.EXIT_FILE, str(path))
    launch.report_exit(0)
    assert not path.exists()
    launch.report_exit(75)
    launch.report_exit(1)
    assert path.read_text() == "75"
    monkeypatch.delenv(launch.EXIT_FILE)
    launch.report_exit(3)


def test_what_was_asked_is_asserted_in_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(launch.EXPECTED, raising=False)
    launch.check_expected()
    monkeypatch.setenv(launch.EXPECTED, json.dumps({"world_size": 2, "wrapper": None}))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launch.world_size() == 2
    launch.check_expected()
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(EnvironmentProblem, match="asked for 2 processes, the launcher started 1"):
        launch.check_expected()
    monkeypatch.setenv(launch.EXPECTED, json.dumps({"world_size": None, "wrapper": "FSDP"}))
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    monkeypatch.delenv("WORLD_SIZE")  # else accelerate would wait for the other process
    with pytest.raises(EnvironmentProblem, match="asked for FSDP, the launcher started NO"):
        launch.check_expected()


def test_inside_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert not launch.inside_launcher()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launch.inside_launcher()


LAUNCHER = """
import os, signal, sys, time
def stop(number, frame):
    open(os.environ["SFTGO_EXIT_FILE"], "w").write("75")
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
assert sys.argv[1:3] == ["-m", "sftgo_cli"]
what = sys.argv[3]
if what == "wait":
    open(sys.argv[4], "w").close()
    time.sleep(20)
if what == "two":
    open(os.environ["SFTGO_EXIT_FILE"], "w").write("2")
sys.exit(0 if what == "fine" else 1)
"""


@pytest.fixture
def fake(tmp_path: Path) -> launch.Launch:
    """A launcher that exits with 1 whatever its ranks did, as the real ones."""
    script = tmp_path / "launcher.py"
    script.write_text(LAUNCHER)
    return launch.Launch([sys.executable, str(script)], {"world_size": 2, "wrapper": None})


@pytest.mark.parametrize(("what", "code"), [("fine", 0), ("two", 2), ("crash", 1)])
def test_the_exit_code_comes_back(fake: launch.Launch, what: str, code: int) -> None:
    assert launch.run_ranks(fake, [what]) == code


def test_a_sigterm_is_passed_on(fake: launch.Launch, tmp_path: Path) -> None:
    started = tmp_path / "started"

    def terminate() -> None:
        while not started.exists():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=terminate)
    thread.start()
    assert launch.run_ranks(fake, ["wait", str(started)]) == 75
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("flags", "installed", "count", "message"),
    [
        (["--use_deepspeed"], False, 8, "DeepSpeed is not installed.*pip install 'sftgo\\[deepspeed\\]'"),
        (["--use_deepspeed"], True, 0, "DEEPSPEED shards over accelerators"),
        (["--config_file", "configs/accelerate/fsdp2.yaml"], True, 0, "FSDP shards over accelerators"),
        (["--config_file", "configs/accelerate/deepspeed_zero3.yaml"], False, 0, "DeepSpeed is not installed"),
    ],
)
def test_what_a_launcher_needs_is_asked_before_any_work(
    accelerators: list[int],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    installed: bool,
    count: int,
    message: str,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    accelerators[0] = count
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: object() if installed else None)
    with pytest.raises(EnvironmentProblem, match=message) as caught:
        launch.check_launcher(flags)
    assert caught.value.exit_code == 3
    accelerators[0] = 8
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: object())
    launch.check_launcher(flags)
    launch.check_launcher([])
