"""Tiny models of the popular architectures: the real configuration classes made small, a byte tokenizer with each
family's special tokens, and a chat template of the same kind, written for these tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DATED = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ strftime_now('%d %b %Y') }}\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set rest = messages[1:] %}{% else %}"
    "{% set rest = messages %}{% endif %}<|eot_id|>{% for m in rest %}<|start_header_id|>{{ m.role }}"
    "<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n"
    "{{ m.reasoning_content | default('') }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OWN_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}" + CHATML
INST = (
    "{{ bos_token }}{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[INST] "
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}{{ m.content }}[/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
BARS = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHANNELS = (
    "<|start|>system<|message|>Reasoning: medium<|end|>{% for m in messages %}<|start|>{{ m.role }}"
    "{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}"
    "{{ '<|return|>' if m.role == 'assistant' and loop.last else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
LINES = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% if not loop.last %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
DROPPING = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}{% else %}<|Assistant|>"
    "{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 8192,
}


@dataclass(frozen=True)
class Lookalike:
    """`model_type` and what its configuration has besides `SMALL`; the chat template; eos, bos and other special tokens."""

    model_type: str
    template: str
    eos: str
    bos: str | None = None
    tokens: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


_IM = ("<|im_start|>",)
_HEADERS = ("<|start_header_id|>", "<|end_header_id|>")
LLAMA = Lookalike("llama", DATED, "<|eot_id|>", "<|begin_of_text|>", _HEADERS)
QWEN3 = Lookalike("qwen3", THINKING, "<|im_end|>", None, _IM)
_GEMMA_TEXT = {**SMALL, "sliding_window": 16, "query_pre_attn_scalar": 8}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_GEMMA = Lookalike("gemma3_text", TURNS, "<end_of_turn>", "<bos>", ("<start_of_turn>",), {"sliding_window": 16})
LOOKALIKES: dict[str, Lookalike] = {
    "llama-3.2-1b": LLAMA,
    "llama-3.2-3b": LLAMA,
    "llama-3.1-8b": LLAMA,
    "qwen3-4b": QWEN3,
    "qwen3-8b": QWEN3,
    "qwen2.5-7b": Lookalike("qwen2", OWN_SYSTEM, "<|im_end|>", None, _IM),
    "mistral-7b": Lookalike("mistral", INST, "</s>", "<s>", ("[INST]", "[/INST]")),
    "gemma-3-1b": _GEMMA,
    "gemma-3-4b": Lookalike(
        "gemma3",
        TURNS,
        "<end_of_turn>",
        "<bos>",
        ("<start_of_turn>",),
        {"text_config": _GEMMA_TEXT, "vision_config": _VISION, "mm_tokens_per_image": 4},
    ),
    "phi-4-mini": Lookalike("phi3", BARS, "<|end|>", None, ("<|user|>", "<|assistant|>", "<|system|>")),
    "gpt-oss-20b": Lookalike(
        "gpt_oss",
        CHANNELS,
        "<|return|>",
        None,
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>"),
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16, "rope_scaling": None},
    ),
    "smollm3-3b": Lookalike("smollm3", CHATML, "<|im_end|>", None, _IM),
    "olmo-2-7b": Lookalike("olmo2", LINES, "<|endoftext|>", "<|startoftext|>", ("<|user|>", "<|assistant|>")),
    "deepseek-r1-distill-7b": Lookalike(
        "qwen2", DROPPING, "<|end_of_sentence|>", "<|begin|>", ("<|User|>", "<|Assistant|>")
    ),
}


def write_lookalike(like: Lookalike, folder: Path) -> Path:
    """Model and tokenizer of a lookalike in `folder`, as from_pretrained reads them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = {"eos_token": like.eos, "pad_token": "<|pad|>", **({"bos_token": like.bos} if like.bos else {})}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.add_special_tokens({"additional_special_tokens": list(like.tokens)})
    tokenizer.chat_template = like.template
    ids = {
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vocab_size = len(tokenizer) + 16  # some tokenizer classes add a token of their own when they are loaded
    settings = dict(like.settings)
    if "text_config" in settings:
        settings["text_config"] = {**settings["text_config"], "vocab_size": vocab_size, **ids}
        settings["image_token_index"] = 3
    else:
        settings = {**SMALL, **settings, "vocab_size": vocab_size, **ids}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(like.model_type, **settings), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
