"""Mutated recipes: nothing but a recipe or a UserError comes out, and a known-bad one is never accepted."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.dump import to_yaml
from sftgo_cli.recipe.load import load_recipe

SOUND = """\
# a recipe with something of everything
model: {name_or_path: org/model, revision: 1e10, dtype: bfloat16}
data:
  train:
    - {path: a.jsonl, weight: 1.5, columns: {prompt: question}}
    - &two {path: org/data, name: main, max_samples: 100}
  eval:
    heldout: {fraction: 0.02}
    other: *two
  max_length: 512
  chat_template: |
    {% for m in messages %}{{ m.content }}
    {% endfor %}
curation: [{name: s3ft, num_samples: 4, judge: {name: tests, timeout: 2.5}}]
scoring: {name: tfidf, unit: word}
grouping: {boundaries: [0.2, 0.5], special_tokens: scored}
objective:
  name: sft_go
  mixing_weight: 0.9
tuning: {name: lora, r: 8, target_modules: [q_proj, "v_proj"]}
training:
  output_dir: runs/x
  learning_rate: 1.0e-5
  max_steps: 20
  gradient_checkpointing: true
  lr_scheduler_kwargs: {num_cycles: 2}
  report_to: [wandb, tensorboard]
evaluation: {sets: [heldout, other], tasks: []}
"""

NASTY = [
    "[",
    "]",
    "{",
    "}",
    ":",
    ": ",
    "- ",
    "\n",
    "\t",
    "  ",
    "#",
    "'",
    '"',
    "&a ",
    "*a",
    "*two",
    "!",
    "!!int ",
    "|",
    ">",
]
NASTY += [
    "%",
    "@",
    "`",
    "?",
    ",",
    "---\n",
    "...\n",
    "<<",
    "~",
    "null",
    "true",
    "no",
    "-1",
    "0",
    "1e400",
    ".nan",
    "9" * 400,
]
NASTY += ["\\x00", "\x00", "\x85", "\ufeff", "é", "🙂", "../../", "/", "extends: recipe.yaml\n", "x" * 300, "1_0", "\r"]
KEYS = ["model", "data.train", "data.train.0", "data.eval.x", "objective", "objective.name", "tuning.r", "curation.0"]
KEYS += ["training.seed", "grouping", "data.train.7.path", "a.b.c", "", ".", "evaluation.sets", "training.report_to.0"]


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            text = text[:at] + rng.choice(NASTY) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 12) :]
        elif kind == 2:
            text = text[:at] + chr(rng.choice([rng.randrange(128), rng.randrange(0xD800)])) + text[at + 1 :]
        else:
            lines = text.splitlines(keepends=True) or [""]
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            if kind == 3:
                lines[i], lines[j] = lines[j], lines[i]
            elif kind == 4:
                lines.insert(i, lines[j])
            else:
                words = lines[i].split(" ")
                words[rng.randrange(len(words))] = rng.choice(NASTY)
                lines[i] = " ".join(words)
            text = "".join(lines)
    return text


def overrides(rng: random.Random) -> list[str]:
    values = [*NASTY, "sft_go", "[1, 2]", "{name: lora}", "{path: x}", "x.jsonl"]
    return [f"{rng.choice(KEYS)}={rng.choice(values)}" for _ in range(rng.choice([0, 0, 0, 1, 2]))]


def paths_in(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths_in(value, (*path, key))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


def is_free(path: tuple[Any, ...]) -> bool:
    """Below keys whose names or values are the user's own, nothing can be known to be wrong."""
    named = [part for part in path if isinstance(part, str)]
    return "columns" in named[:-1] or "lr_scheduler_kwargs" in named[:-1] or path[:2] == ("data", "eval") == path[:-1]


def misspelled(data: Any, rng: random.Random) -> Any:
    """`data` with one key that no recipe has."""
    data = copy.deepcopy(data)
    path = rng.choice([p for p in paths_in(data) if isinstance(p[-1], str) and not is_free(p)])
    parent = at(data, path[:-1])
    place = rng.randrange(len(path[-1]) + 1)
    parent[path[-1][:place] + rng.choice(["zq", "_x_", "Q"]) + path[-1][place:]] = parent.pop(path[-1])
    return data


def mistyped(data: Any, rng: random.Random) -> Any:
    """`data` with one number, truth value or fixed choice that cannot be meant."""
    data = copy.deepcopy(data)
    candidates = [p for p in paths_in(data) if isinstance(at(data, p), int | float) and not is_free(p)]
    path = rng.choice(candidates)
    at(data, path[:-1])[path[-1]] = rng.choice(["abc", [1, {}], {"k": 1}, "1x", -1e30, "no"])
    return data


def check_text(folder: Path, methods: Any, seed: int) -> bool:
    rng = random.Random(seed)
    path = folder / "recipe.yaml"
    path.write_bytes(mutated(SOUND, rng).encode("utf-8", "surrogatepass"))
    try:
        load_recipe(path, overrides(rng), methods)
    except UserError as error:
        assert str(error)  # noqa: PT017
        return False
    return True


def check_known_bad(folder: Path, methods: Any, sound: Any, seed: int) -> None:
    rng = random.Random(seed)
    path = folder / "recipe.yaml"
    path.write_text(to_yaml(rng.choice([misspelled, mistyped])(sound, rng)))
    with pytest.raises(UserError, match=r"recipe\.yaml:\d+:\d+"):
        load_recipe(path, [], methods)


@pytest.fixture
def sound(tmp_path: Path, methods: Any) -> Any:
    path = tmp_path / "sound.yaml"
    path.write_text(SOUND)
    return load_recipe(path, [], methods).resolved


def test_mutated_recipes_end_in_a_recipe_or_a_user_error(tmp_path: Path, methods: Any) -> None:
    accepted = [check_text(tmp_path, methods, seed) for seed in range(300)]
    assert 10 < sum(accepted) < 290  # both outcomes are really reached


def test_known_bad_recipes_are_never_accepted(tmp_path: Path, methods: Any, sound: Any) -> None:
    for seed in range(100):
        check_known_bad(tmp_path, methods, sound, seed)


@pytest.mark.slow
def test_ten_thousand_mutated_recipes(tmp_path: Path, methods: Any) -> None:
    for seed in range(1_000, 11_000):
        check_text(tmp_path, methods, seed)


@pytest.mark.slow
def test_three_thousand_known_bad_recipes(tmp_path: Path, methods: Any, sound: Any) -> None:
    for seed in range(1_000, 4_000):
        check_known_bad(tmp_path, methods, sound, seed)
