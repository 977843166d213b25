"""Recipes to start from: the commented one that `sftgo init` writes, and those shipped with the source.

The commented recipe is made from the schema and the methods' options, so it names every key that exists: the ones most
runs change are set, the others stand there as comments with their defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sftgo_cli.errors import UserError, nearest
from sftgo_cli.recipe.data_section import DataSection, EvalSource, TrainSource
from sftgo_cli.recipe.grouping_section import GroupingSection
from sftgo_cli.recipe.layers import read_layers
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.recipe.schema import DEFAULT_METHODS, EvaluationSection
from sftgo_cli.recipe.training_section import TrainingSection
from sftgo_cli.recipe.unknown_keys import MethodTables

HEAD = """\
# A recipe for sftgo. Check it with `sftgo validate`, train it with `sftgo train`; what is commented out is the default.
# Any key can be given on the command line: `sftgo train recipe.yaml training.max_steps=20 objective=cross_entropy`.
# extends: other.yaml  # inherit from another recipe; what stands here wins
"""
SECTION_COMMENTS = {
    "model": "Which base model",
    "data": "Training and evaluation rows, and how they become tokens",
    "curation": "Data stages from rows to rows, before scoring",
    "scoring": "How important each token is",
    "grouping": "How token scores become groups",
    "objective": "The loss; `cross_entropy` is standard supervised fine-tuning",
    "tuning": "Which parameters are trained",
    "training": "The Hugging Face Trainer's own option names",
    "evaluation": "What `sftgo eval` measures",
}
COMMENT_COLUMN = 44


def starter_recipe(
    methods: MethodTables,
    *,
    model: str = "builtin:tiny",
    train: str = "builtin:instructions",
    output_dir: str = "runs/first",
) -> str:
    """The text of a commented recipe with every section and key; it loads as it stands.

    The built-in data set brings a held-out split; of other training rows 5 % are held out.
    """
    heldout: dict[str, Any] = (
        {"path": train, "split": "heldout"} if train.startswith("builtin:") else {"fraction": 0.05}
    )
    is_small = model.startswith("builtin:")  # trained whole, in about a minute on two cores
    tuning = "full" if is_small else DEFAULT_METHODS["tuning"]
    blocks = [
        HEAD,
        _block("model", _keys(ModelSection, {"name_or_path": model, "dtype": "float32" if is_small else "bfloat16"})),
        _block("data", _data(train, heldout, 256 if is_small else 1024)),
        _comment("curation") + "curation: []\n",
        _method("scoring", DEFAULT_METHODS["scoring"], methods),
        _block("grouping", _keys(GroupingSection, {"important_fraction": 0.3})),
        _method("objective", DEFAULT_METHODS["objective"], methods),
        _method("tuning", tuning, methods),
        _block("training", _keys(TrainingSection, _training(output_dir, is_small))),
        _block("evaluation", _keys(EvaluationSection, {"sets": ["heldout"]})),
    ]
    return "\n".join(blocks)


def _training(output_dir: str, is_small: bool) -> dict[str, Any]:
    return {
        "output_dir": output_dir,
        "num_train_epochs": 5 if is_small else 3,
        "learning_rate": 2e-3 if is_small else 1e-4,
        "per_device_train_batch_size": 4 if is_small else 8,
        "gradient_accumulation_steps": 1 if is_small else 4,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1 if is_small else 0.03,
        "seed": 42,
        "report_to": "none",
        "eval_on_start": True,
    }


def _data(train: str, heldout: Mapping[str, Any], max_length: int) -> list[str]:
    lines = ["train:"]
    source = _keys(TrainSource, {"path": train})
    lines += [("  - " if index == 0 else "    ") + line for index, line in enumerate(source)]
    lines += ["eval:", "  heldout:"]
    lines += ["    " + line for line in _keys(EvalSource, heldout)]
    rest = _keys(DataSection, {"max_length": max_length, "train_on": "assistant", "packing": True})
    return lines + [line for line in rest if not line.startswith(("# train:", "# eval:"))]


def _method(kind: str, name: str, methods: MethodTables) -> str:
    options = methods.options_of(kind, name)
    assert options is not None, name
    others = ", ".join(other for other in methods.names(kind) if other != name)
    lines = [_line("name", name, f"or {others}; see `sftgo methods`" if others else "see `sftgo methods`")]
    return _block(kind, lines + _keys(options, {}))


def _block(section: str, lines: list[str]) -> str:
    return _comment(section) + f"{section}:\n" + "".join(f"  {line}\n" for line in lines)


def _comment(section: str) -> str:
    return f"# {SECTION_COMMENTS[section]}.\n"


def _keys(model: type[BaseModel], chosen: Mapping[str, Any]) -> list[str]:
    """One line per key: the chosen ones set, in their order, then the others commented out with their defaults."""
    fields = model.model_fields
    lines = [_line(key, value, fields[key].description or "") for key, value in chosen.items()]
    for key, field in fields.items():
        if key not in chosen:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            lines.append("# " + _line(key, default, field.description or ""))
    return lines


def _line(key: str, value: Any, comment: str) -> str:
    text = f"{key}: {flow(value)}"
    return f"{text:<{COMMENT_COLUMN}}  # {' '.join(comment.split())}" if comment else text


def flow(value: Any) -> str:
    """A value on one line of YAML; JSON is YAML, and a text stays unquoted where that cannot be misread."""
    from sftgo_cli.recipe.scalars import scalar

    if isinstance(value, str) and isinstance(scalar(value), str):
        is_plain = value.replace("builtin:", "", 1).replace("/", "").replace("_", "").replace("-", "").isalnum()
        return value if is_plain and not value.startswith("-") else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def shipped_recipes() -> dict[str, Path]:
    """Name (`sft_go/alpaca`) and file of each recipe in the source's `recipes/`; empty when installed without it."""
    root = Path(__file__).resolve().parents[2] / "recipes"
    is_source = root.is_dir() and (root.parent / "pyproject.toml").is_file()
    files = sorted(root.rglob("*.yaml")) if is_source else []
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def copies_of(name: str) -> dict[str, str]:
    """The text of a shipped recipe under the name "", and of every recipe that it extends under its file name.

    Raises:
        UserError: there is no such shipped recipe.
    """
    shipped = shipped_recipes()
    if name not in shipped:
        close = nearest(name, list(shipped))
        fix = f"did you mean {close}?" if close else f"shipped: {', '.join(shipped) or 'none in this installation'}"
        raise UserError(f"there is no shipped recipe {name!r}", "--from", fix)
    layers = read_layers(shipped[name], [])
    parents = {file.name: file.read_text(encoding="utf-8") for file in layers.files[1:]}
    return {"": layers.text, **parents}
