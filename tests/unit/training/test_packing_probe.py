"""The packing probe against transformers' own losses: who isolates samples, and what is done about those who do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    BloomConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
)

from sftgo_cli import pipeline
from sftgo_cli.errors import UserError
from sftgo_cli.losses import head
from sftgo_cli.recipe.schema import Recipe
from sftgo_cli.training.model import probe_model
from sftgo_cli.training.packing_probe import leak

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
}
MAMBA: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "attn_layer_indices": [1]}
ISOLATE = {
    "llama": LlamaConfig(**SIZES),
    "mistral, its window shorter than a sequence": MistralConfig(**SIZES, sliding_window=6),
    "gpt2": GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2),
}
LEAK = {
    "a recurrent state beside attention": BambaConfig(**SIZES, **MAMBA),
    "a recurrent state alone": MambaConfig(vocab_size=61, hidden_size=16, num_hidden_layers=2, state_size=4),
    "no positions": BloomConfig(vocab_size=61, hidden_size=16, n_layer=2, n_head=2),
    "a mask without positions": GptOssConfig(
        **SIZES, head_dim=8, num_local_experts=2, num_experts_per_tok=1, layer_types=["full_attention"] * 2
    ),
}


def model_of(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    head.attach(model)
    return model


def recipe_of(folder: Path, *overrides: str) -> Recipe:
    """As a user's file and command line give it."""
    path = folder / "recipe.yaml"
    path.write_text("model: builtin:tiny\ndata: {train: 'builtin:instructions'}\ntraining: {output_dir: x}\n")
    return pipeline.load(path, overrides).recipe


@pytest.mark.parametrize("name", ISOLATE)
def test_samples_that_do_not_see_each_other_may_be_packed(name: str) -> None:
    found = leak(model_of(ISOLATE[name]), 0)
    assert found.isolated
    assert found.difference < 1e-4


@pytest.mark.parametrize("name", LEAK)
def test_samples_that_see_each_other_are_packed_for_nobody(name: str, tmp_path: Path) -> None:
    model, said = model_of(LEAK[name]), list[str]()
    assert not leak(model, 0).isolated
    assert not probe_model(model, recipe_of(tmp_path), 0, None, said.append).isolates
    assert len(said) == 1
    assert said[0].startswith("data.packing: false, because ")
    with pytest.raises(UserError, match=r"rows cannot be packed - data\.packing - set data\.packing: false"):
        probe_model(model, recipe_of(tmp_path, "data.packing=true"), 0, None, said.append)
    assert not probe_model(model, recipe_of(tmp_path, "data.packing=false"), 0, None, said.append).isolates
    assert len(said) == 1
