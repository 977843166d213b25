"""mixing_weight 0 is standard fine-tuning: the trajectory of an independent loop on the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

from sftgo_cli import pipeline
from sftgo_cli.builtin import model_folder
from sftgo_cli.data.sampling import SamplingPlan, SourceRows, global_batches
from tests.equivalence.runs import RECIPE, losses, run


def independent_losses(folder: Path, num_steps: int) -> torch.Tensor:
    """A plain PyTorch loop: token-mean cross-entropy of the logits over each step's rows, one row at a time."""
    (folder / "recipe.yaml").write_text(RECIPE)
    data = pipeline.prepare(pipeline.load(folder / "recipe.yaml", []), lambda line: None)
    rows = list(data.train.datasets[0])
    lengths = torch.tensor([len(row["input_ids"]) for row in rows]).numpy()
    plan = SamplingPlan((SourceRows(0, len(rows)),), lengths, data_seed=42)
    model = AutoModelForCausalLM.from_pretrained(model_folder("tiny"), dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, num_steps)
    steps = [step for epoch in range(4) for step in global_batches(plan, epoch, len(rows), 8)]
    history = []
    for step in steps[:num_steps]:
        chosen = [rows[members[0]] for members in step]
        total = sum(label != -100 for row in chosen for label in row["labels"])
        loss_sum = 0.0
        for row in chosen:
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
            labels = torch.tensor(row["labels"])
            loss = functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum") / total
            loss.backward()
            loss_sum += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        history.append(loss_sum)
    return torch.tensor(history, dtype=torch.float64)


@pytest.mark.parametrize("objective", [["objective.mixing_weight=0"], ["objective=cross_entropy"]])
def test_equals_an_independent_loop(tmp_path: Path, objective: list[str]) -> None:
    expected = independent_losses(tmp_path, 20)
    got = losses(run(tmp_path, "plain", *objective))
    assert float(((got - expected).abs() / expected).max()) <= 5e-6  # float32 sums of 20 steps in another order
