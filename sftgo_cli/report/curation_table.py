"""Where the targets of curated rows come from: shares as in S3FT's table 3, why answers were rejected, and examples."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.report.inspect_html import Beside
from sftgo_cli.report.number_text import count_text, share_text

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

ORDER = ("model", "paraphrase", "gold")
STYLES = {"model": "green", "paraphrase": "cyan", "gold": "yellow"}
MEANINGS = {
    "model": "the model's own answer",
    "paraphrase": "its paraphrase of gold",
    "gold": "the given answer",
}
ATTEMPTS = ("own_answer", "paraphrase")
REASONS_SHOWN = 5
NUMBER = re.compile(r"-?\d+(?:[.,/]\d+)*")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")

Row = dict[str, Any]


def read_provenance(file: Path) -> list[Row]:
    """The rows of a curated source's provenance.jsonl."""
    with file.open(encoding="ascii") as lines:
        return [json.loads(line) for line in lines]


def shares_table(label: str, rows: Sequence[Row]) -> Table:
    """One line per target source: rows, share, and how likely the base model finds gold and the chosen target."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    weighed = any(row.get("target_log_probability") is not None for row in rows)
    table = Table(title=f"Targets of {label}", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("target")
    table.add_column("", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    if weighed:
        table.add_column("log p/token\nof gold", justify="right")
        table.add_column("of target", justify="right")
    counted = Counter(str(row["target_source"]) for row in rows)
    for source in [*ORDER, *sorted(counted.keys() - set(ORDER))]:
        chosen = [row for row in rows if row["target_source"] == source]
        if not chosen and source == "paraphrase" and all(row.get("paraphrase_accepted") is None for row in rows):
            continue
        cells = [count_text(len(chosen)), share_text(len(chosen), len(rows))]
        table.add_row(
            Text(source, style=STYLES.get(source, "")), MEANINGS.get(source, ""), *cells, *_weights(chosen, weighed)
        )
    table.add_section()
    table.add_row("all", "", count_text(len(rows)), "", *_weights(rows, weighed))
    return table


def _weights(rows: Sequence[Row], weighed: bool) -> list[str]:
    if not weighed:
        return []
    return [_number_text(_mean_log_probability(rows, name)) for name in ("gold", "target")]


def _mean_log_probability(rows: Iterable[Row], name: str) -> float | None:
    """Sum of the log-probabilities over the number of tokens of all rows that have one."""
    found = [row for row in rows if row.get(f"{name}_log_probability") is not None]
    tokens = sum(row[f"{name}_num_tokens"] for row in found)
    return sum(row[f"{name}_log_probability"] for row in found) / tokens if tokens else None


def _number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def rejection_lines(rows: Sequence[Row]) -> list[str]:
    """Who answered and judged, how many answers were accepted, and the most frequent reasons for rejecting the others."""
    first = rows[0] if rows else {}
    lines = [f"answers by {first['generator']}, judged by {first['judge']}"] if first.get("judge") else []
    for name in ATTEMPTS:
        judged = [row for row in rows if row.get(f"{name}_accepted") is not None]
        if not judged:
            continue
        rejected = [str(row[f"{name}_verdict"]) for row in judged if not row[f"{name}_accepted"]]
        what = "own answers" if name == "own_answer" else "paraphrases"
        lines.append(f"{len(judged):,} {what}: {len(judged) - len(rejected):,} accepted, {len(rejected):,} rejected")
        kinds = Counter(_kind(reason) for reason in rejected).most_common(REASONS_SHOWN)
        lines += [f"  {count:,}  {reason}" for reason, count in kinds]
    rejected = [reason for row in rows for reason in row.get("rejected") or ()]
    if rejected:
        lines.append(f"{len(rejected):,} sampled answers rejected")
        lines += [
            f"  {count:,}  {reason}" for reason, count in Counter(map(_kind, rejected)).most_common(REASONS_SHOWN)
        ]
    return lines


def _kind(reason: str) -> str:
    """A reason without what is particular to its row: `got 17, gold is 18` -> `got …, gold is …`."""
    return NUMBER.sub("…", QUOTED.sub("…", reason))


def examples(rows: Sequence[Row]) -> list[RenderableType]:
    """The first row of every target source, gold and target side by side."""
    firsts = {source: next((row for row in rows if row["target_source"] == source), None) for source in ORDER}
    return [side_by_side(row) for row in firsts.values() if row is not None]


def side_by_side(row: Row) -> Group:
    """A curated row: its prompt, then gold and the chosen target beside each other, with the verdicts."""
    from rich import box
    from rich.console import Group
    from rich.padding import Padding
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    from sftgo_cli.report.visible_text import visible

    source = str(row["target_source"])
    headline = Text.assemble(str(row["row_id"]), "  target: ", (source, STYLES.get(source, "")))
    prompt = Padding(Text(visible(str(row["prompt"])), style="dim"), (0, 0, 0, 2))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 1), expand=True)
    for title, name in (("gold", "gold"), (f"target ({MEANINGS.get(source, source)})", "target")):
        table.add_column(Text(f"{title}{_likelihood_text(row, name)}"), ratio=1, overflow="fold")
    table.add_row(Text(visible(str(row["gold"]))), Text(visible(str(row["target"]))))
    return Group(Rule(headline, align="left", style="dim"), prompt, table, *_verdict_lines(row))


def beside_target(row: Row) -> Beside:
    """Gold beside the target, for the page of `sftgo inspect --html`."""
    source = str(row["target_source"])
    verdicts = [
        f"{name.replace('_', ' ')} {'accepted' if row[f'{name}_accepted'] else 'rejected'} ({row[f'{name}_verdict']})"
        for name in ATTEMPTS
        if row.get(f"{name}_accepted") is not None
    ]
    own_note = "; ".join([_likelihood_text(row, "target").strip(), *verdicts]).strip("; ")
    title = f"target: {MEANINGS.get(source, source)}"
    return Beside("gold", _likelihood_text(row, "gold").strip(), str(row["gold"]), title, own_note)


def _likelihood_text(row: Row, name: str) -> str:
    total, tokens = row.get(f"{name}_log_probability"), row.get(f"{name}_num_tokens")
    return f"  log p {total:.1f} over {tokens} tokens" if total is not None and tokens else ""


def _verdict_lines(row: Row) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    from sftgo_cli.report.visible_text import visible

    lines: list[RenderableType] = []
    for name in ATTEMPTS:
        if row.get(f"{name}_accepted") is not None:
            verdict = "accepted" if row[f"{name}_accepted"] else "rejected"
            what = "own answer" if name == "own_answer" else "paraphrase"
            said = "" if row[f"{name}_accepted"] else f": {visible(str(row[name]))}"
            text = Text(f"{what} {verdict} by {row['judge']} ({row[f'{name}_verdict']}){said}", style="dim")
            lines.append(Padding(text, (0, 0, 0, 2)))
    return [*lines, Text("")]
