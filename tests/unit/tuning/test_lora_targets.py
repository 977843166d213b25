"""LoRA's targets: the defaults work on every kind of layer, names are checked, what is left out is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from sftgo_cli.errors import UserError
from sftgo_cli.tuning import lora

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1}
KINDS: dict[str, tuple[dict[str, Any], set[str], str]] = {  # settings, modules that must be adapted, what is said
    "llama": ({}, {"q_proj", "down_proj"}, ""),
    "mixtral": ({"num_local_experts": 2, "num_experts_per_tok": 1}, {"q_proj", "experts"}, "tuning.lora_dropout: 0"),
    "qwen3_moe": ({**EXPERTS, "moe_intermediate_size": 16}, {"q_proj", "experts"}, "tuning.lora_dropout: 0"),
    "phimoe": ({"num_local_experts": 2}, {"q_proj", "o_proj"}, "leaves out router: PhimoeTopKRouter is more than"),
    "gpt_oss": ({"num_local_experts": 2, "num_experts_per_tok": 1}, {"q_proj", "o_proj"}, ""),
    "mamba": ({"state_size": 4}, {"in_proj", "x_proj"}, "LoRA leaves out dt_proj, out_proj"),
    "falcon_mamba": ({"state_size": 4}, {"in_proj", "x_proj"}, "LoRA leaves out dt_proj, out_proj"),
    "mamba2": ({"state_size": 4, "num_heads": 8, "n_groups": 1}, {"in_proj"}, "out_proj"),
    "falcon_h1": (
        {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1},
        {"in_proj", "q_proj"},
        "out_proj",
    ),
}


def model(kind: str) -> Any:
    torch.manual_seed(0)
    settings = {**SMALL, **KINDS[kind][0]}
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**settings))


def adapted(wrapped: Any) -> set[str]:
    return {name.split(".lora_")[0].split(".")[-1] for name, p in wrapped.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_train_every_kind_of_layer(kind: str) -> None:
    _, expected, words = KINDS[kind]
    said: list[str] = []
    wrapped = lora.apply(model(kind), lora.Options.model_validate({}), said.append)
    assert expected <= adapted(wrapped)
    assert any(words in line for line in said) if words else not said, said
    ids = torch.arange(1, 33)[None]
    wrapped(input_ids=ids, labels=ids).loss.backward()
    without = [name for name, p in wrapped.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []  # an adapter without a gradient would never train


@pytest.mark.parametrize(("option", "value"), [("lora_dropout", 0.1), ("use_dora", True)])
def test_experts_that_take_no_such_option_are_the_reason_given(option: str, value: Any) -> None:
    options = lora.Options.model_validate(
        {option: value, **({} if option == "lora_dropout" else {"lora_dropout": 0.0})}
    )
    with pytest.raises(UserError, match=rf"the experts of this model are one parameter.* - tuning.{option} - "):
        lora.apply(model("mixtral"), options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_modules": ["q_proj", "v_prj"]}, "matches 'v_prj' - tuning.target_modules - did you mean v_proj?"),
        ({"target_modules": "q_prj"}, "no module matches 'q_prj' - tuning.target_modules - did you mean q_proj?"),
        ({"target_modules": ".*(q_prj)"}, "no module matches '.*(q_prj)' as a whole"),
        ({"target_modules": "("}, "is no regular expression"),
        ({"target_modules": ["mlp"]}, "peft refuses these targets: Target module LlamaMLP"),
        ({"modules_to_save": ["norms"]}, "no module matches 'norms' - tuning.modules_to_save - did you mean norm?"),
    ],
)
def test_wrong_names_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        lora.apply(model("llama"), lora.Options.model_validate(options))
    assert message in str(raised.value)


def test_what_cannot_be_adapted_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"out_proj cannot be adapted: the kernels of mamba read its weight"):
        lora.apply(model("mamba"), lora.Options(target_modules=["out_proj"]))


@pytest.mark.parametrize("written", ["q_proj", "layers.0.self_attn.q_proj", r".*\.q_proj", ["q_proj"]])
def test_a_plain_name_as_text_is_that_module(written: Any) -> None:
    assert adapted(lora.apply(model("llama"), lora.Options(target_modules=written))) == {"q_proj"}
