"""Makes the built-in model that follows instructions: `python -m sftgo_cli.builtin.instruct OUT_DIR`.

Continues the training of `tiny` on chats: instructions in the style of the data set `instructions`, sums answered in
the plain wording, and worked answers restated in the plain wording when asked with `RESTATE`; a part of the corpus of
`tiny` keeps what it knew. No row of a data set is among them, and no two-step sum of `arithmetic` in any wording.
Only answers and prose are targets. The same machine and library versions give the same bytes. Two to four
minutes on two cores.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.builtin import arithmetic, corpus, instructions, model_folder, pretrain
from sftgo_cli.builtin.arithmetic import Expression
from sftgo_cli.builtin.corpus import Document, chat
from sftgo_cli.builtin.facts import Example
from sftgo_cli.builtin.pretrain import Settings, say

if TYPE_CHECKING:
    import torch

# The text of recipes/s3ft/prompts/restate.txt, with which the recipe asks.
RESTATE = "{question}\nA worked answer: {gold}\nAnswer in your own words."

SETTINGS = Settings(seed=20250604, num_steps=600, learning_rate=2e-3)
# Shares of the chats: of the corpus of `tiny`, sums, worked answers to restate, instructions.
SHARES = {"corpus": 0.25, "sum": 0.06, "restate": 0.1, "instruction": 0.59}


def documents(seed: int, count: int) -> Iterator[Document]:
    """`count` documents to learn from; the same for the same seed on every machine."""
    rng = random.Random(seed)
    kept = corpus.documents(seed, count)
    sums, restated, taken = sums_to_answer(), sums_to_restate(), _taken_prompts()
    for _ in range(count):
        (kind,) = rng.choices(list(SHARES), list(SHARES.values()))
        if kind == "corpus":
            yield next(kept)
        elif kind == "sum":
            expression = rng.choice(sums)
            yield chat(arithmetic.question(expression), arithmetic.plain_answer(expression))
        elif kind == "restate":
            expression = rng.choice(restated)
            yield chat(restate_prompt(expression), arithmetic.plain_answer(expression))
        else:
            example = _instruction(rng, taken)
            yield chat("\n".join(filter(None, (example.instruction, example.input))), example.output)


def sums_to_answer() -> list[Expression]:
    """Two-step expressions of which none is a row of `arithmetic`."""
    return _free(arithmetic.two_step_expressions())


def sums_to_restate() -> list[Expression]:
    """Expressions of one and two steps of which none is a row of `arithmetic`; most are harder than those rows.

    What the model cannot compute it has to take from the worked answer.
    """
    steps = [(sign, number) for sign in ("+", "-") for number in range(1, 10)]
    one_step: list[Expression] = [(first, (step,)) for first in range(1, 20) for step in steps]
    two_steps: list[Expression] = [(first, (*before, step)) for first, before in one_step for step in steps]
    # One-step sums are fewer, and are asked as often as one in four.
    in_range = [expression for expression in _free(one_step) if _stays_positive(expression)] * 8
    return in_range + [expression for expression in _free(two_steps) if _stays_positive(expression)]


def restate_prompt(expression: Expression) -> str:
    """The prompt that asks for the worked answer of the expression in other words."""
    return RESTATE.format(question=arithmetic.question(expression), gold=arithmetic.worked_answer(expression))


def learned_tokens(stream: torch.Tensor, tokenizer: Any) -> torch.Tensor:
    """Which tokens are targets, bool in the shape of `stream`: those of answers with their end, and prose.

    `stream` is int64, documents end to end in the order of its flattening.
    """
    import torch

    bos, *roles = tokenizer.convert_tokens_to_ids([pretrain.BOS, *pretrain.ROLES])
    flat = stream.flatten()
    opens = torch.isin(flat, torch.tensor([bos, *roles]))
    places = torch.arange(len(flat))
    last_opening = torch.where(opens, places, 0).cummax(0).values
    # A chat's first turn follows BOS at once: what comes after BOS itself is prose.
    taught = torch.isin(flat[last_opening], torch.tensor([bos, roles[-1]]))
    return (taught & ~opens).view(stream.shape)


def instruct(folder: Path, settings: Settings = SETTINGS) -> None:
    """Trains the shipped `tiny` further and writes `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(settings.num_threads)
    torch.use_deterministic_algorithms(True)
    base = model_folder("tiny")
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.float32)
    stream = pretrain.token_stream(tokenizer, settings, documents)
    learned = learned_tokens(stream, tokenizer)
    say(f"{stream.numel():,} tokens, {learned.float().mean().item():.0%} of them targets")
    pretrain.train(model, stream, settings, learned)
    pretrain.save(model, tokenizer, folder)
    for path in base.glob("tokenizer*"):  # as shipped: a tokenizer that was loaded is saved with how it was loaded
        shutil.copyfile(path, folder / path.name)
    say(f"wrote {folder}")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sftgo_cli.builtin.instruct", description=__doc__)
    parser.add_argument("out_dir", type=Path, help="folder to write")
    parser.add_argument("--num-steps", type=int, default=SETTINGS.num_steps, help="optimizer steps (%(default)s)")
    options = parser.parse_args(arguments)
    instruct(options.out_dir, replace(SETTINGS, num_steps=options.num_steps))


def _free(expressions: list[Expression]) -> list[Expression]:
    taken = {expression for split in arithmetic.split_expressions().values() for expression in split}
    return [expression for expression in expressions if expression not in taken]


def _stays_positive(expression: Expression) -> bool:
    first, steps = expression
    return all(arithmetic.value((first, steps[: place + 1])) >= 0 for place in range(len(steps)))


def _taken_prompts() -> set[tuple[str, str]]:
    return {(row["instruction"], row["input"]) for split in instructions.NUM_ROWS for row in instructions.rows(split)}


def _instruction(rng: random.Random, taken: set[tuple[str, str]]) -> Example:
    """An instruction of any family, in the shares of the data set, that is no row of it."""
    draws, counts = [draw for _, draw, _ in instructions.FAMILIES], [count for _, _, count in instructions.FAMILIES]
    while True:
        example = rng.choices(draws, counts)[0](rng)
        if (example.instruction, example.input) not in taken:
            return example


if __name__ == "__main__":
    main()
