"""The model card: what was trained and measured, no local paths."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sftgo_cli.training.model_card import model_card


def resolved(base: str, tuning: str = "full") -> dict[str, Any]:
    return {
        "model": {"name_or_path": base},
        "data": {"train": [{"path": "/home/me/secret/rows.jsonl"}, {"path": "org/data"}]},
        "objective": {"name": "sft_go", "mixing_weight": 0.9},
        "scoring": {"name": "tfidf"},
        "tuning": {"name": tuning},
        "training": {
            "output_dir": "/home/me/runs/nice",
            "learning_rate": 0.1,
            "lr_scheduler_type": "cosine",
            "seed": 1,
        },
    }


EVALUATION = {
    "event": "eval",
    "step": 7,
    "eval_a_loss": 1.25,
    "eval_a_perplexity": 3.49034,
    "eval_a_worst_group_loss": 2.5,
    "eval_a_token_accuracy": 0.5,
    "eval_b_loss": None,
}


@pytest.mark.parametrize(
    ("base", "shown", "metadata"),
    [
        ("org/model", "org/model", "org/model"),
        ("/home/me/models/mine", "mine", None),
        ("builtin:tiny", "builtin:tiny", None),
    ],
)
def test_metadata_and_no_local_paths(base: str, shown: str, metadata: str | None) -> None:
    card = model_card(resolved(base), [], {"torch": "2.0", "peft": None})
    head = yaml.safe_load(card.split("---")[1])
    assert head.get("base_model") == metadata
    assert head["library_name"] == "transformers"
    assert f"Fine-tuned from {shown} on rows.jsonl, org/data" in card
    assert "# nice\n" in card
    assert "/home" not in card
    assert "torch 2.0" in card
    assert "None" not in card


def test_the_last_evaluation_is_shown() -> None:
    card = model_card(resolved("org/model", "lora"), [{**EVALUATION, "step": 1}, EVALUATION], {})
    assert "Measured after step 7:" in card
    assert "| a | 1.2500 | 3.490 | 2.5000 | 0.500 |" in card
    assert "| b |" not in card
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"
