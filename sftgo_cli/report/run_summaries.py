"""Reads a run's folder into what a comparison needs: the measured sets, the same before training, steps and tokens.

Results come from evaluation/<set>.json where `sftgo eval` wrote them, else from the last evaluation in metrics.jsonl; the
results before training from the evaluation at step 0 (`training.eval_on_start`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sftgo_cli import metrics_log, run_dir
from sftgo_cli.errors import UserError
from sftgo_cli.report.paired_answers import read_accepted
from sftgo_cli.report.run_tables import RunSummary

PREFIX = "eval_"


def summarize_run(folder: Path) -> RunSummary:
    """The summary of one run.

    Raises:
        UserError: the folder holds no run, or nothing was evaluated.
    """
    recipe = run_dir.read_resolved(folder)
    lines = metrics_log.read_metrics(folder / metrics_log.FILE_NAME)
    evaluations = [line for line in lines if line["event"] == "eval"]
    trained = [line for line in lines if line["event"] == "train"]
    sets = list(recipe["data"]["eval"])
    results = {name: _from_line(evaluations[-1], name) for name in sets} if evaluations else {}
    results |= _from_files(folder)
    if not results:
        fix = f"run sftgo eval {folder}" if sets else "its recipe has no data.eval: add a set and train again"
        raise UserError("nothing was evaluated in this run", str(folder), fix)
    before = [line for line in evaluations if line["step"] == 0]
    return RunSummary(
        name=folder.name,
        objective=objective_label(recipe),
        results=results,
        base_results={name: _from_line(before[0], name) for name in sets} if before else None,
        steps=lines[-1]["step"],
        tokens_seen=trained[-1]["tokens_seen"] if trained else 0,
        seconds=None,
        curation=curation_label(recipe),
        accepted=read_accepted(folder),
    )


def trained_run(folder: Path) -> dict[str, Any]:
    """What `sftgo train --json` says of a finished run: its folder, steps, and the last lines of its metrics."""
    lines = metrics_log.read_metrics(folder / metrics_log.FILE_NAME)
    last = {
        event: next((line for line in reversed(lines) if line["event"] == event), None) for event in ("train", "eval")
    }
    stages = run_dir.read_stages(folder) or {}
    return {"output_dir": folder, "finished_steps": stages.get("finished_steps"), "last": last}


def objective_label(recipe: dict[str, Any]) -> str:
    """`sft_go (mixing weight 0.9)`, `cross_entropy`."""
    objective = recipe["objective"]
    weight = objective.get("mixing_weight")
    return str(objective["name"]) + (f" (mixing weight {weight:g})" if weight is not None else "")


def curation_label(recipe: dict[str, Any]) -> str:
    """`s3ft (numeric)`; several one after the other; empty without a curation."""
    stages = recipe.get("curation") or []
    return ", ".join(
        f"{stage['name']} ({stage['judge']['name']})" if "judge" in stage else stage["name"] for stage in stages
    )


def _from_line(line: dict[str, Any], name: str) -> dict[str, Any]:
    """One set's results out of an `event: eval` line."""
    prefix = f"{PREFIX}{name}_"
    return {key.removeprefix(prefix): value for key, value in line.items() if key.startswith(prefix)}


def _from_files(folder: Path) -> dict[str, Any]:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "evaluation").glob("*.json"))
    }
