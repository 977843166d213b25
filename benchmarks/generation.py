"""Answers per second of the generator `model`, beside a plain `generate` loop over left-padded batches in dataset order.

    python benchmarks/generation.py [--runs 3] [--batch-size 16] [--prompts 128]

Both in one process on all cores, float32, greedy, the same batch size, interleaved, medians; outputs are compared token by
token. Two models. `llama`: random weights, 20 million parameters; as nothing makes it stop, every row has a length at
which both sides end it, prompts and lengths being log-normal like GSM8K's questions (median 60 tokens) and rationales
(median 70, one in twenty above 160). `tiny`: the built-in model, which ends its answers itself, on the built-in arithmetic
and instructions. `--paged` also times transformers' `generate_batch` on the random model.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine, median, ratio, wait_for_quiet, write_result
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from sftgo_cli.base_model import load_base_model
from sftgo_cli.builtin import data_rows
from sftgo_cli.curation.decoding import Prompt, Stops, decode
from sftgo_cli.curation.decoding_choice import Sampling
from sftgo_cli.data.tokenizer import load_tokenizer
from sftgo_cli.recipe.model_section import ModelSection

Outputs = dict[int, list[int]]
VOCABULARY = 8192
LONGEST_ANSWER = 64


def random_llama() -> Any:
    """20 million parameters, no end-of-sequence id."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config).eval()


def random_prompts(count: int) -> list[Prompt]:
    """Log-normal lengths of prompts and answers, in no order."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(60), 0.4, count), 15, 300).astype(int)
    limits = np.clip(rng.lognormal(np.log(70), 0.5, count), 15, 400).astype(int)
    ids = [tuple(rng.integers(10, VOCABULARY, length).tolist()) for length in lengths]
    return [Prompt(number, ids[number], number, int(limits[number])) for number in range(count)]


def tiny_prompts(tokenizer: Any, count: int) -> list[Prompt]:
    """The built-in arithmetic and instructions in turns."""
    rows = [
        row
        for pair in zip(data_rows("arithmetic", "train"), data_rows("instructions", "train"), strict=False)
        for row in pair
    ]
    prompts = []
    for number, row in enumerate(rows[:count]):
        text = row.get("prompt") or " ".join(part for part in (row["instruction"], row.get("input")) if part)
        messages = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        prompts.append(Prompt(number, tuple(ids), number, LONGEST_ANSWER))
    return prompts


def plain(model: Any, prompts: list[Prompt], stop: frozenset[int], batch_size: int) -> Outputs:
    """`generate`, one left-padded batch of the data's next rows after the other."""
    outputs: Outputs = {}
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        width = max(len(prompt.ids) for prompt in batch)
        limits_R = torch.tensor([prompt.limit for prompt in batch])

        def at_limit(ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
            return ids.shape[1] - width >= limits_R  # noqa: B023

        ids = torch.tensor([[0] * (width - len(prompt.ids)) + list(prompt.ids) for prompt in batch])
        mask = torch.tensor([[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in batch])
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=int(limits_R.max()),
                do_sample=False,
                pad_token_id=0,
                stopping_criteria=[at_limit],
            )
        for prompt, new in zip(batch, output[:, width:].tolist(), strict=True):
            end = next((place + 1 for place, token in enumerate(new) if token in stop), len(new))
            outputs[prompt.number] = new[: min(end, prompt.limit)]
    return outputs


def ours(model: Any, prompts: list[Prompt], stop: frozenset[int], batch_size: int) -> tuple[Outputs, dict[int, int]]:
    """The generator's way: longest prompts first, rows replaced as they end. Also the near ties."""
    ordered = sorted(prompts, key=lambda prompt: (-len(prompt.ids), prompt.ids))
    done = [row for part in decode(model, iter(ordered), Sampling(), Stops(stop), batch_size) for row in part]
    return {row.number: row.ids for row in done}, {row.number: row.near_ties for row in done}


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[tuple[float, float], Any]:
    """(seconds, processor seconds) and result."""
    start, used = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return (time.perf_counter() - start, time.process_time() - used), result


def compare(model: Any, prompts: list[Prompt], stop: frozenset[int], batch_size: int, runs: int) -> dict[str, Any]:
    """Both sides in turns, after a short warm-up of each."""
    for side in (plain, ours):
        side(model, prompts[:batch_size], stop, batch_size)
    seconds: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": []}
    for _ in range(runs):
        took, expected = timed(plain, model, prompts, stop, batch_size)
        seconds["plain"].append(took)
        took, (got, near_ties) = timed(ours, model, prompts, stop, batch_size)
        seconds["ours"].append(took)
    differing = [number for number in expected if got[number] != expected[number]]
    clock, processor = (
        {side: median([pair[place] for pair in pairs]) for side, pairs in seconds.items()} for place in (0, 1)
    )
    lengths = sorted(len(ids) for ids in expected.values())
    num_tokens = sum(lengths)
    return {
        "answers": len(prompts),
        "tokens": num_tokens,
        "answer_tokens_min_median_max": [lengths[0], lengths[len(lengths) // 2], lengths[-1]],
        "differing": len(differing),
        "differing_without_near_tie": sum(near_ties[number] == 0 for number in differing),
        "answers_with_near_tie": sum(count > 0 for count in near_ties.values()),
        "tokens_per_second": {side: num_tokens / took for side, took in clock.items()},
        "speed_up": clock["plain"] / clock["ours"],
        "speed_up_in_processor_time": processor["plain"] / processor["ours"],
        "seconds": seconds,
    }


def paged(model: Any, prompts: list[Prompt]) -> float:
    """Tokens per second of `generate_batch`, all answers of the median length."""
    limit = sorted(prompt.limit for prompt in prompts)[len(prompts) // 2]
    settings = GenerationConfig(max_new_tokens=limit, do_sample=False, pad_token_id=0, eos_token_id=-1)
    took, done = timed(lambda: model.generate_batch([list(prompt.ids) for prompt in prompts], settings))
    return float(sum(len(output.generated_tokens) for output in done.values()) / took[0])


def main() -> None:
    """Measure, print, write results/generation.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--tiny-prompts", type=int, default=384)
    parser.add_argument("--paged", action="store_true", help="also time transformers' generate_batch")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    wait_for_quiet()
    before = machine()
    section = ModelSection(name_or_path="builtin:tiny", dtype="float32")
    tokenizer, tiny = load_tokenizer(section, Path()), load_base_model(section, Path(), "float32").eval()
    llama, prompts = random_llama(), random_prompts(arguments.prompts)
    settings = (arguments.batch_size, arguments.runs)
    figures: dict[str, Any] = {
        "llama": compare(llama, prompts, frozenset(), *settings),
        "tiny": compare(
            tiny, tiny_prompts(tokenizer, arguments.tiny_prompts), frozenset({tokenizer.eos_token_id}), *settings
        ),
        "batch_size": arguments.batch_size,
        "runs": arguments.runs,
    }
    if arguments.paged:
        figures["paged_tokens_per_second"] = paged(llama, prompts)
    ratios = [
        ratio(f"answers per second against plain generate, {name}", figures[name]["speed_up"], 2.0, at_most=False)
        for name in ("llama", "tiny")
    ]
    write_result("generation", "the generator `model` beside a plain generate loop", figures, ratios, before)


if __name__ == "__main__":
    main()
