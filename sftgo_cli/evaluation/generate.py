"""Completes prompts with a model: batched, left-padded, longest first; through the chat template where there is one.

Prompts are rendered as in training (the fixed date, the recipe's variables of the template), and an answer ends where
the template ends a turn, or where the model's own configuration says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftgo_cli.data.endings import endings, eos_ids
from sftgo_cli.data.formats import ALPACA_WITHOUT_INPUT
from sftgo_cli.data.message_forms import Conversation
from sftgo_cli.data.templates import ChatTemplate, render
from sftgo_cli.data.tokenization import make_encoder
from sftgo_cli.errors import UserError

RAW = "{prompt}"


@dataclass(frozen=True)
class Decoding:
    """How to decode; temperature 0 is greedy."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 8


@dataclass(frozen=True)
class PromptFormat:
    """What surrounds a prompt: the chat template, or (without one) a text with `{prompt}` in it; and before it, under a
    chat template, the recipe's system prompt."""

    template: ChatTemplate | None = None
    text: str = RAW
    system_prompt: str | None = None

    def render(self, prompt: str) -> str:
        """The text that the model completes."""
        if self.template is None:
            return self.text.replace("{prompt}", prompt)
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        conversation = Conversation([*system, {"role": "user", "content": prompt}])
        return render(self.template, conversation, "the prompt", prompt=True)


def read_prompts(path: Path, column: str) -> list[dict[str, Any]]:
    """The rows of a jsonl file, each with a text in `column`.

    Raises:
        UserError: a line is no JSON object, or has no such text; names file:line.
    """
    from sftgo_cli.data.readers import read_file

    if not path.is_file():
        raise UserError("there is no such file", str(path), "give a jsonl file with one prompt per line")
    rows: list[dict[str, Any]] = []
    for where, values in read_file(path):
        if not isinstance(values.get(column), str):
            found = ", ".join(values) or "nothing"
            raise UserError(f"no text in column {column!r} (found: {found})", str(where), "name it with --column")
        rows.append(values)
    return rows


def complete(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    decoding: Decoding,
    prompt_format: PromptFormat = PromptFormat(),
    on_batch: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """The completions of the prompts, in their order, special tokens removed."""
    import torch
    from transformers import set_seed

    encoder = make_encoder(tokenizer)
    bos = encoder.bos_token if encoder.bos_id is not None else ""  # exactly once, as in training
    texts = [prompt_format.render(prompt) for prompt in prompts]
    texts = [text if text.startswith(bos) else bos + text for text in texts]
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    order = sorted(range(len(texts)), key=lambda index: -lengths[index])
    completions = [""] * len(texts)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        # Padding is masked, so any token does where the tokenizer has neither.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    ends = endings(tokenizer, prompt_format.template, eos_ids(model.generation_config.eos_token_id))
    stops = {"stop_strings": list(ends.texts), "tokenizer": tokenizer} if ends.texts else {}
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p} if decoding.temperature > 0 else {}
    set_seed(decoding.seed)
    for start in range(0, len(order), decoding.batch_size):
        chosen = order[start : start + decoding.batch_size]
        batch = tokenizer(
            [texts[index] for index in chosen], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(model.device)
        batch.pop("token_type_ids", None)
        with torch.inference_mode():
            output = model.generate(
                **batch,
                max_new_tokens=decoding.max_new_tokens,
                do_sample=decoding.temperature > 0,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=list(ends.ids) or None,
                **stops,
                **sampling,
            )
        answers = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for index, answer in zip(chosen, answers, strict=True):
            for end in ends.texts:
                answer = answer.partition(end)[0]
            completions[index] = answer.strip()
        on_batch(len(chosen))
    return completions


def prompt_format_of(
    template: ChatTemplate | None, row_formats: Sequence[str], raw: bool, system_prompt: str | None = None
) -> PromptFormat:
    """How a prompt was put to the model in training: by the chat template; without one, alpaca rows stand in Stanford's
    prompt and everything else is plain text. `raw` is plain text always."""
    if raw:
        return PromptFormat()
    if template is not None:
        return PromptFormat(template, system_prompt=system_prompt)
    if set(row_formats) == {"alpaca"}:
        return PromptFormat(text=ALPACA_WITHOUT_INPUT.replace("{instruction}", "{prompt}"))
    return PromptFormat()


def write_completions(path: Path, rows: Sequence[dict[str, Any]], completions: Sequence[str]) -> None:
    """The rows with a `completion` each, as jsonl."""
    from sftgo_cli import durable

    lines = [
        json.dumps({**row, "completion": text}, ensure_ascii=False) for row, text in zip(rows, completions, strict=True)
    ]
    durable.write_text(path, "\n".join(lines) + "\n")
