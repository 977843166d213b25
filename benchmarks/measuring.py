"""What every benchmark here shares: processes with their peak memory, the machine, ratios with targets, result files."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
RESULTS = Path(__file__).parent / "results"
MB = 1024.0  # /proc counts in KiB: one MB here is 1,024 of them
POLL_SECONDS = 0.01
DISTURBED = 0.1  # cores: two threads that wait for each other lose far more than the share that others take
MOST_WAITING = 120.0  # seconds of a benchmark spent on quiet and on second tries
PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "numpy", "pyarrow", "scikit-learn")

_STARTED = time.perf_counter()  # of the benchmark, about
_waited = 0.0


@dataclass(frozen=True)
class Finished:
    """A process that has ended: its output, its peak resident memory and what `watch` was waiting for."""

    output: str
    peak_mb: float
    seconds: float
    seconds_until: float | None  # from the start of the process until `until()` was true
    disturbance: float  # cores that others used meanwhile, or that a hypervisor took


def run(
    command: Sequence[str],
    until: Callable[[], bool] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Finished:
    """Run a command and watch it from outside; memory is the kernel's own high-water mark (VmHWM), children included.

    Raises:
        SystemExit: it failed; its output says why.
    """
    started, reached, peak = time.perf_counter(), None, 0.0
    before = _others_cpu_seconds()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=folder,
    )
    with _drained(process) as lines:
        while process.poll() is None:
            peak = max(peak, tree_peak_mb(process.pid))
            if reached is None and until is not None and until():
                reached = time.perf_counter() - started
            time.sleep(POLL_SECONDS if until is not None and reached is None else 5 * POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {process.returncode}:\n{''.join(lines)[-4000:]}")
    seconds = time.perf_counter() - started
    return Finished("".join(lines), peak, seconds, reached, (_others_cpu_seconds() - before) / seconds)


def undisturbed(start: Callable[[], T], disturbance: Callable[[T], float]) -> T:
    """`start()` once nothing else keeps the machine busy; once more where others used more than `DISTURBED` cores meanwhile.
    Bounded, so that a benchmark ends on a busy machine too; the less disturbed result counts."""
    global _waited
    wait_for_quiet()
    started = time.perf_counter()
    first = start()
    taken = time.perf_counter() - started
    if disturbance(first) <= DISTURBED or _waited + taken > MOST_WAITING:
        return first
    _waited += taken
    return min(first, start(), key=disturbance)


def wait_for_quiet() -> None:
    """Until nothing else has used the processor for a second, or `MOST_WAITING` seconds in this process have passed."""
    global _waited
    while _waited < MOST_WAITING:
        before = _others_cpu_seconds()
        time.sleep(1.0)
        if _others_cpu_seconds() - before < DISTURBED:
            return
        _waited += 1.0


def _others_cpu_seconds() -> float:
    """Processor time of everything but this process and its ended children, stolen time included; 0 off Linux."""
    import resource

    if not Path("/proc/stat").exists():
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    whole = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return whole - sum(usage.ru_utime + usage.ru_stime for usage in own)


class _drained:
    """Reads a process's output in a thread, so that a full pipe never stops it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        import threading

        self.lines: list[str] = []
        self.thread = threading.Thread(target=lambda: self.lines.extend(process.stdout or ()))

    def __enter__(self) -> list[str]:
        self.thread.start()
        return self.lines

    def __exit__(self, *_: object) -> None:
        self.thread.join()


def tree_peak_mb(pid: int) -> float:
    """Sum of the peaks of a process and its descendants, in MB; 0 once it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = next((float(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0.0)
    return own / MB + sum(tree_peak_mb(int(child)) for child in children)


def last_json(output: str) -> Any:
    """The last line of a process's output, read as JSON."""
    return json.loads(output.strip().splitlines()[-1])


def median(values: Sequence[float]) -> float:
    """Of a non-empty sequence."""
    return float(statistics.median(values))


def ratio(what: str, value: float, target: float, at_most: bool) -> dict[str, Any]:
    """A figure beside its target."""
    met = value <= target if at_most else value >= target
    return {"what": what, "value": value, "target": target, "at_most": at_most, "met": met}


def machine() -> dict[str, Any]:
    """What the figures were measured on, the load just before included."""
    model = platform.processor() or platform.machine()
    flags: list[str] = []
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
            elif line.startswith("flags"):
                flags = line.split(":", 1)[1].split()
    kept = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "instructions": kept,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that take part."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """How this benchmark was started, without the machine's paths."""
    script = Path(sys.argv[0]).resolve()
    return shlex.join(["python", f"benchmarks/{script.name}", *sys.argv[1:]])


def write_result(
    name: str, what: str, figures: Mapping[str, Any], ratios: Sequence[Mapping[str, Any]], before: Mapping[str, Any]
) -> None:
    """Print the ratios and write results/NAME.json. `before` is `machine()` as it was before measuring."""
    result = {
        "name": name,
        "what": what,
        "command": command_line(),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.perf_counter() - _STARTED, 1),
        "machine": dict(before),
        "versions": versions(),
        "ratios": [dict(item) for item in ratios],
        "figures": dict(figures),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    for item in ratios:
        sign = "at most" if item["at_most"] else "at least"
        verdict = "" if item["met"] else "   MISSED"
        print(f"{item['what']}: {item['value']:.4g} (target: {sign} {item['target']:g}){verdict}", flush=True)
    print(f"{name} took {result['seconds']:.0f} s, of which {_waited:.0f} s waiting for a quiet machine", flush=True)
