"""The loss head alone on a GPU: plain cross-entropy on all logits, the same compiled, and the fused head. Needs torch.

    python benchmarks/gpu/head.py [--tokens 4096] [--hidden 2048] [--vocabulary 128256] [--frozen] [--tiny]

Forward and backward in bfloat16, every token supervised; `--frozen` takes the gradient of the hidden states only, as LoRA
does. Per variant: median milliseconds of `--runs` passes after a warm-up, peak memory above the inputs, and the
operations per second of the three (frozen: two) matrix products. `--tiny` runs small shapes on the CPU, to see it start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2]))  # runs from a checkout that is not installed

from sftgo_cli.losses.fused_head import Weighing, weighed_loss
from sftgo_cli.losses.logits import LogitTransform

SAMPLE = 512


def variants(hidden_NH: Any, weight_VH: Any, targets_N: Any) -> dict[str, Callable[[], Any]]:
    """Name -> a forward pass."""
    num_tokens = len(targets_N)
    ends = [*range(SAMPLE, num_tokens, SAMPLE), num_tokens]

    def plain(hidden_NH: Any, weight_VH: Any) -> Any:
        return functional.cross_entropy((hidden_NH @ weight_VH.t()).float(), targets_N)

    def ours(compile_tiles: bool) -> Any:
        weighing = Weighing(ends, lambda a, b, x: x["nll"].double().sum() / num_tokens, compile_tiles=compile_tiles)
        return weighed_loss(hidden_NH, weight_VH, None, targets_N, LogitTransform(), weighing, torch.bfloat16)[0]

    compiled = torch.compile(plain)
    return {
        "plain": lambda: plain(hidden_NH, weight_VH),
        "plain compiled": lambda: compiled(hidden_NH, weight_VH),
        "fused": lambda: ours(False),
        "fused, tiles compiled": lambda: ours(True),
    }


def measure(forward: Callable[[], Any], leaves: list[Any], runs: int, device: str) -> tuple[float, float | None, float]:
    """Median seconds, peak bytes above the inputs (GPU only), and the loss."""
    seconds, loss = [], 0.0
    on_gpu = device == "cuda"
    base = torch.cuda.memory_allocated() if on_gpu else 0
    for number in range(runs + 2):
        if on_gpu:
            torch.cuda.synchronize()
        if number == 2 and on_gpu:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        result = forward()
        result.backward()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        loss = float(result)
        for leaf in leaves:
            leaf.grad = None
        del result
    peak = torch.cuda.max_memory_allocated() - base if on_gpu else None
    return statistics.median(seconds[2:]), peak, loss


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if given.tiny:
        given.tokens, given.hidden, given.vocabulary, given.runs = 256, 64, 2048, 2
    device = "cpu" if given.tiny else "cuda"
    torch.manual_seed(0)
    hidden_NH = torch.randn(given.tokens, given.hidden, device=device, dtype=torch.bfloat16, requires_grad=True)
    weight_VH = (torch.randn(given.vocabulary, given.hidden, device=device) * 0.02).bfloat16()
    weight_VH.requires_grad_(not given.frozen)
    targets_N = torch.randint(given.vocabulary, (given.tokens,), device=device)
    operations = (4 if given.frozen else 6) * given.tokens * given.hidden * given.vocabulary
    found = {}
    for name, forward in variants(hidden_NH, weight_VH, targets_N).items():
        seconds, peak, loss = measure(forward, [hidden_NH, weight_VH], given.runs, device)
        found[name] = {
            "milliseconds": seconds * 1e3,
            "peak_mb": None if peak is None else peak / 2**20,
            "teraflops": operations / seconds / 1e12,
            "loss": loss,
        }
    where = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    print(
        json.dumps({"device": where, "torch": torch.__version__, "arguments": vars(given), "variants": found}, indent=2)
    )


if __name__ == "__main__":
    main()
