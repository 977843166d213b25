"""Start-up: `sftgo --help` and `sftgo train --help` over what a bare Python takes to start.

    python benchmarks/startup.py [--runs 10]

The three commands are run in turn, each in a new process; the figure is the difference of medians, in milliseconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from measuring import machine, median, ratio, wait_for_quiet, write_result

SFTGO = str(Path(sys.executable).with_name("sftgo"))
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "sftgo --help": [SFTGO, "--help"],
    "sftgo train --help": [SFTGO, "train", "--help"],
}
TARGETS_MS = {"sftgo --help": 60.0, "sftgo train --help": 150.0}


def main() -> None:
    """Measure, print, write results/startup.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    wait_for_quiet()
    before = machine()
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(runs + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if number:  # the first round fills the file cache
                taken[name].append((time.perf_counter() - started) * 1e3)
    medians = {name: median(values) for name, values in taken.items()}
    ratios = [
        ratio(f"{name} over bare Python, ms", medians[name] - medians["python"], target, at_most=True)
        for name, target in TARGETS_MS.items()
    ]
    write_result("startup", "Start-up time", {"milliseconds": medians, "runs": runs}, ratios, before)


if __name__ == "__main__":
    main()
