"""One side of benchmarks/training.py: TRL's SFTTrainer or transformers.Trainer on the rows in a folder.

    python benchmarks/training_sides.py SIDE FOLDER OUTPUT [--steps N] [--max-length N]

SIDE: trl, trl-defaults, trl-packed, trainer. FOLDER holds `rows.jsonl` (input_ids, labels) and the model; OUTPUT is a file
that gets one JSON line per finished step: seconds on the wall clock since the step before, non-padding tokens, loss; the
first with its reference: the mean loss of the step's supervised tokens, each row run alone through the untrained model.
`--only-imports` ends where the training would begin: the base of the memory figures.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

IGNORED = -100


def reference_loss(model: Any, rows: list[tuple[list[int], list[int]]]) -> float:
    """Mean over all supervised tokens of -log p, row by row, without padding: what every side's first loss must be."""
    import torch
    from torch.nn import functional

    total, count = 0.0, 0
    with torch.no_grad():
        for ids, labels in rows:
            logits_TV = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
            targets_T = torch.tensor(labels[1:])
            total += float(functional.cross_entropy(logits_TV, targets_T, ignore_index=IGNORED, reduction="sum"))
            count += int((targets_T != IGNORED).sum())
    return total / count


def batch_rows(batch: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """The rows of a collated batch: padded ones by their attention mask, flattened ones by their restarting positions."""
    rows = []
    for number, (ids, labels) in enumerate(zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)):
        if "attention_mask" in batch:
            length = int(batch["attention_mask"][number].sum())
            rows.append((ids[:length], labels[:length]))
        else:
            positions = batch["position_ids"][number].tolist()
            starts = [place for place, position in enumerate(positions) if position == 0] + [len(positions)]
            rows += [(ids[a:b], labels[a:b]) for a, b in pairwise(starts)]
    return rows


def common(arguments: argparse.Namespace, output_dir: Path) -> dict[str, Any]:
    """Training arguments of all sides: those of the recipe in training.py."""
    return {
        "output_dir": str(output_dir),
        "max_steps": arguments.steps,
        "per_device_train_batch_size": arguments.batch_size,
        "learning_rate": arguments.learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": 42,
        "train_sampling_strategy": "sequential",
        "logging_steps": 2,
        "logging_first_step": True,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }


def trl_trainer(arguments: argparse.Namespace, output_dir: Path) -> Any:
    """SFTTrainer on tokenized rows with a completion mask, which it turns into labels."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    if arguments.only_imports:
        return None
    rows = load_dataset("json", data_files=str(arguments.folder / "rows_trl.jsonl"), split="train")
    values = {**common(arguments, output_dir), "max_length": arguments.max_length, "completion_only_loss": True}
    if arguments.side != "trl-defaults":
        values |= {"bf16": False, "gradient_checkpointing": False}
    if arguments.side == "trl-packed":
        values["packing"] = True
    model = AutoModelForCausalLM.from_pretrained(arguments.folder / "model", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder / "model")
    return SFTTrainer(model=model, args=SFTConfig(**values), train_dataset=rows, processing_class=tokenizer)


def plain_trainer(arguments: argparse.Namespace, output_dir: Path) -> Any:
    """transformers.Trainer: padded batches, the model's own loss on full logits."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    if arguments.only_imports:
        return None
    rows = load_dataset("json", data_files=str(arguments.folder / "rows.jsonl"), split="train")
    model = AutoModelForCausalLM.from_pretrained(arguments.folder / "model", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder / "model")
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    trainer_arguments = TrainingArguments(**common(arguments, output_dir))
    return Trainer(model=model, args=trainer_arguments, train_dataset=rows, data_collator=collator)


def imports_of_sftgo() -> None:
    """What a training by sftgo imports."""
    from sftgo_cli.training.imports import import_libraries

    import_libraries()
    import torch._dynamo  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer  # noqa: F401

    import sftgo_cli.cli.train
    import sftgo_cli.training.callbacks
    import sftgo_cli.training.run
    import sftgo_cli.training.trainer  # noqa: F401


def record(trainer: Any, output: Path, first_batch: bool) -> None:
    """Make the trainer write a line per finished step; the first step's loss is taken unrounded."""
    from transformers import TrainerCallback

    state: dict[str, Any] = {"reference": None, "loss": 0.0, "tokens": 0, "last": None}
    state["reference_seconds"] = 0.0
    inner = trainer.training_step

    def training_step(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if first_batch and trainer.state.global_step == 0:
            started = time.perf_counter()
            state["reference"] = reference_loss(model, batch_rows(inputs))
            state["reference_seconds"] = time.perf_counter() - started
        mask = inputs.get("attention_mask")
        state["tokens"] += int(inputs["input_ids"].numel() if mask is None else mask.sum())
        loss = inner(model, inputs, *args, **kwargs)
        state["loss"] = float(loss)
        return loss

    class Record(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, trainer_state: Any, control: Any, **kwargs: Any) -> None:
            now = time.perf_counter()
            line = {"step": trainer_state.global_step, "loss": state["loss"], "tokens": state["tokens"]}
            line |= {"reference": state["reference"], "reference_seconds": state["reference_seconds"]}
            line |= {"seconds": None if state["last"] is None else now - state["last"]}
            with output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            state.update(tokens=0, last=now, reference=None, reference_seconds=0.0)

    trainer.training_step = training_step
    trainer.add_callback(Record())


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["trl", "trl-defaults", "trl-packed", "trainer", "sftgo"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--only-imports", action="store_true")
    parser.add_argument("--reference", action="store_true", help="also compute the first step's reference loss")
    arguments = parser.parse_args()
    if arguments.side == "sftgo":
        imports_of_sftgo()
        return
    build = plain_trainer if arguments.side == "trainer" else trl_trainer
    trainer = build(arguments, arguments.output.parent / "trainer")
    if trainer is not None:
        record(trainer, arguments.output, arguments.reference)
        trainer.train()


if __name__ == "__main__":
    main()
