"""The loss head alone, forward and backward, beside plain cross-entropy on all logits; and SFT-GO beside cross-entropy.

    python benchmarks/loss_head.py [--rounds 3] [--runs 1] [--sizes 8192 4096]

Hidden size 512, vocabulary 131,072, bfloat16; every token is supervised, in samples of 128. Each variant runs in a process
of its own, so that no memory is inherited: a warm-up (it compiles what is to be compiled), then `--runs` timed passes.
Memory is the peak of the resident set above what the inputs take, read every 2 ms. Variants alternate over the rounds;
figures are medians over all passes (of processes during which others used
at most 0.1 cores, where there are such).

    eager      F.cross_entropy((h @ w.t()).float(), t); one pass, at the largest size only: it takes 12 GB
    compiled   the same, torch.compile'd
    ours       the fused head; `tiles` with its tile functions compiled, as long runs have them
    objectives cross_entropy and sft_go through the fused head as training calls it, in one process, passes alternating
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from measuring import DISTURBED, MB, last_json, machine, median, ratio, run, undisturbed, write_result

HIDDEN, VOCABULARY, SAMPLE = 512, 131_072, 128
VARIANTS = ("compiled", "ours", "ours tiles")
Pass = Callable[[], Any]


def inputs(num_tokens: int) -> tuple[Any, Any, Any]:
    """Hidden states [N, H] and head weight [V, H] in bfloat16 that want gradients, and targets [N]."""
    import torch

    torch.manual_seed(0)
    hidden_NH = torch.randn(num_tokens, HIDDEN).bfloat16().requires_grad_(True)
    weight_VH = (torch.randn(VOCABULARY, HIDDEN) * 0.02).bfloat16().requires_grad_(True)
    return hidden_NH, weight_VH, torch.randint(VOCABULARY, (num_tokens,))


def plain(num_tokens: int, compile_it: bool) -> tuple[Pass, Any]:
    """Cross-entropy on all logits."""
    import torch
    from torch.nn import functional

    def loss_of(hidden_NH: Any, weight_VH: Any, targets_N: Any) -> Any:
        return functional.cross_entropy((hidden_NH @ weight_VH.t()).float(), targets_N)

    given = inputs(num_tokens)
    function = torch.compile(loss_of) if compile_it else loss_of
    return lambda: function(*given), given


def ours(num_tokens: int, compile_tiles: bool) -> tuple[Pass, Any]:
    """The same loss through the fused head."""
    import torch

    from sftgo_cli.losses.fused_head import Weighing, weighed_loss
    from sftgo_cli.losses.logits import LogitTransform

    hidden_NH, weight_VH, targets_N = given = inputs(num_tokens)
    ends = list(range(SAMPLE, num_tokens + 1, SAMPLE))
    weighing = Weighing(ends, lambda start, stop, x: x["nll"].double().sum() / num_tokens, compile_tiles=compile_tiles)
    transform = LogitTransform()

    def one_pass() -> Any:
        return weighed_loss(hidden_NH, weight_VH, None, targets_N, transform, weighing, torch.bfloat16)[0]

    return one_pass, given


def objective(name: str, num_tokens: int, given: Any, compile_tiles: bool) -> Pass:
    """An objective through the fused head, called as training calls it; groups are random, 30 % important."""
    import torch

    from sftgo_cli.losses.fused_head import weighed_loss
    from sftgo_cli.losses.logits import LogitTransform
    from sftgo_cli.objectives import cross_entropy, sft_go
    from sftgo_cli.objectives.micro_batch import local_totals, step_totals
    from sftgo_cli.objectives.training_facts import TrainingFacts
    from sftgo_cli.training.objective_step import StepObjective

    module = {"cross_entropy": cross_entropy, "sft_go": sft_go}[name]
    shape = (num_tokens // SAMPLE, SAMPLE + 1)  # nothing predicts a row's first token
    batch: dict[str, Any] = {
        "labels": torch.zeros(shape, dtype=torch.long),
        "group_ids": (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.3).long(),
        "token_weights": torch.ones(shape),
        "sample_index": torch.arange(shape[0])[:, None].expand(shape),
        "row_weights": torch.ones(shape[0], dtype=torch.float64),
        "num_tokens": torch.tensor(num_tokens),
        "sample_ends": list(range(SAMPLE, num_tokens + 1, SAMPLE)),
    }
    facts = TrainingFacts(lambda: [0, 0], lambda column: [], VOCABULARY)
    step = StepObjective(module, module.Options(), 2, facts)
    step.compile_tiles = compile_tiles
    totals, _ = step_totals(local_totals([batch], 2, 0.0))
    hidden_NH, weight_VH, targets_N = given

    def one_pass() -> Any:
        step.begin(totals, 0.0, 1)
        micro_batch = step.micro_batch(batch)
        weighing = micro_batch.weighing
        return weighed_loss(hidden_NH, weight_VH, None, targets_N, LogitTransform(), weighing, torch.bfloat16)[0]

    return one_pass


def resident_mb() -> float:
    """Of this process, now."""
    with open("/proc/self/status") as file:  # noqa: PTH123 - 500 times a second
        return next(float(line.split()[1]) for line in file if line.startswith("VmRSS")) / MB


class Peak:
    """The largest resident set while the block runs, above that at its start."""

    def __enter__(self) -> Peak:
        self.base = self.highest = resident_mb()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.highest = max(self.highest, resident_mb())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def above_base(self) -> float:
        """In MB."""
        return self.highest - self.base


def timed(one_pass: Pass, given: Any) -> tuple[float, float]:
    """Seconds of a forward and backward pass, and its loss; the gradients are dropped."""
    started = time.perf_counter()
    loss = one_pass()
    loss.backward()
    seconds = time.perf_counter() - started
    for tensor in given[:2]:
        tensor.grad = None
    return seconds, float(loss.detach())


def child(variant: str, num_tokens: int, runs: int) -> dict[str, Any]:
    """What one process measures."""
    if variant == "objectives":
        return alternating(num_tokens, runs)
    kind, _, tiles = variant.partition(" ")
    one_pass, given = ours(num_tokens, bool(tiles)) if kind == "ours" else plain(num_tokens, kind == "compiled")
    warm_up = 0.0
    if variant != "eager":
        warm_up = timed(one_pass, given)[0]
    with Peak() as peak:
        passes = [timed(one_pass, given) for _ in range(runs)]
    seconds, losses = zip(*passes, strict=True)
    return {"seconds": list(seconds), "loss": losses[0], "peak_mb": peak.above_base, "first_pass": warm_up}


def alternating(num_tokens: int, runs: int) -> dict[str, Any]:
    """cross_entropy and sft_go by turns on the same tensors."""
    given = inputs(num_tokens)
    passes = {name: objective(name, num_tokens, given, True) for name in ("cross_entropy", "sft_go")}
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(runs + 1):
        for name in sorted(passes, reverse=bool(number % 2)):
            taken = timed(passes[name], given)[0]
            if number:
                seconds[name].append(taken)
    return seconds


def measure(sizes: list[int], rounds: int, runs: int) -> dict[str, Any]:
    """All processes, variants alternating."""

    def process(variant: str, size: int, passes: int) -> dict[str, Any]:
        command = [sys.executable, __file__, "--child", variant, "--sizes", str(size), "--runs", str(passes)]
        finished = undisturbed(lambda: run(command), lambda found: found.disturbance)
        found: dict[str, Any] = {**last_json(finished.output), "disturbance": finished.disturbance}
        print(size, variant, {k: v for k, v in found.items() if k != "loss"}, file=sys.stderr, flush=True)
        return found

    collected: dict[str, list[dict[str, Any]]] = {}
    for number in range(rounds):
        for size in sizes:
            order = VARIANTS if number % 2 == 0 else VARIANTS[::-1]
            for variant in order:
                if variant == "ours" and number:
                    continue  # in one round: it is shown, not compared
                collected.setdefault(f"{size} {variant}", []).append(process(variant, size, runs))
    collected[f"{sizes[0]} eager"] = [process("eager", sizes[0], 1)]
    calm = {
        name: [found for found in processes if found["disturbance"] <= DISTURBED] or processes
        for name, processes in collected.items()
    }
    figures: dict[str, Any] = {
        name: {
            "seconds": median([second for found in processes for second in found["seconds"]]),
            "peak_mb": median([found["peak_mb"] for found in processes]),
            "first_pass_seconds": median([found["first_pass"] for found in processes]),
            "loss": processes[0]["loss"],
            "disturbance": max(found["disturbance"] for found in processes),
            "all_seconds": [round(second, 3) for found in processes for second in found["seconds"]],
        }
        for name, processes in calm.items()
    }
    for size in sizes:
        figures[f"{size} objectives"] = process("objectives", size, max(3, runs))
    return figures


def ratios(figures: dict[str, Any], sizes: list[int]) -> list[dict[str, Any]]:
    """Beside their targets. One configuration is compared throughout: compiled tiles."""
    result = []
    for size, most_time in zip(sizes, (0.95, 1.05), strict=False):
        mine, compiled = figures[f"{size} ours tiles"], figures[f"{size} compiled"]
        time_ratio = mine["seconds"] / compiled["seconds"]
        result.append(ratio(f"loss head, {size:,} tokens: time against compiled", time_ratio, most_time, True))
        if size == sizes[0]:
            memory, other, most = mine["peak_mb"] / figures[f"{size} eager"]["peak_mb"], "eager", 0.08
        else:
            memory, other, most = mine["peak_mb"] / compiled["peak_mb"], "compiled", 0.5
        result.append(ratio(f"loss head, {size:,} tokens: peak memory against {other}", memory, most, True))
    for size in sizes:
        seconds = figures[f"{size} objectives"]
        share = median(seconds["sft_go"]) / median(seconds["cross_entropy"])
        result.append(ratio(f"SFT-GO against cross-entropy, same head, {size:,} tokens: time", share, 1.01, True))
    return result


def check_losses(figures: dict[str, Any], sizes: list[int]) -> None:
    """Every variant must compute the same loss; bfloat16 logits leave a few thousandths of a nat."""
    for size in sizes:
        losses = [found["loss"] for name, found in figures.items() if name.startswith(f"{size} ") and "loss" in found]
        if max(losses) - min(losses) > 5e-3:
            raise SystemExit(f"the variants compute different losses at {size} tokens: {losses}")


def main() -> None:
    """Measure, print, write results/loss_head.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8192, 4096])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child, arguments.sizes[0], arguments.runs)))
        return
    before = machine()
    figures = measure(arguments.sizes, arguments.rounds, arguments.runs)
    check_losses(figures, arguments.sizes)
    what = f"Loss head alone, hidden {HIDDEN}, vocabulary {VOCABULARY:,}, bfloat16, forward and backward"
    write_result("loss_head", what, figures, ratios(figures, arguments.sizes), before)


if __name__ == "__main__":
    main()
