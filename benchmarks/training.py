"""Training throughput, memory and start-up of `sftgo train` beside TRL's SFTTrainer and transformers.Trainer, one machine.

    python benchmarks/training.py [--rounds 3] [--steps 6] [--packed-steps 4]

The model: a Llama of 9.8 million parameters (hidden 256, 2 layers, 4 heads, vocabulary 32,000, tied embeddings), random
weights (seed 0, standard deviation 0.05). The rows: already tokenized prompt+response pairs (seed 0), lengths log-normal
(mean 200, sigma 0.7, clipped to 16..1,024), the response being a share of 20 to 40 % of the row. All sides: float32, batch
of 8, rows in the order of the file, AdamW at a constant learning rate of 1e-3, gradients clipped to 1, no evaluation, no
checkpoint. `trl-defaults` alone differs: bfloat16 autocast and gradient checkpointing, as TRL sets them by itself.

Figures: non-padding tokens per second from the end of step 2 to the last; peak resident memory above a process that only
imports the same modules; seconds from the start of the process to the first finished step, everything cached. Sides
alternate over the rounds (those that take over a minute run in fewer of them: `MOST_ROUNDS`); medians, over runs during
which others used at most 0.1 cores where there are such. Each side's
loss of the first step is compared with an independent reference (every row alone through the model), and the loss of the
last steps with that of the others: all must have trained the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from measuring import DISTURBED, Finished, machine, median, ratio, run, undisturbed, write_result
from training_sides import IGNORED, reference_loss

VOCABULARY, HIDDEN, LAYERS, MAX_LENGTH, BATCH, SKIPPED = 32_000, 256, 2, 1024, 8, 2
MEAN_LENGTH, SIGMA = 200, 0.7
SFTGO = str(Path(sys.executable).with_name("sftgo"))
HERE = Path(__file__).parent
RECIPE = f"""model: {{name_or_path: model, dtype: float32}}
data: {{train: rows.jsonl, max_length: {MAX_LENGTH}, packing: false}}
scoring: {{name: random}}
objective: cross_entropy
tuning: {{name: full}}
training:
  output_dir: overridden
  per_device_train_batch_size: {BATCH}
  learning_rate: 1.0e-3
  lr_scheduler_type: constant
  train_sampling_strategy: sequential
  logging_steps: {SKIPPED}
  save_strategy: "no"
  use_cpu: true
"""
SIDES: dict[str, list[str]] = {  # sftgo: overrides of the recipe; others: nothing
    "sftgo": [],
    "sftgo sft_go": ["objective=sft_go"],
    "trl": [],
    "trl-defaults": [],
    "trainer": [],
    "sftgo packed": ["data.packing=true"],
    "trl-packed": [],
}
MOST_ROUNDS = {"trl": 2, "trl-defaults": 1, "sftgo packed": 2, "trl-packed": 1}
SLOW = ("trl-defaults", "trl-packed")  # their first loss is checked in the timed run, not in a run of its own


@dataclass
class Side:
    """What one side's runs gave."""

    rates: list[float] = field(default_factory=list)  # non-padding tokens per second
    peaks: list[float] = field(default_factory=list)  # MB, above the imports
    first_steps: list[float] = field(default_factory=list)  # seconds
    first_loss: float = 0.0
    reference: float = 0.0
    last_loss: float = 0.0
    disturbances: list[float] = field(default_factory=list)  # cores that others used during each run

    def median(self, values: list[float]) -> float:
        """Over the undisturbed runs, where there are any."""
        calm = [value for value, others in zip(values, self.disturbances, strict=True) if others <= DISTURBED]
        return median(calm or values)


def make_model(folder: Path) -> None:
    """Random weights and a tokenizer of as many words, which nothing here needs but every side loads."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=688,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {word: number for number, word in enumerate(["<s>", "</s>", "<pad>", *map(str, range(3, VOCABULARY))])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="3")),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    tokenizer.save_pretrained(folder)


def make_rows(folder: Path, num_rows: int) -> list[tuple[list[int], list[int]]]:
    """The rows, written for sftgo and the Trainer (labels) and for TRL (completion mask): the same tokens."""
    generator = np.random.default_rng(0)
    lengths = generator.lognormal(np.log(MEAN_LENGTH) - SIGMA**2 / 2, SIGMA, num_rows)
    rows = []
    with (folder / "rows.jsonl").open("w") as plain, (folder / "rows_trl.jsonl").open("w") as masked:
        for length in np.clip(lengths, 16, MAX_LENGTH).astype(int):
            ids = (3 + generator.zipf(1.3, length) % (VOCABULARY - 3)).tolist()
            response = round(length * generator.uniform(0.2, 0.4))
            labels = [IGNORED] * (length - response) + ids[length - response :]
            plain.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
            mask = [int(label != IGNORED) for label in labels]
            masked.write(json.dumps({"input_ids": ids, "completion_mask": mask}) + "\n")
            rows.append((ids, labels))
    return rows


def token_counts(rows: list[tuple[list[int], list[int]]]) -> dict[str, float]:
    """Of the padded runs: how much of what a padded batch holds is a token, and how much of that is trained on."""
    lengths = np.array([len(ids) for ids, _ in rows]).reshape(-1, BATCH)
    supervised = sum(sum(label != IGNORED for label in labels) for _, labels in rows)
    padded, whole = int((lengths.max(axis=1) * BATCH).sum()), int(lengths.sum())
    return {
        "positions_in_padded_batches": padded,
        "tokens": whole,
        "supervised_tokens": supervised,
        "mean_length": whole / lengths.size,
        "positions_per_token": padded / whole,
        "positions_per_supervised_token": padded / supervised,
    }


class Bench:
    """The folder with rows, model and caches, and how a side is run in it."""

    def __init__(self, folder: Path, rows: list[tuple[list[int], list[int]]]) -> None:
        self.folder = folder
        self.rows = rows
        self.number = 0
        self.environment = {
            "SFTGO_CACHE": str(folder / "cache"),
            "HF_DATASETS_CACHE": str(folder / "datasets"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONWARNINGS": "ignore",
        }
        self.bases: dict[str, float] = {}

    def run(self, name: str, steps: int, reference: bool = False) -> tuple[Finished, list[dict[str, Any]]]:
        """One run of a side: the process, and its lines per window (sftgo) or per step (the others)."""
        if reference and steps == 1:
            return self._start(name, steps, reference)
        return undisturbed(lambda: self._start(name, steps, reference), lambda found: found[0].disturbance)

    def _start(self, name: str, steps: int, reference: bool) -> tuple[Finished, list[dict[str, Any]]]:
        self.number += 1
        output = self.folder / f"run-{self.number}"
        if name.startswith("sftgo"):
            log = output / "metrics.jsonl"
            options = [f"training.output_dir={output}", f"training.max_steps={steps}", *SIDES[name]]
            command = [SFTGO, "train", str(self.folder / "recipe.yaml"), *options]
        else:
            output.mkdir()
            log = output / "steps.jsonl"
            command = [sys.executable, str(HERE / "training_sides.py"), name, str(self.folder), str(log)]
            command += ["--steps", str(steps), *(["--reference"] if reference else [])]
        finished = run(command, lambda: log.exists() and log.stat().st_size > 0, self.environment)
        return finished, [json.loads(line) for line in log.read_text().splitlines()]

    def base(self, name: str) -> float:
        """Peak memory of a process that only imports what the side imports, in MB."""
        side = "sftgo" if name.startswith("sftgo") else name
        if side not in self.bases:
            command = [sys.executable, str(HERE / "training_sides.py"), side, str(self.folder), "none"]
            self.bases[side] = run([*command, "--only-imports"], environment=self.environment).peak_mb
        return self.bases[side]

    def reference(self, name: str, lines: list[dict[str, Any]]) -> float:
        """The first step's loss computed independently: by the side's script on its own batch, for sftgo from its rows."""
        if not name.startswith("sftgo"):
            return float(lines[0]["reference"])
        from transformers import AutoModelForCausalLM

        from sftgo_cli.data.packing import best_fit_decreasing

        bins = [[number] for number in range(BATCH)]
        if "packed" in name:
            lengths = [len(ids) for ids, _ in self.rows]
            bins = best_fit_decreasing(range(len(self.rows)), lengths, MAX_LENGTH)[:BATCH]
        model = AutoModelForCausalLM.from_pretrained(self.folder / "model", dtype="float32")
        return reference_loss(model, [self.rows[number] for members in bins for number in members])


def rate(name: str, lines: list[dict[str, Any]]) -> float:
    """Non-padding tokens per second from the end of step SKIPPED to the last step."""
    if name.startswith("sftgo"):
        windows = [
            (b["tokens_seen"] - a["tokens_seen"], b["tokens_per_second"])
            for a, b in pairwise(lines)
            if a["step"] >= SKIPPED
        ]
        return sum(tokens for tokens, _ in windows) / sum(tokens / speed for tokens, speed in windows)
    steady = [line for line in lines if line["step"] > SKIPPED]
    return float(sum(line["tokens"] for line in steady) / sum(line["seconds"] for line in steady))


def measure(bench: Bench, steps: int, packed_steps: int, rounds: int) -> dict[str, Side]:
    """First a short run of every side, which fills the caches and checks the loss; then the rounds."""
    sides = {name: Side() for name in SIDES}
    for name, side in sides.items():
        if name not in SLOW:
            check_first_loss(bench, name, side, bench.run(name, 1, reference=True)[1])
    for number in range(rounds):
        names = [name for name in sides if number < MOST_ROUNDS.get(name, rounds)]
        for name in names if number % 2 == 0 else names[::-1]:
            side = sides[name]
            started = time.perf_counter()
            unchecked = name in SLOW and not side.rates
            finished, lines = bench.run(name, packed_steps if "packed" in name else steps, unchecked)
            if unchecked:
                check_first_loss(bench, name, side, lines)
            side.rates.append(rate(name, lines))
            side.peaks.append(finished.peak_mb - bench.base(name))
            first_step = finished.seconds_until or finished.seconds
            side.first_steps.append(first_step - float(lines[0].get("reference_seconds", 0.0)))
            side.last_loss = window_loss(name, lines)
            side.disturbances.append(finished.disturbance)
            shown = f"{side.rates[-1]:,.0f} tokens/s, {side.peaks[-1]:.0f} MB, first step {side.first_steps[-1]:.1f} s"
            shown += f", last window's loss {side.last_loss:.4f}, disturbed {finished.disturbance:.2f}"
            print(f"{name}: {shown}, took {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return sides


def check_first_loss(bench: Bench, name: str, side: Side, lines: list[dict[str, Any]]) -> None:
    """The side's first loss against the independent one.

    Raises:
        SystemExit: they differ.
    """
    side.first_loss = lines[0]["ce_loss"] if name.startswith("sftgo") else lines[0]["loss"]
    side.reference = bench.reference(name, lines)
    off = abs(side.first_loss - side.reference)
    print(f"{name}: first loss {side.first_loss:.6f}, reference {side.reference:.6f}", file=sys.stderr, flush=True)
    if off > (5e-2 if name == "trl-defaults" else 1e-4):
        raise SystemExit(f"{name} trains something else: its first loss is off by {off:.2g}")


def window_loss(name: str, lines: list[dict[str, Any]]) -> float:
    """Mean loss of the steps of sftgo's last log window, for every side."""
    if name.startswith("sftgo"):
        return float(lines[-1]["ce_loss"])
    last = lines[-1]["step"]
    return float(np.mean([line["loss"] for line in lines if line["step"] > (last - 1) // SKIPPED * SKIPPED]))


def ratios(sides: dict[str, Side]) -> list[dict[str, Any]]:
    """Beside their targets."""
    speed = {name: side.median(side.rates) for name, side in sides.items()}
    memory = {name: side.median(side.peaks) for name, side in sides.items()}
    first = {name: side.median(side.first_steps) for name, side in sides.items()}
    return [
        ratio("training: tokens/s against TRL", speed["sftgo"] / speed["trl"], 8.0, False),
        ratio("training: tokens/s against transformers.Trainer", speed["sftgo"] / speed["trainer"], 3.0, False),
        ratio("training, packed: tokens/s against TRL packed", speed["sftgo packed"] / speed["trl-packed"], 3.5, False),
        ratio("training: peak memory against TRL", memory["sftgo"] / memory["trl"], 0.2, True),
        ratio("training: SFT-GO against cross-entropy, time", speed["sftgo"] / speed["sftgo sft_go"], 1.01, True),
        ratio("start to first step, cached, s", first["sftgo"], 4.5, True),
        ratio("start to first step, against TRL", first["sftgo"] / first["trl"], 1.0, True),
    ]


def check_same_training(sides: dict[str, Side]) -> None:
    """After the same steps on the same rows in the same precision the losses must be the same."""
    same = ("sftgo", "trl", "trainer")
    losses = {name: sides[name].last_loss for name in same}
    if max(losses.values()) - min(losses.values()) > 1e-3:
        raise SystemExit(f"the sides trained differently: last losses {losses}")


def main() -> None:
    """Measure, print, write results/training.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--packed-steps", type=int, default=4)
    arguments = parser.parse_args()
    before = machine()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        rows = make_rows(folder, max(arguments.steps * BATCH, arguments.packed_steps * 5 * BATCH))
        (folder / "recipe.yaml").write_text(RECIPE)
        bench = Bench(folder, rows)
        sides = measure(bench, arguments.steps, arguments.packed_steps, arguments.rounds)
    check_same_training(sides)
    figures: dict[str, Any] = {
        name: {
            "tokens_per_second": side.median(side.rates),
            "peak_mb_above_imports": side.median(side.peaks),
            "first_step_seconds": side.median(side.first_steps),
            "first_loss": side.first_loss,
            "first_loss_reference": side.reference,
            "last_loss": side.last_loss,
            "all_tokens_per_second": [round(value, 1) for value in side.rates],
            "cores_used_by_others": [round(value, 3) for value in side.disturbances],
        }
        for name, side in sides.items()
    }
    figures |= {"tokens": token_counts(rows[: arguments.steps * BATCH]), "imports_mb": bench.bases}
    write_result("training", "Training a Llama of 9.8 million parameters", figures, ratios(sides), before)


if __name__ == "__main__":
    main()
