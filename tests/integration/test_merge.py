"""Merging an adapter gives the model that was trained, whatever it stands on; and every reader reads the adapter."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sftgo_cli.adapter_merge import merged
from sftgo_cli.cli.main import main
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.tuning.adapter_file import name_magnitudes
from sftgo_cli.tuning.merge import merge_adapter

pytestmark = [
    pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
]
IDS = torch.arange(1, 12)[None]


class Tokenizer:
    """Saves nothing."""

    def save_pretrained(self, folder: Path) -> None:
        """See the class."""


def base_model(folder: Path, tied: bool) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def adapter(base: Path, folder: Path, targets: list[str], kind: str, whole: list[str]) -> PeftModel:
    """An adapter with numbers everywhere, saved as a run saves it."""
    from peft import LoraConfig

    torch.manual_seed(1)
    flags = {"use_dora": kind == "dora", "use_rslora": kind == "rslora"}
    saved = {"modules_to_save": whole} if whole else {}
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets, **flags, **saved)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    name_magnitudes(folder)
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(IDS).logits
    return result


TARGETS = {"attention": ["q_proj", "v_proj"], "embedding": ["embed_tokens"], "head": ["lm_head"]}
KINDS = ("lora", "dora", "rslora")
CASES = [
    (tied, targets, kind, whole)
    for tied, targets, kind, whole in product((True, False), TARGETS, KINDS, ("", "norm", "embed_tokens"))
    if (targets, whole) != ("embedding", "embed_tokens") and (whole != "norm" or kind == "lora")
]


@pytest.mark.parametrize(("tied", "targets", "kind", "whole"), CASES)
def test_a_merged_model_is_the_trained_one(tmp_path: Path, tied: bool, targets: str, kind: str, whole: str) -> None:
    base = base_model(tmp_path / "base", tied)
    trained = adapter(base, tmp_path / "run", TARGETS[targets], kind, [whole] if whole else [])
    expected = logits(trained)
    assert not torch.allclose(expected, logits(AutoModelForCausalLM.from_pretrained(base)), atol=1e-2)
    section = ModelSection.model_validate({"name_or_path": str(base), "dtype": "float32"})
    merge_adapter(tmp_path / "run", section, tmp_path, tmp_path / "merged", Tokenizer())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits(plain), expected, atol=1e-4)
    shares = plain.get_input_embeddings().weight is plain.get_output_embeddings().weight
    changed = targets in ("embedding", "head") or whole == "embed_tokens"
    assert shares == (tied and not changed)


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora"])
def test_transformers_reads_the_adapter_alone(tmp_path: Path, kind: str) -> None:
    """`from_pretrained` of the adapter's folder, without peft's own loader."""
    base = base_model(tmp_path / "base", tied=True)
    trained = adapter(base, tmp_path / "run", TARGETS["attention"], kind, [])
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "run")), logits(trained), atol=1e-5)
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "run")
    assert torch.equal(logits(again), logits(trained))


def test_a_merge_that_changes_the_model_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_model(tmp_path / "base", tied=False)
    trained = adapter(base, tmp_path / "run", TARGETS["attention"], "lora", [])
    monkeypatch.setattr(type(trained.base_model), "merge_and_unload", lambda self, **kwargs: self.unload())
    with pytest.raises(UserError, match="the merged model is another model: its logits differ by"):
        merged(trained, "run")


def test_a_run_with_dora_is_merged_by_the_command(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        'model: {name_or_path: "builtin:tiny", dtype: float32}\n'
        'data: {train: {path: "builtin:instructions", max_samples: 8}, max_length: 64}\n'
        "tuning: {name: lora, use_dora: true, r: 4, target_modules: [embed_tokens, q_proj]}\n"
        f"training: {{output_dir: {tmp_path / 'run'}, max_steps: 2, learning_rate: 1.0e-2, use_cpu: true}}\n"
    )
    assert main(["train", str(recipe)]) == 0
    assert main(["merge", str(tmp_path / "run"), "--output", str(tmp_path / "merged")]) == 0
    base = json.loads((tmp_path / "run" / "adapter_config.json").read_text())["base_model_name_or_path"]
    trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "run")
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), logits(trained), atol=1e-3)
