"""Pre-trains the built-in model: `python -m sftgo_cli.builtin.pretrain OUT_DIR`.

Trains a byte-level BPE tokenizer and a small Llama on the generated corpus, in one process with fixed seeds and two
threads, and writes a folder for `from_pretrained`. The same machine and library versions give the same bytes; other
processors may differ in the last bits of the weights. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.builtin import instructions
from sftgo_cli.builtin.corpus import Document, documents

if TYPE_CHECKING:
    import torch

BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL_TOKENS = (BOS, EOS, PAD, *ROLES)
IGNORED = -100  # the label of a token that is no target

# One special token opens each turn and one ends it; nothing stands between turns.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|assistant|>' }}{% generation %}{{- message['content'] + '<|end|>' }}{% endgeneration %}"
    "{%- elif message['role'] in ('system', 'user') %}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{%- else %}{{- raise_exception('unknown role: ' + message['role']) }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)

# A word with its leading space is one piece, so is each single digit.
_PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Settings:
    """Everything that decides the bytes of the result; the defaults make the shipped model."""

    seed: int = 20250603
    num_steps: int = 2400
    batch_size: int = 8
    block_length: int = 192
    learning_rate: float = 3e-3
    num_warmup_steps: int = 100
    num_tokenizer_documents: int = 12000
    vocab_size: int = 2304
    num_threads: int = 2


def build_tokenizer(settings: Settings) -> Any:
    """A fast tokenizer trained on the corpus: all 256 bytes, so any text encodes, and merges up to `vocab_size`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    corpus = documents(settings.seed, settings.num_tokenizer_documents)
    texts = [text for document in corpus for text in _texts(document)]
    # The words of the tasks too, several times, so that a word is mostly one token and token groups can be read.
    texts += 4 * [" ".join((row["instruction"], row["input"], row["output"])) for row in instructions.rows("train")]
    tokenizer.train_from_iterator(texts, trainer)
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, bos_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        padding_side="right",
    )


def build_model(tokenizer: Any, settings: Settings) -> Any:
    """A Llama of about a million float32 parameters, initialized from the seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=settings.vocab_size,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["LlamaForCausalLM"],
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def token_stream(
    tokenizer: Any, settings: Settings, corpus: Callable[[int, int], Iterable[Document]] = documents
) -> torch.Tensor:
    """The corpus as int64[num_steps, batch_size, block_length + 1], documents end to end, each opened by BOS.

    `corpus(seed, count)` gives the documents; it is asked for 2,000 at a time, with seeds that count up.
    """
    import torch

    shape = (settings.num_steps, settings.batch_size, settings.block_length + 1)
    stream: list[int] = []
    needed, part = math.prod(shape), 0
    while len(stream) < needed:
        part += 1
        rendered = [_rendered(tokenizer, document) for document in corpus(settings.seed + part, 2000)]
        for ids in tokenizer(rendered, add_special_tokens=False)["input_ids"]:
            stream.extend(ids)
    return torch.tensor(stream[:needed]).view(shape)


def train(model: Any, batches: torch.Tensor, settings: Settings, learned: torch.Tensor | None = None) -> float:
    """Trains in place over `batches` once; returns the last step's loss in nats per token.

    `learned`, bool in the shape of `batches`, says which tokens are targets; without it all are.
    """
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.1, fused=True
    )
    loss_value, start = math.nan, time.monotonic()
    model.train()
    for step, block in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings)
        logits = model(input_ids=block[:, :-1], use_cache=False).logits
        targets = block[:, 1:]
        if learned is not None:
            targets = targets.masked_fill(~learned[step, :, 1:], IGNORED)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss_value = loss.item()
        if (step + 1) % 100 == 0 or step + 1 == settings.num_steps:
            say(f"step {step + 1}/{settings.num_steps}  loss {loss_value:.3f}  {time.monotonic() - start:.0f} s")
    return loss_value


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes weights in bfloat16 under a float32 configuration: half the size, and float32 when loaded."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    weights = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    del weights["lm_head.weight"]  # tied to the embedding
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # save_file makes it private, and the package is for everyone


def pretrain(folder: Path, settings: Settings) -> None:
    """Builds tokenizer and model, trains, and writes `folder`."""
    import torch

    torch.set_num_threads(settings.num_threads)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer(settings)
    model = build_model(tokenizer, settings)
    say(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens in the vocabulary")
    train(model, token_stream(tokenizer, settings), settings)
    save(model, tokenizer, folder)
    say(f"wrote {folder}")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sftgo_cli.builtin.pretrain", description=__doc__)
    parser.add_argument("out_dir", type=Path, help="folder to write")
    defaults = Settings()
    parser.add_argument("--num-steps", type=int, default=defaults.num_steps, help="optimizer steps (%(default)s)")
    options = parser.parse_args(arguments)
    pretrain(options.out_dir, Settings(num_steps=options.num_steps))


def _rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    if step < settings.num_warmup_steps:
        return (step + 1) / settings.num_warmup_steps
    done = (step - settings.num_warmup_steps) / max(1, settings.num_steps - settings.num_warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def _texts(document: Document) -> list[str]:
    return [document] if isinstance(document, str) else [message["content"] for message in document]


def _rendered(tokenizer: Any, document: Document) -> str:
    if isinstance(document, str):
        return f"{BOS}{document}{EOS}"
    return str(tokenizer.apply_chat_template(document, tokenize=False))


def say(line: str) -> None:
    """One line of progress on standard error."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
