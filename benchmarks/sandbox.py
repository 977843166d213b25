"""The sandbox of the judge `unit_tests`: gold accepted, wrong programs and cheats not, how long it all takes.

    python benchmarks/sandbox.py [../shared/data/code] [--programs 40] [--timeout 20]

- gold: every solution of mbpp.jsonl and human_eval.jsonl, and the same rows with programs that return None. A gold solution
  that is rejected is also run as one plain Python program (task, solution, tests; in a sandbox), without our two processes:
  some rows of the public file fail their own tests, and are listed;
- cheats: the hostile programs of tests/curation/cheats.py under a limit of 1 s: how many are accepted, and the latest end;
- overhead: wall time of one program, both sandboxes started, judged and ended, with nothing started ahead, above
  `python -c pass` and above `python -I -S -E -c pass`, by turns; and the time per program as the judge runs many;
- cores: programs that compute for half a second each, with one worker and with one per core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import machine, median, ratio, wait_for_quiet, write_result

from sftgo_cli.curation.sandbox.bubblewrap import interpreter, require_sandbox, start
from sftgo_cli.curation.sandbox.runs import Case, Limits, Outcome, Pair, outcomes

TESTS_FOLDER = Path(__file__).parents[1] / "tests" / "curation"
CORES = len(os.sched_getaffinity(0))
GRACE = 1.0  # seconds after the limit
TRIVIAL = Case("def f(x):\n    return x", "assert f(1) == 1\nassert f('a') == 'a'", "f", None)
BARE = "python -I -S -E -c pass"
BUSY = "import time\ndef f(x):\n    while time.process_time() < 0.5: pass\n    return x"


def rows(path: Path) -> list[dict[str, Any]]:
    """A JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def plain_python(bwrap: str, row: dict[str, Any]) -> str:
    """What plain Python says of a row's own solution and tests: empty where they pass."""
    program = f"{row['code_prompt']}{row['solution']}\n{row['test']}\ncheck({row['entry_point']})\n"
    process = start(bwrap, ["-c", program], (), subprocess.DEVNULL, subprocess.DEVNULL, subprocess.PIPE)
    _, complaint = process.communicate(timeout=60)
    lines = complaint.decode("utf-8", "replace").strip().splitlines()
    return "" if process.returncode == 0 else lines[-1] if lines else "no message"


def gold(bwrap: str, folder: Path, limits: Limits) -> dict[str, Any]:
    """Gold solutions as answers (outer white space stripped), and programs that return None."""
    found: dict[str, Any] = {}
    for name in ("mbpp", "human_eval"):
        data = rows(folder / f"{name}.jsonl")
        right = [Case(row["solution"].strip(), row["test"], row["entry_point"], row["code_prompt"]) for row in data]
        wrong = [Case("return None", case.tests, case.entry_point, case.code_prompt) for case in right]
        started = time.perf_counter()
        verdicts = outcomes(bwrap, right, limits, CORES)
        seconds = time.perf_counter() - started
        rejected = [(row, verdict) for row, verdict in zip(data, verdicts, strict=True) if not verdict.accepted]
        found[name] = {
            "rows": len(data),
            "accepted": len(data) - len(rejected),
            "seconds_per_program": seconds / len(data),
            "rejected": [
                {"id": row["id"], "reason": verdict.reason, "plain_python": plain_python(bwrap, row)}
                for row, verdict in rejected
            ],
            "none_accepted": sum(verdict.accepted for verdict in outcomes(bwrap, wrong, limits, CORES)),
        }
    return found


def cheats(bwrap: str) -> dict[str, Any]:
    """The hostile programs of the tests."""
    sys.path.insert(0, str(TESTS_FOLDER))
    from cheats import CHEATS, PREAMBLE, RIGHT, TESTS  # type: ignore[import-not-found]

    limits = Limits(1.0, 256)
    programs = [RIGHT, *(PREAMBLE + program for program in CHEATS.values())]
    found: list[Outcome] = outcomes(bwrap, [Case(program, TESTS, "solve", None) for program in programs], limits, CORES)
    if not found[0].accepted:
        raise SystemExit(f"the right program is rejected: {found[0].reason}")
    slowest, name = max((one.seconds, name) for one, name in zip(found[1:], CHEATS, strict=True))
    return {
        "programs": len(CHEATS),
        "accepted": [name for one, name in zip(found[1:], CHEATS, strict=True) if one.accepted],
        "latest_end_after_limit": slowest - limits.timeout,
        "latest": name,
    }


def overhead(bwrap: str, num_programs: int) -> dict[str, Any]:
    """Milliseconds of wall time, medians; kinds by turns."""

    def bare(*flags: str) -> Callable[[], object]:
        return lambda: subprocess.run([str(interpreter()), *flags, "-c", "pass"], check=True)

    def judged() -> object:
        with Pair(bwrap, Limits(20.0, 512)) as pair:
            pair.begin(TRIVIAL)
            return pair.outcome()

    kinds = {BARE: bare("-I", "-S", "-E"), "python -c pass": bare(), "judged": judged}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(num_programs):
        for name, call in kinds.items():
            started = time.perf_counter()
            call()
            taken[name].append(1000 * (time.perf_counter() - started))
    found: dict[str, Any] = {name: median(values) for name, values in taken.items()}
    for workers in dict.fromkeys((1, CORES)):
        started = time.perf_counter()
        outcomes(bwrap, [TRIVIAL] * num_programs, Limits(20.0, 512), workers)
        found[f"per program, {workers} workers"] = 1000 * (time.perf_counter() - started) / num_programs
    return found


def cores(bwrap: str) -> dict[str, Any]:
    """Seconds for the same busy programs with one worker and with one per core."""
    found = {}
    for workers in (1, CORES):
        started = time.perf_counter()
        outcomes(bwrap, [Case(BUSY, "assert f(1) == 1", "f", None)] * (6 * CORES), Limits(20.0, 512), workers)
        found[f"{workers} workers"] = time.perf_counter() - started
    return {**found, "speedup": found["1 workers"] / found[f"{CORES} workers"]}


def main() -> None:
    """Measure, print, write results/sandbox.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/data/code"))
    parser.add_argument("--programs", type=int, default=40)
    parser.add_argument("--timeout", type=float, default=20.0)
    arguments = parser.parse_args()
    before, bwrap = machine(), require_sandbox()
    wait_for_quiet()
    figures: dict[str, Any] = {
        "overhead_ms": overhead(bwrap, arguments.programs),
        "cores": cores(bwrap),
        "gold": gold(bwrap, arguments.folder, Limits(arguments.timeout, 512)),
        "cheats": cheats(bwrap),
    }
    ratios = []
    for name, found in figures["gold"].items():
        fails_itself = [one["id"] for one in found["rejected"] if one["plain_python"]]
        print(
            f"{name}: {found['accepted']} of {found['rows']} gold solutions accepted; fail in plain Python: {fails_itself}"
        )
        for one in found["rejected"]:
            print(f"    {one['id']}: {one['reason'][:110]} | plain Python: {one['plain_python'][:60]}")
        possible = found["rows"] - len(fails_itself)
        ratios += [
            ratio(
                f"{name}: gold accepted, of those that plain Python accepts", found["accepted"] / possible, 1.0, False
            ),
            ratio(f"{name}: gold accepted, of all", found["accepted"] / found["rows"], 1.0, False),
            ratio(f"{name}: programs accepted that return None", found["none_accepted"], 0, True),
        ]
    times, hostile = figures["overhead_ms"], figures["cheats"]
    print("milliseconds:", {name: round(value, 1) for name, value in times.items()})
    print("cheats:", hostile)
    ratios += [
        ratio(f"cheats accepted, of {hostile['programs']}", len(hostile["accepted"]), 0, True),
        ratio("latest end of a cheat, seconds after its limit", hostile["latest_end_after_limit"], GRACE, True),
        ratio("one program alone, ms above python -c pass", times["judged"] - times["python -c pass"], 30.0, True),
        ratio("one program alone, ms above python -I -S -E -c pass", times["judged"] - times[BARE], 30.0, True),
        ratio(
            f"per program, {CORES} workers, ms above {BARE}",
            times[f"per program, {CORES} workers"] - times[BARE],
            30.0,
            True,
        ),
        ratio(f"speed-up by {CORES} workers", figures["cores"]["speedup"], 0.9 * CORES, False),
    ]
    write_result("sandbox", "The sandbox of the judge unit_tests", figures, ratios, before)


if __name__ == "__main__":
    main()
