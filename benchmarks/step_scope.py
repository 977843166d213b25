"""What it costs an objective to see the whole optimizer step before it weighs any token, against one that need not.

    python benchmarks/step_scope.py [--rounds 7] [--rows 16]

Model and rows of training.py (9.8 million parameters, vocabulary 32,000, float32), 30 % of the tokens important, forward,
backward and AdamW of whole steps in this process. A step's 8 rows are one micro-batch, or four of two rows. Where a step
is one micro-batch, its logits are made twice; where it is several, the model is run twice. Each round runs every variant
once on the same rows, in turn; a figure is the median over the rounds of the variant's time over that of SFT-GO per sample
with the same micro-batches in the same round. Rho-1's reference losses are random numbers: their making is not part of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, median, wait_for_quiet, write_result
from training import BATCH, HIDDEN, make_model, make_rows

BASE = "per sample"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    BASE: ("sft_go", {}),
    "step, max": ("sft_go", {"scope": "step"}),
    "step, softmax": ("sft_go", {"scope": "step", "aggregation": "softmax", "temperature": 0.5}),
    "step, cvar": ("sft_go", {"scope": "step", "aggregation": "cvar", "alpha": 0.5}),
    "Rho-1, step": ("rho1", {"selection": "step"}),
}
SPLITS = (1, 4)


def steps_of(rows: list[tuple[list[int], list[int]]], split: int, columns: tuple[str, ...]) -> list[list[Any]]:
    """Collated micro-batches of every step, without padding as in training."""
    from sftgo_cli.data.collation import Collator

    collator = Collator(2, packed=False, token_columns=columns)
    collator.padding_free_width = HIDDEN
    generator = np.random.default_rng(1)
    full = [
        {
            "input_ids": np.array(ids),
            "labels": np.array(labels),
            "group_ids": (generator.random(len(ids)) < 0.3).astype(np.int64),
            "reference_nll": generator.gamma(2.0, 2.0, len(ids)).astype(np.float32),
        }
        for ids, labels in rows
    ]
    size = BATCH // split
    micro = [collator([[row] for row in full[at : at + size]]) for at in range(0, len(full), size)]
    return [micro[at : at + split] for at in range(0, len(micro), split)]


class Variant:
    """One objective with a model and an optimizer of its own."""

    def __init__(self, name: str, options: dict[str, Any], model_folder: Path, rows: Any, split: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from sftgo_cli import methods
        from sftgo_cli.losses import head
        from sftgo_cli.objectives.training_facts import TrainingFacts
        from sftgo_cli.training.objective_step import StepObjective

        module = methods.module("objective", name)
        facts = TrainingFacts(lambda: np.array([1, 1]), lambda column: np.empty(0), 0)
        self.objective = StepObjective(module, module.Options(**options), 2, facts)
        self.model = AutoModelForCausalLM.from_pretrained(model_folder, dtype="float32")
        head.attach(self.model)
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.steps = steps_of(rows, split, self.objective.token_columns)
        self.passes = 0

    def run(self) -> float:
        """Seconds of all steps."""
        started = time.perf_counter()
        for batches in self.steps:
            self._step(batches)
        return time.perf_counter() - started

    def _step(self, batches: list[Any]) -> None:
        """As the trainer does it: the pass before where it is needed, then loss and gradients of every micro-batch."""
        import torch

        from sftgo_cli.objectives.micro_batch import local_totals, step_totals

        objective = self.objective
        objective.begin(step_totals(local_totals(batches, 2, 0.0))[0], 0.0, len(batches))
        if objective.needs_pre_pass:
            with torch.no_grad():
                for batch in batches:
                    objective.observe(objective.tokens(self._outputs(batch), batch))
            objective.share_statistics()
        for batch in batches:
            micro_batch = objective.micro_batch(batch)
            outputs = self._outputs(batch, weighing=micro_batch.weighing)
            objective.finish_micro_batch(micro_batch.tokens(outputs["nll"]), lambda vector: vector)
            outputs["loss"].backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _outputs(self, batch: Any, **asked: Any) -> Any:
        from sftgo_cli.objectives.micro_batch import MODEL_INPUTS

        self.passes += 1
        fed = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        return self.model(**fed, supervised_labels=batch["labels"], **asked)


def measure(rounds: int, num_rows: int) -> dict[str, Any]:
    """Seconds of every variant and round; a first round warms up."""
    seconds: dict[str, list[float]] = {}
    passes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        rows = make_rows(folder, num_rows)
        for split in SPLITS:
            variants = {label: Variant(*chosen, folder / "model", rows, split) for label, chosen in VARIANTS.items()}
            for number in range(rounds + 1):
                names = list(variants) if number % 2 else list(variants)[::-1]
                for label in names:
                    variants[label].passes = 0
                    taken = variants[label].run()
                    key = f"{label}, {split} micro-batch{'es' if split > 1 else ''}"
                    passes[key] = variants[label].passes / len(variants[label].steps)
                    if number:
                        seconds.setdefault(key, []).append(taken)
                print(split, number, file=sys.stderr, flush=True)
    return {
        key: {
            "over_per_sample": median(
                [a / b for a, b in zip(values, seconds[BASE + key[key.rindex(",") :]], strict=True)]
            ),
            "seconds_per_round": [round(value, 4) for value in values],
            "forward_passes_per_step": passes[key],
        }
        for key, values in seconds.items()
    }


def main() -> None:
    """Measure, print, write results/step_scope.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=2 * BATCH, help=f"a multiple of {BATCH}")
    arguments = parser.parse_args()
    wait_for_quiet()
    before = machine()
    figures = measure(arguments.rounds, arguments.rows)
    print(json.dumps({key: round(found["over_per_sample"], 3) for key, found in figures.items()}, indent=2))
    write_result("step_scope", "Objectives that need the whole step first", figures, [], before)


if __name__ == "__main__":
    main()
