"""Writes the table of docs/performance.md from benchmarks/results/*.json, between the two marker lines.

python benchmarks/report.py [--check]        # --check: fail where the page is out of date
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- table: made by benchmarks/report.py -->", "<!-- end of table -->"
NAMES = ("training", "loss_head", "tfidf", "startup", "step_scope")


def loaded() -> list[dict[str, Any]]:
    """The results that are there, in the table's order."""
    paths = [ROOT / "benchmarks" / "results" / f"{name}.json" for name in NAMES]
    found = [json.loads(path.read_text()) for path in paths if path.is_file()]
    return [result for result in found if "ratios" in result]  # not those of an older version


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if round(abs(value)) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio_table(results: list[dict[str, Any]]) -> list[str]:
    """Every figure that has a target."""
    lines = ["| what | measured | target | |", "| --- | --- | --- | --- |"]
    for result in results:
        for item in result["ratios"]:
            sign = "at most" if item["at_most"] else "at least"
            verdict = "met" if item["met"] else "**missed**"
            lines.append(f"| {item['what']} | {number(item['value'])} | {sign} {item['target']:,g} | {verdict} |")
    return lines


def side_table(figures: dict[str, Any]) -> list[str]:
    """Training: every side."""
    lines = [
        "| side | non-padding tokens/s | peak memory above the imports, MB | start to first step, s | first loss |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, side in figures.items():
        if "tokens_per_second" in side:
            values = (side[key] for key in ("tokens_per_second", "peak_mb_above_imports", "first_step_seconds"))
            lines.append(f"| {name} | {' | '.join(map(number, values))} | {side['first_loss']:.5f} |")
    return lines


def head_table(figures: dict[str, Any]) -> list[str]:
    """Loss head: every variant."""
    lines = ["| tokens, variant | seconds | peak memory above the inputs, MB |", "| --- | --- | --- |"]
    for name, found in figures.items():
        if "peak_mb" in found:
            lines.append(f"| {name} | {number(found['seconds'])} | {number(found['peak_mb'])} |")
    return lines


def step_table(figures: dict[str, Any]) -> list[str]:
    """Objectives that need the whole step: their time over SFT-GO per sample."""
    names = list(dict.fromkeys(name.rpartition(", ")[0] for name in figures))
    splits = list(dict.fromkeys(name.rpartition(", ")[2] for name in figures))
    lines = [f"| objective | {' | '.join(splits)} |", "| --- |" + " --- |" * len(splits)]
    for name in names:
        values = (f"{figures[f'{name}, {split}']['over_per_sample']:.2f}" for split in splits)
        lines.append(f"| {name} | {' | '.join(values)} |")
    return lines


def footnote(result: dict[str, Any]) -> str:
    """Where a result comes from."""
    machine, versions = result["machine"], result["versions"]
    wanted = ("python", "torch", "transformers", "trl", "numpy", "scikit-learn")
    packages = ", ".join(f"{name} {versions[name]}" for name in wanted if name in versions)
    cores = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    return f"- `{result['command']}`: {result['date']}, {cores} ({', '.join(machine['instructions'])}); {packages}"


def table() -> str:
    """Everything between the markers."""
    results = loaded()
    by_name = {result["name"]: result for result in results}
    lines = ratio_table(results)
    if "training" in by_name:
        lines += ["", "Training, every side:", "", *side_table(by_name["training"]["figures"])]
    if "loss_head" in by_name:
        lines += ["", "The loss head alone, every variant:", "", *head_table(by_name["loss_head"]["figures"])]
    if "step_scope" in by_name:
        title = "Time of a whole training step over SFT-GO's per sample, where the whole step is needed first:"
        lines += ["", title, "", *step_table(by_name["step_scope"]["figures"])]
    lines += ["", "Measured by", "", *map(footnote, results)]
    return "\n".join(lines)


def main() -> None:
    """Rewrite the page, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    written = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if check and written != page:
        raise SystemExit(f"{PAGE.relative_to(ROOT)} is out of date: python benchmarks/report.py")
    PAGE.write_text(written, encoding="utf-8")
    parts = {result["name"]: result.get("seconds", 0.0) for result in loaded()}
    print(
        ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts.items()), f"- {sum(parts.values()):.0f} s in all"
    )


if __name__ == "__main__":
    main()
