"""The loss head against cross-entropy on the model's own logits, in value and gradient, for several architectures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
)

from sftgo_cli.errors import UserError
from sftgo_cli.losses import head, head_probe
from sftgo_cli.losses.fused_head import Weighing
from sftgo_cli.losses.logits import token_terms

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "llama-tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZES),
    "gpt2": GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2),
    "gemma2-softcap": Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=3.0),
    "cohere-scale": CohereConfig(**SIZES, logit_scale=0.25),
    "granite-scale": GraniteConfig(**SIZES, logits_scaling=4.0),
}


def model_of(config: Any, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():  # large weights: non-uniform logits, so that scales and caps matter
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def batch_of() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, 61, (3, 11), generator=generator)
    labels = input_ids.masked_fill(torch.rand(3, 11, generator=generator) < 0.4, -100)
    labels[1] = -100  # a row without a supervised token
    return input_ids, labels


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_equal_the_models_own_logits(name: str) -> None:
    input_ids, labels = batch_of()
    plain, fused = model_of(CONFIGS[name]), model_of(CONFIGS[name])
    head.attach(fused)
    logits = plain(input_ids=input_ids).logits
    mask = labels[:, 1:] != -100
    expected = functional.cross_entropy(logits[:, :-1][mask], labels[:, 1:][mask], reduction="none")
    outputs = fused(input_ids=input_ids, supervised_labels=labels, terms=("correct",))
    assert torch.allclose(outputs["nll"], expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(outputs["correct"], logits[:, :-1][mask].argmax(-1) == labels[:, 1:][mask])
    weights = torch.linspace(0.1, 2.0, len(expected), dtype=torch.float64)
    (expected * weights).sum().backward()
    (outputs["nll"] * weights).sum().backward()
    for (parameter_name, one), other in zip(plain.named_parameters(), fused.parameters(), strict=True):
        assert one.grad is not None, parameter_name
        assert other.grad is not None, parameter_name
        assert float((one.grad - other.grad).norm()) <= 1e-12 * max(1.0, float(one.grad.norm())), parameter_name


@pytest.mark.parametrize("name", CONFIGS)
def test_the_probe_accepts_what_the_head_knows(name: str) -> None:
    model = model_of(CONFIGS[name], torch.float32)
    head.attach(model)
    assert head_probe.fit(model) is None


def behind_the_head(model: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The model with something done to its logits that no configuration names."""
    forward = model.forward

    def changed(*args: Any, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        outputs.logits = change(outputs.logits)
        return outputs

    model.forward = changed
    return model


CHANGES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], bool]] = {
    "scale": (lambda logits: logits * 0.37, True),
    "scale and cap": (lambda logits: 7.0 * torch.tanh(logits * 0.4 / 7.0), True),
    "a number per token": (lambda logits: logits + torch.linspace(0, 3, 61, dtype=logits.dtype), False),
    "a power": (lambda logits: logits.abs().sqrt() * logits.sign(), False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_happens_behind_the_head_is_found_out(name: str) -> None:
    input_ids, labels = batch_of()
    change, keeps_head = CHANGES[name]
    plain, fused = (behind_the_head(model_of(CONFIGS["llama"]), change) for _ in range(2))
    head.attach(fused)
    said = head_probe.fit(fused)
    assert (said is None) == keeps_head
    mask = labels[:, 1:] != -100
    logits = plain(input_ids=input_ids).logits[:, :-1][mask]
    expected = functional.cross_entropy(logits, labels[:, 1:][mask], reduction="none")
    weighing = Weighing(ends=[len(expected)], loss_of=lambda start, stop, terms: terms["nll"].pow(2).sum())
    outputs = fused(input_ids=input_ids, supervised_labels=labels, weighing=weighing)
    expected.pow(2).sum().backward()
    outputs["loss"].backward()
    assert torch.allclose(outputs["nll"], expected, rtol=1e-10, atol=1e-10)
    for (parameter_name, one), other in zip(plain.named_parameters(), fused.parameters(), strict=True):
        assert float((one.grad - other.grad).norm()) <= 1e-9 * max(1.0, float(one.grad.norm())), parameter_name


def test_a_model_that_looks_ahead_is_refused() -> None:
    config = BertConfig(vocab_size=61, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = model_of(config, torch.float32)
    head.attach(model)
    with pytest.raises(UserError, match="is not causal: a later token changes the logits of earlier ones"):
        head_probe.fit(model)


def test_the_loss_forward_has_the_signature_of_the_models_own() -> None:
    model = model_of(CONFIGS["llama"])
    before = inspect.signature(model.forward).parameters
    head.attach(model)
    after = inspect.signature(model.forward).parameters
    assert [name for name in after if name != "supervised_labels"] == list(before)
    assert list(after)[-1] == "kwargs"


def test_without_labels_the_original_forward_runs() -> None:
    input_ids, _ = batch_of()
    plain, fused = model_of(CONFIGS["llama"]), model_of(CONFIGS["llama"])
    head.attach(fused)
    head.attach(fused)  # twice changes nothing
    assert torch.equal(plain(input_ids=input_ids).logits, fused(input_ids=input_ids).logits)
    generated = fused.generate(input_ids, max_new_tokens=3, do_sample=False)
    assert torch.equal(generated, plain.generate(input_ids, max_new_tokens=3, do_sample=False))


def test_no_supervised_token_gives_exact_zero_gradients_for_every_parameter() -> None:
    input_ids, labels = batch_of()
    model = model_of(CONFIGS["llama"])
    head.attach(model)
    nll = model(input_ids=input_ids, supervised_labels=torch.full_like(labels, -100))["nll"]
    assert nll.shape == (0,)
    nll.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_bfloat16_logits_are_upcast_before_the_softmax() -> None:
    logits = (torch.randn(20, 61, generator=torch.Generator().manual_seed(0)) * 8).to(torch.bfloat16)
    targets = torch.arange(20)
    expected = torch.logsumexp(logits.double(), -1) - logits.double()[torch.arange(20), targets]
    nll = token_terms(logits, targets)["nll"]
    assert nll.dtype == torch.float32
    assert torch.allclose(nll.double(), expected, rtol=1e-6, atol=1e-6)


def test_a_mixture_of_experts_keeps_its_auxiliary_loss() -> None:
    config = MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True)
    model = model_of(config, torch.float32)
    input_ids, _ = batch_of()
    mask = torch.ones_like(input_ids)
    expected = model(input_ids=input_ids, attention_mask=mask, labels=input_ids)
    head.attach(model)
    outputs = model(input_ids=input_ids, attention_mask=mask, supervised_labels=input_ids)
    assert outputs["auxiliary_loss"].item() == pytest.approx(config.router_aux_loss_coef * expected.aux_loss.item())
    assert outputs["nll"].mean().item() + outputs["auxiliary_loss"].item() == pytest.approx(
        expected.loss.item(), rel=1e-5
    )


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(UserError, match="no separable backbone"):
        head.attach(torch.nn.Linear(2, 2))
