"""The data sets that a configuration of another tool names, as sources of a recipe.

TRL names one by its keys or several in a list, axolotl lists them with their type, LLaMA-Factory refers to entries of
dataset_info.json, ms-swift writes `id:subset#number`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sftgo_cli.recipe.foreign_keys import asks_for_nothing, foreign_keys

# Keys that are read here and nowhere else.
DATA_KEYS: dict[str, tuple[str, ...]] = {
    "trl": ("datasets",),
    "axolotl": ("datasets", "test_datasets"),
    "llamafactory": ("dataset", "train_dataset", "eval_dataset", "dataset_dir"),
    "swift": ("dataset", "val_dataset"),
}
FORMATS = {
    "alpaca": "alpaca",
    "sharegpt": "sharegpt",
    "chat_template": "messages",
    "completion": "text",
    "openai": "messages",
}
CUSTOM_COLUMNS = {"field_instruction": "instruction", "field_input": "input", "field_output": "output"}
INFO_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}

Source = dict[str, Any]


@dataclass
class Sources:
    """Training sources, named evaluation sets, and what could not be said about them."""

    train: list[Source] = field(default_factory=list)
    evaluation: dict[str, Source] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def data_sources(tool: str, config: Mapping[str, Any], folder: Path) -> Sources:
    """What a configuration that lies in `folder` says about its data sets; empty where it names none here."""
    found = Sources()
    train_key, eval_key = {
        "trl": ("datasets", ""),
        "axolotl": ("datasets", "test_datasets"),
        "llamafactory": ("train_dataset" if "train_dataset" in config else "dataset", "eval_dataset"),
        "swift": ("dataset", "val_dataset"),
    }[tool]
    for key, is_train in ((train_key, True), (eval_key, False)):
        for number, entry in enumerate(_entries(config.get(key))):
            source = _source(tool, entry, config, folder, found.left_out)
            if is_train:
                found.train.append(source)
            else:
                found.evaluation["heldout" if number == 0 else f"heldout{number + 1}"] = source
    return found


def _entries(value: Any) -> list[Any]:
    """A list; a text with commas or blanks is one too."""
    if value is None:
        return []
    if isinstance(value, str):
        return [part for part in value.replace(",", " ").split() if part]
    return list(value) if isinstance(value, list) else [value]


def _source(tool: str, entry: Any, config: Mapping[str, Any], folder: Path, left_out: list[str]) -> Source:
    if tool == "llamafactory" and isinstance(entry, str):
        return _registered(entry, str(config.get("dataset_dir") or "data"), folder, left_out)
    if isinstance(entry, str):
        return _swift(entry)
    return _listed(entry, left_out) if isinstance(entry, dict) else {"path": str(entry)}


def _swift(text: str) -> Source:
    """`HF::owner/name:subset#500`."""
    text, _, count = text.removeprefix("HF::").removeprefix("MS::").partition("#")
    path, _, name = text.partition(":")
    source: Source = {"path": path}
    if name:
        source["name"] = name.split("/")[0]
    if count.isdigit() and int(count):
        source["max_samples"] = int(count)
    return source


def _listed(entry: Mapping[str, Any], left_out: list[str]) -> Source:
    """An entry of `datasets` of axolotl or TRL."""
    files = entry.get("data_files")
    file = files[0] if isinstance(files, list) and files else files
    local = isinstance(file, str) and str(entry.get("path")) in ("json", "csv", "parquet", "text", "None")
    source: Source = {"path": file if local else entry.get("path")}
    if isinstance(files, list) and len(files) > 1:
        left_out.append(f"datasets: {source['path']}: data_files - give each file an entry of data.train")
    source |= {key: entry[key] for key in ("name", "split", "revision") if entry.get(key) is not None}
    kind = entry.get("type")
    columns: dict[str, str] = {}
    mapped = entry.get("message_property_mappings")
    if kind == "chat_template" and isinstance(mapped, dict) and mapped.get("role") == "from":
        source["format"] = "sharegpt"
    elif isinstance(kind, dict):
        source["format"] = "alpaca"
        columns |= {ours: kind[theirs] for theirs, ours in CUSTOM_COLUMNS.items() if isinstance(kind.get(theirs), str)}
    elif isinstance(kind, str) and kind.split(".")[0].split(":")[0] in FORMATS:
        source["format"] = FORMATS[kind.split(".")[0].split(":")[0]]
    elif kind is not None:
        left_out.append(f"datasets: {source['path']}: type: {kind} - the format is found from the columns; check it")
    columns |= _columns(entry, source.get("format"))
    columns = {ours: theirs for ours, theirs in columns.items() if ours != theirs}
    if columns:
        source["columns"] = columns
    known = {"path", "name", "split", "revision", "type", "data_files", "ds_type", "message_property_mappings"}
    for key in (key for key in entry if key not in known and not key.startswith("field")):
        answer = foreign_keys().answer(key, entry[key])
        if not asks_for_nothing(entry[key]) and (answer is None or answer.kind != "settings" or answer.settings):
            hint = answer.hint() if answer is not None else "look for it in docs/data.md"
            left_out.append(f"datasets: {source['path']}: {key}: {str(entry[key])[:40]} - {hint}")
    return source


def _columns(entry: Mapping[str, Any], row_format: str | None) -> dict[str, str]:
    messages = entry.get("field_messages")
    ours = "conversations" if row_format == "sharegpt" else "messages"
    columns = {ours: messages} if isinstance(messages, str) else {}
    text = entry.get("field")
    return columns | ({"text": text} if isinstance(text, str) else {})


def _registered(name: str, dataset_dir: str, folder: Path, left_out: list[str]) -> Source:
    """A data set of LLaMA-Factory by its entry in dataset_info.json, where that can be read."""
    if "/" in name or "." in name:  # a path or a Hub id
        if name.endswith((".yaml", ".yml")):
            left_out.append(f"train_dataset: {name} - a list of data sets: give each an entry of data.train")
        return {"path": name}
    info = _dataset_info(dataset_dir, folder).get(name)
    if not isinstance(info, dict):
        left_out.append(f"dataset: {name} - an entry of dataset_info.json, which was not found: write its path")
        return {"path": f"{dataset_dir}/{name}.json"}
    source: Source = {}
    if isinstance(info.get("file_name"), str):
        source["path"] = f"{dataset_dir}/{info['file_name']}"
    else:
        source["path"] = info.get("hf_hub_url") or info.get("ms_hub_url") or name
    source |= {ours: info[theirs] for theirs, ours in (("subset", "name"), ("split", "split")) if info.get(theirs)}
    if info.get("formatting") in ("sharegpt", "openai"):
        source["format"] = FORMATS[info["formatting"]]
    columns = info.get("columns") or {}
    named = {INFO_COLUMNS[theirs]: column for theirs, column in columns.items() if theirs in INFO_COLUMNS}
    if source.get("format") == "messages" and "conversations" in named:
        named["messages"] = named.pop("conversations")
    named = {ours: column for ours, column in named.items() if ours != column}
    return source | ({"columns": named} if named else {})


def _dataset_info(dataset_dir: str, folder: Path) -> dict[str, Any]:
    for base in (Path(dataset_dir), folder / dataset_dir, folder):
        try:
            found = json.loads((base / "dataset_info.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return {}
