"""README.md of a run: what was trained, on what, how, and what it measured; Hub metadata on top. No local paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def model_card(resolved: dict[str, Any], evaluations: list[dict[str, Any]], versions: dict[str, Any]) -> str:
    """The card's Markdown.

    Args:
        resolved: the resolved recipe.
        evaluations: the `event: eval` lines of metrics.jsonl, oldest first.
        versions: package versions.
    """
    base = _public(resolved["model"]["name_or_path"])
    metadata: dict[str, Any] = {"library_name": "transformers", "tags": ["sftgo", resolved["objective"]["name"]]}
    if base == resolved["model"]["name_or_path"] and ":" not in base:
        metadata["base_model"] = base
    if resolved["tuning"]["name"] != "full":
        metadata["library_name"] = "peft"
    sources = ", ".join(_public(source["path"]) for source in resolved["data"]["train"])
    settings = ", ".join(f"{key} {value}" for key, value in resolved["objective"].items() if key != "name")
    training = resolved["training"]
    lines = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---",
        f"# {Path(training['output_dir']).name}",
        f"Fine-tuned from {base} on {sources} with sftgo.",
        f"- objective: {resolved['objective']['name']}" + (f" ({settings})" if settings else ""),
        f"- token importance: {resolved['scoring']['name']}",
        f"- tuning: {resolved['tuning']['name']}",
        f"- learning rate {training['learning_rate']}, {training['lr_scheduler_type']} schedule, seed {training['seed']}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in versions.items() if version)}",
        "",
        *_results(evaluations),
    ]
    return "\n".join(lines) + "\n"


def _public(name: str) -> str:
    """A Hub id or builtin name as it is, a local path as its last part only."""
    local = name.startswith(("/", ".", "~")) or name.count("/") > 1
    return Path(name).name if local else name


def _results(evaluations: list[dict[str, Any]]) -> list[str]:
    if not evaluations:
        return []
    last = evaluations[-1]
    names = [
        key[5:-5] for key in last if key.startswith("eval_") and key.endswith("_loss") and "worst_group" not in key
    ]
    rows = [
        f"| {name} | {last[f'eval_{name}_loss']:.4f} | {last[f'eval_{name}_perplexity']:.3f} "
        f"| {last[f'eval_{name}_worst_group_loss']:.4f} | {last[f'eval_{name}_token_accuracy']:.3f} |"
        for name in names
        if last[f"eval_{name}_loss"] is not None
    ]
    header = [
        "| held-out set | loss | perplexity | worst group loss | token accuracy |",
        "| --- | --- | --- | --- | --- |",
    ]
    return [f"Measured after step {last['step']}:", "", *header, *rows]
