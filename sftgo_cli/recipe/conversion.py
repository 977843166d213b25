"""A configuration of TRL, axolotl, LLaMA-Factory or ms-swift -> a recipe that loads, and what could not be converted.

Keys go through the table of foreign keys; what is built differently (lists of data sets) through `converted_data.py`.
Defaults that differ between the tools are written out, so that the recipe trains what the configuration said. The
objective is plain cross-entropy, as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.check import Checker, checked
from sftgo_cli.recipe.converted_data import DATA_KEYS, Sources, data_sources
from sftgo_cli.recipe.dump import to_yaml
from sftgo_cli.recipe.faults import Fault, raise_faults
from sftgo_cli.recipe.foreign_keys import asks_for_nothing, foreign_keys
from sftgo_cli.recipe.foreign_tools import TOOLS, telltale_keys
from sftgo_cli.recipe.merging import written_out
from sftgo_cli.recipe.node import places, plain
from sftgo_cli.recipe.training_section import TrainingSection
from sftgo_cli.recipe.unknown_keys import MethodTables
from sftgo_cli.recipe.yaml_positions import parse_mapping, read_text

# What the tool does where its configuration is silent.
DEFAULTS: dict[str, dict[str, Any]] = {
    "trl": {
        "training.learning_rate": 2e-5,
        "training.lr_scheduler_type": "linear",
        "data.max_length": 1024,
        "data.packing": False,
        "tuning.name": "full",
        "training.gradient_checkpointing": True,
    },
    "axolotl": {
        "tuning.name": "full",
        "training.num_train_epochs": 1,
        "training.per_device_train_batch_size": 1,
        "data.packing": False,
        "data.max_length": 512,
    },
    "llamafactory": {
        "training.learning_rate": 5e-5,
        "training.lr_scheduler_type": "linear",
        "data.packing": False,
        "tuning.name": "lora",
        "tuning.r": 8,
        "tuning.lora_dropout": 0.0,
        "training.gradient_checkpointing": True,
    },
    "swift": {
        "training.learning_rate": 1e-4,
        "training.per_device_train_batch_size": 1,
        "data.packing": False,
        "tuning.name": "lora",
        "tuning.r": 8,
        "training.warmup_ratio": 0.05,
        "training.gradient_checkpointing": True,
    },
}
ORDER = ("model", "data", "objective", "tuning", "training")


@dataclass
class Conversion:
    """The recipe under construction: dotted keys of ours with values, and a line about everything that was left out."""

    tool: str
    settings: dict[str, Any]
    sources: Sources = field(default_factory=Sources)
    left_out: list[str] = field(default_factory=list)


def converted(path: Path, methods: MethodTables) -> tuple[str, str, list[str]]:
    """The recipe's text, the tool's name, and one line about everything that could not be converted.

    Raises:
        UserError: the file is no YAML or JSON mapping, or none of the four tools' configurations.
    """
    faults: list[Fault] = []
    config = plain(parse_mapping(read_text(path), str(path), path.parent, faults))
    raise_faults(faults, str(path))
    work = Conversion(tool := _tool(config, path), dict(DEFAULTS[tool]))
    work.sources = data_sources(tool, config, path.parent)
    work.left_out += work.sources.left_out
    _precision(config, work)
    done = {*DATA_KEYS[tool], *_per_epoch(config, work)}
    for key, value in config.items():
        if key not in done:
            _convert(key, value, work)
    _complete(work)
    recipe = _loadable(work, methods)
    return _text(recipe, work, path), TOOLS[tool], work.left_out


def _tool(config: Mapping[str, Any], path: Path) -> str:
    tool, count = telltale_keys(config)
    if not count:
        known = ", ".join(TOOLS.values())
        raise UserError(f"not a configuration of {known}", str(path), "give one of their YAML or JSON files")
    return tool


def _precision(config: Mapping[str, Any], work: Conversion) -> None:
    """bf16 and fp16 both switched off by name mean float32 there."""
    flags = [config[key] for key in ("bf16", "fp16", "bfloat16", "float16") if key in config]
    if "bf16" in config and flags and all(asks_for_nothing(flag) for flag in flags):
        work.settings["model.dtype"] = "float32"


def _per_epoch(config: Mapping[str, Any], work: Conversion) -> list[str]:
    """axolotl's evaluations and saves per epoch, as a share of the run; returns the keys that are done with."""
    done = []
    epochs = config.get("num_epochs") or DEFAULTS["axolotl"]["training.num_train_epochs"]
    for key, kind in (("evals_per_epoch", "eval"), ("saves_per_epoch", "save")):
        times = config.get(key)
        if isinstance(times, int) and times > 1 and isinstance(epochs, int | float):
            share = round(1 / (times * epochs), 6)
            work.settings |= {f"training.{kind}_strategy": "steps", f"training.{kind}_steps": share}
            done.append(key)
    return done


NESTED = {"peft_config": {"name": "finetuning_type"}, "quant_config": {"name": "quantization_method"}}


def _convert(key: str, value: Any, work: Conversion) -> None:
    if key in NESTED and isinstance(value, dict):  # LLaMA-Factory's second version groups its keys
        for name, one in value.items():
            _convert(str(NESTED[key].get(name, name)), one, work)
        return
    plain_key = key.lower().replace("-", "_")
    answer = foreign_keys().answer(plain_key, value)
    if answer is not None and answer.kind == "settings":
        if value is not None:
            work.settings |= answer.settings
    elif plain_key in TrainingSection.model_fields:
        if value is not None:
            work.settings[f"training.{plain_key}"] = value
    elif answer is not None:
        work.left_out.append(f"{key}: {_short(value)} - {answer.hint()}")
    elif not asks_for_nothing(value):
        work.left_out.append(f"{key}: {_short(value)} - not known here")


def _short(value: Any) -> str:
    text = str(value).replace("\n", " ")
    return text if len(text) <= 40 else f"{text[:37]}..."


def _complete(work: Conversion) -> None:
    """What must be there, what follows from something else, and what has no effect."""
    settings = work.settings
    settings.setdefault("training.output_dir", "runs/converted")
    settings.setdefault("objective.name", "cross_entropy")
    if "training.warmup_steps" in settings:
        settings.pop("training.warmup_ratio", None)
    if not work.sources.evaluation and not any(key.startswith("data.eval.") for key in settings):
        for key in ("training.eval_strategy", "training.eval_steps", "training.load_best_model_at_end"):
            settings.pop(key, None)  # there is nothing to evaluate on
    for kind in ("eval", "save"):
        if f"training.{kind}_steps" in settings:
            settings.setdefault(f"training.{kind}_strategy", "steps")
    if settings.get("tuning.name") == "full":
        kept = ("tuning.name", "tuning.param_dtype")
        for key in [key for key in settings if key.startswith("tuning.") and key not in kept]:
            value = settings.pop(key)
            if key not in DEFAULTS[work.tool]:
                work.left_out.append(f"{key}: {_short(value)} - all parameters are trained, so it has no effect")
    elif work.tool == "llamafactory" and "tuning.lora_alpha" not in settings:
        settings["tuning.lora_alpha"] = 2 * settings["tuning.r"]


def _nested(work: Conversion) -> dict[str, Any]:
    """The dotted settings and the data sets as a recipe's mappings, in the usual order."""
    recipe: dict[str, Any] = {section: {} for section in ORDER}
    recipe["data"]["train"] = work.sources.train or [{}]
    for key, value in work.settings.items():
        *parents, last = key.split(".")
        below: Any = recipe
        for parent in parents:
            below = below[int(parent)] if isinstance(below, list) else below.setdefault(parent, {})
        below[last] = value
    first = recipe["data"]["train"][0]
    for name, source in {**recipe["data"].pop("eval", {}), **work.sources.evaluation}.items():
        named = source if "path" in source or "fraction" in source else {"path": first.get("path"), **source}
        recipe["data"].setdefault("eval", {})[name] = named
    if not first.get("path"):
        first["path"] = "data/train.jsonl"
        work.left_out.append("the training data was not found - write its path to data.train")
    return recipe


def _loadable(work: Conversion, methods: MethodTables) -> dict[str, Any]:
    """The recipe without the values that it could not be loaded with, each of which is named."""
    recipe = _nested(work)
    for _attempt in range(100):
        faults: list[Fault] = []
        root = written_out(parse_mapping(to_yaml(recipe), "recipe", Path(), faults))
        checked(plain(root), Checker(places(root), methods), faults)
        if not faults:
            return recipe
        fault = faults[0]
        below: Any = recipe
        for part in fault.path[:-1]:
            below = below[part]
        value = below.pop(fault.path[-1], None) if isinstance(below, dict) and fault.path else None
        work.left_out.append(f"{'.'.join(map(str, fault.path))}: {_short(value)} - {fault.what}; {fault.fix}")
        if value is None:
            raise UserError(fault.what, "the converted recipe", fault.fix)
    return recipe


def _text(recipe: dict[str, Any], work: Conversion, path: Path) -> str:
    head = [
        f"# Converted from {path.name} ({TOOLS[work.tool]}). Check it with `sftgo validate`, train it with `sftgo train`.",
        "# Plain cross-entropy, as there; `objective: sft_go` trains the worst group of important tokens too.",
        *(["# Not converted:"] if work.left_out else []),
        *(f"#   {line}" for line in work.left_out),
    ]
    return "\n".join(head) + "\n" + to_yaml(recipe)
