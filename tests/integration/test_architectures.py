"""A dozen unlike architectures through loading, losses, gradients, held-out loss, adapters and generation.

The whole walk over every type is benchmarks/architectures.py; the reference is the model's own logits, every row alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING

from benchmarks.tiny_architectures import shrunk, tiny_model
from sftgo_cli import builtin
from sftgo_cli.base_model import load_base_model
from sftgo_cli.data.collation import Collator
from sftgo_cli.data.sampling import EvaluationSampler
from sftgo_cli.data.tokenizer import load_tokenizer
from sftgo_cli.errors import UserError
from sftgo_cli.evaluation.evaluate import with_loss_head
from sftgo_cli.evaluation.generate import Decoding, complete
from sftgo_cli.evaluation.heldout import EvaluationSet, evaluate_set
from sftgo_cli.losses import head, head_probe
from sftgo_cli.losses.fused_head import Weighing
from sftgo_cli.objectives.micro_batch import MODEL_INPUTS
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.training import model as training_model
from sftgo_cli.tuning import lora

VOCABULARY = 2304
LENGTHS = (9, 14, 5)
# The type, and what its configuration needs for something to be seen: a scale, a cap, a wrapper.
TYPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3": {},  # a multimodal wrapper
    "qwen3_vl": {},  # and one that AutoModelForCausalLM does not know
    "cohere": {"logit_scale": 0.25},
    "granitemoehybrid": {"logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "falcon_h1": {"lm_head_multiplier": 0.3},  # a scale that no other configuration names so
    "minicpm3": {},  # hidden states are divided before the head
    "modernbert-decoder": {},  # a layer between backbone and head
    "recurrent_gemma": {},  # a soft cap under another name
    "mamba": {},
    "gpt_oss": {},
}


def folder_of(name: str, folder: Path) -> Path:
    tiny_model(shrunk(CONFIG_MAPPING[name], VOCABULARY, TYPES.get(name))).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(builtin.model_folder("tiny") / file, folder / file)
    return folder


def section_of(folder: Path) -> ModelSection:
    return ModelSection.model_validate({"name_or_path": str(folder), "dtype": "float32"})


def rows_of() -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    ids = [generator.integers(3, 2000, size=length) for length in LENGTHS]
    return [{"input_ids": row, "labels": np.where(np.arange(len(row)) < 3, -100, row)} for row in ids]


def direct_losses(model: Any) -> torch.Tensor:
    """float64[N]: -log p of the supervised tokens from the model's own logits."""
    parts = []
    for row in rows_of():
        ids = torch.tensor(row["input_ids"])
        inputs = head.route_of(model).accepted({"input_ids": ids[None], "use_cache": False})
        log_p = head.own_forward(model, **inputs).logits[0].double().log_softmax(-1)
        parts.append(-log_p[2:-1].gather(-1, ids[3:, None])[:, 0])
    return torch.cat(parts)


def outputs_of(model: Any) -> dict[str, Any]:
    batch: dict[str, Any] = Collator(0, packed=False)([[row] for row in rows_of()])
    count = sum(length - 3 for length in LENGTHS)
    weighing = Weighing(batch["sample_ends"], lambda start, stop, terms: terms["nll"].double().sum() / count)
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    outputs: dict[str, Any] = model(**inputs, supervised_labels=batch["labels"], weighing=weighing)
    return outputs


class Rows:
    """What an evaluation set asks of its table."""

    def __getitems__(self, bins: Any) -> Any:
        return [[rows_of()[index] for index in members] for members in bins]


@pytest.mark.parametrize("name", TYPES)
def test_every_number_is_that_of_the_models_own_logits(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path / "model")
    model: Any = load_base_model(section_of(folder), tmp_path, "float32").eval()
    assert with_loss_head(model, name) is None
    expected = direct_losses(model)
    assert float(expected.detach().std()) > 0.3  # a missing scale would show
    outputs = outputs_of(model)
    torch.testing.assert_close(outputs["nll"].double(), expected.detach(), rtol=1e-4, atol=1e-4)
    outputs["loss"].backward()
    ours = {key: one.grad.clone() for key, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    expected.mean().backward()
    theirs = {key: one.grad for key, one in model.named_parameters() if one.grad is not None}
    total = max(float(one.norm()) for one in theirs.values())
    for key, gradient in theirs.items():
        difference = float((ours.get(key, torch.zeros_like(gradient)) - gradient).norm())
        assert difference <= 1e-3 * max(1e-2 * total, float(gradient.norm())), key
    rows: Any = Rows()
    sets = EvaluationSet(rows, EvaluationSampler(np.array(LENGTHS), 2, 0, 1), Collator(0, packed=False), 1)
    measured = evaluate_set(model, sets, torch.device("cpu"))
    assert measured["loss"] == pytest.approx(float(expected.detach().mean()), rel=1e-4)
    tokenizer = load_tokenizer(section_of(folder), tmp_path)
    assert len(complete(model, tokenizer, ["A cat", "Two fish sat"], Decoding(max_new_tokens=3, batch_size=2))) == 2


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3_vl", "minicpm3", "gpt_oss"])
def test_adapters_start_at_the_models_own_losses_and_learn(name: str, tmp_path: Path) -> None:
    model: Any = load_base_model(section_of(folder_of(name, tmp_path / "model")), tmp_path, "float32").eval()
    head.attach(model)
    head_probe.fit(model)
    expected = direct_losses(model).detach()
    wrapped: Any = lora.apply(model, lora.Options(lora_dropout=0.0)).eval()
    outputs = outputs_of(wrapped)
    torch.testing.assert_close(outputs["nll"].double(), expected, rtol=1e-4, atol=1e-4)
    outputs["loss"].backward()
    grown = [key for key, one in wrapped.named_parameters() if one.grad is not None and bool(one.grad.any())]
    assert grown
    assert all("lora_" in key for key in grown)


@pytest.mark.parametrize("name", ["blip", "xlnet", "prophetnet"])
def test_what_cannot_be_trained_says_why_before_it_starts(name: str, tmp_path: Path) -> None:
    model: Any = load_base_model(section_of(folder_of(name, tmp_path / "model")), tmp_path, "float32")
    head.attach(model)

    def probe() -> None:
        head_probe.fit(model)
        training_model.check_trains(model, "here")

    with pytest.raises(
        UserError, match=r"cannot be trained|not run on plain text|is not causal|padded batch"
    ) as raised:
        probe()
    assert "\n" not in str(raised.value)


def test_a_head_that_was_wrapped_is_trained_through_its_wrapper(tmp_path: Path) -> None:
    """peft's `modules_to_save` puts a copy of the head in its place: its logits count, and it gets the gradient."""
    from peft import LoraConfig, get_peft_model

    model: Any = load_base_model(section_of(folder_of("llama", tmp_path / "model")), tmp_path, "float32").eval()
    head.attach(model)
    settings = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    wrapped: Any = get_peft_model(model, settings).eval()
    copied = model.lm_head.modules_to_save["default"]
    with torch.no_grad():
        copied.weight.mul_(0.5)
    expected = direct_losses(model)
    outputs = outputs_of(wrapped)
    torch.testing.assert_close(outputs["nll"].double(), expected.detach(), rtol=1e-4, atol=1e-4)
    outputs["loss"].backward()
    ours = copied.weight.grad.clone()
    wrapped.zero_grad()
    expected.mean().backward()
    torch.testing.assert_close(ours, copied.weight.grad, rtol=1e-3, atol=1e-5)
