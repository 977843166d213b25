"""A live reference that cannot be compared with the model is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from sftgo_cli import builtin
from sftgo_cli.cli.main import main

RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data: {train: {path: "builtin:instructions", max_samples: 8}, max_length: 128, packing: false}
objective: {name: asft, reference: other}
tuning: full
training: {output_dir: run, max_steps: 1, use_cpu: true, save_strategy: "no"}
"""


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"vocab_size": 2368}, "the reference predicts 2368 tokens, the model 2304"),
        ({"max_position_embeddings": 32}, "the reference's context is 32 tokens, data.max_length is 128"),
    ],
)
def test_another_width_or_a_shorter_context(
    sizes: dict[str, int],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(
        LlamaConfig(**{"vocab_size": 2304, "max_position_embeddings": 256, **small, **sizes})
    ).save_pretrained(tmp_path / "other")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "other" / file).write_bytes((builtin.model_folder("tiny") / file).read_bytes())
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert main(["train", "recipe.yaml"]) == 2
    assert words in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
