"""Rows without padding train what padded rows train, for full tuning and adapters; nothing falls back silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.data.collation import Collator
from sftgo_cli.losses import head
from sftgo_cli.training import model
from sftgo_cli.training.packing_probe import Leak
from sftgo_cli.training.trainer import SftgoTrainer
from tests.equivalence.runs import largest_relative_difference, losses, run, weights

SHORT = ["training.max_steps=6", "training.optim=sgd", "training.learning_rate=0.1"]


@pytest.mark.parametrize("tuning", [["tuning=full"], ["tuning=lora", "tuning.lora_dropout=0"]], ids=["full", "lora"])
def test_without_padding_and_with(tuning: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    collate = Collator.__call__

    def watched(self: Collator, bins: Any) -> Any:
        batch = collate(self, bins)
        if bins:
            shapes.append(tuple(batch["input_ids"].shape))
        return batch

    monkeypatch.setattr(Collator, "__call__", watched)
    free = run(tmp_path, "free", *SHORT, *tuning)
    assert 1 in {shape[0] for shape in shapes[-6:]}
    monkeypatch.setattr(model, "leak", lambda *given: Leak(1.0, False, "asked for"))
    padded = run(tmp_path, "padded", *SHORT, *tuning)
    assert {shape[0] for shape in shapes[-6:]} == {8, 5}
    assert float(((losses(free) - losses(padded)).abs() / losses(padded)).max()) <= 1e-6
    assert largest_relative_difference(weights(free), weights(padded)) <= 1e-5


def test_training_never_makes_whole_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path for unknown heads is taken by no step and no evaluation; the probe before compares with whole logits."""

    def whole_logits(*given: Any) -> None:
        raise AssertionError("fell back to whole logits")

    train = SftgoTrainer.train

    def watched(self: SftgoTrainer, *given: Any, **options: Any) -> Any:
        monkeypatch.setattr(head, "token_terms", whole_logits)
        return train(self, *given, **options)

    monkeypatch.setattr(SftgoTrainer, "train", watched)
    trained = run(tmp_path, "run", *SHORT, "training.eval_strategy=steps", "training.eval_steps=3")
    assert len(losses(trained)) == 6
