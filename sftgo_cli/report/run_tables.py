"""Tables of held-out results: one run's evaluation, and several runs side by side.

A result is what `evaluation.heldout` measures of one set: loss, perplexity, token_accuracy, num_tokens, num_rows,
worst_group_loss, group_loss/<k>, group_tokens/<k>; any of them may be None. `run_sentences.py` says the same in words.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sftgo_cli.report.column_blocks import ColumnBlocks
from sftgo_cli.report.group_names import group_name
from sftgo_cli.report.number_text import UNDEFINED, count_text, value_text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Result = Mapping[str, Any]
GROUP_LOSS = "group_loss/"
BETTER, WORSE = "green", "red"
LONGEST_NAME_NARROW = 11
LONGEST_NAME = 17  # columns of a run's name; a longer one takes several lines
ROUNDS_TO_ZERO = 0.0005  # a relative difference that would be printed as 0.0%


@dataclass(frozen=True)
class RunSummary:
    """What a comparison knows of one run; `results` and `base_results` map a set's name to its result."""

    name: str
    objective: str  # for people: `sft_go (mixing weight 0.9)`
    results: Mapping[str, Result]
    base_results: Mapping[str, Result] | None  # the same sets before training
    steps: int
    tokens_seen: int
    seconds: float | None
    curation: str = ""  # for people: `s3ft (numeric)`; empty without one
    accepted: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)  # set -> question -> answered right


@dataclass(frozen=True)
class Metric:
    """One line of the comparison: its key in a result, its label, and which direction is better."""

    key: str
    label: str
    higher_is_better: bool = False
    decimals: int = 4


def metrics_of(num_groups: int) -> list[Metric]:
    """What is compared, in the order it is shown: overall first, then the groups from the most important one."""
    groups = [
        Metric(f"{GROUP_LOSS}{group}", f"loss, {group_name(group, num_groups)}")
        for group in reversed(range(num_groups))
        if num_groups > 1
    ]
    return [
        Metric("loss", "loss"),
        Metric("perplexity", "perplexity", decimals=3),
        Metric("token_accuracy", "token accuracy", higher_is_better=True),
        Metric("worst_group_loss", "worst group's loss"),
        *groups,
    ]


ACCURACY = Metric("answer_accuracy", "answers right", higher_is_better=True)


def shown_metrics(results: Sequence[Result]) -> list[Metric]:
    """The metrics of a table: the accuracy of answers first, where any was measured."""
    answered = any(number(result, ACCURACY.key) is not None for result in results)
    return [*([ACCURACY] if answered else []), *metrics_of(num_groups_in(results))]


def number(result: Result | None, key: str) -> float | None:
    """A finite value of a result, or None."""
    value = None if result is None else result.get(key)
    return float(value) if value is not None and math.isfinite(value) else None


def num_groups_in(results: Sequence[Result]) -> int:
    """The number of groups that the results have losses for."""
    return max((sum(key.startswith(GROUP_LOSS) for key in result) for result in results), default=0)


def shared_sets(runs: Sequence[RunSummary]) -> list[str]:
    """Every set that any run was measured on, in the order they are met."""
    return list(dict.fromkeys(name for run in runs for name in run.results))


def evaluation_table(results: Mapping[str, Result]) -> ColumnBlocks:
    """Metrics below each other, evaluation sets next to each other; losses in nats per supervised token."""

    def build(columns: Sequence[int], is_last: bool) -> Table:
        names = [list(results)[column] for column in columns]
        return _evaluation_block({name: results[name] for name in names}, shown_metrics(list(results.values())))

    return ColumnBlocks(build, len(results))


def _evaluation_block(results: Mapping[str, Result], metrics: Sequence[Metric]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Held-out loss (nats per token)", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    for name in results:
        table.add_column(Text(name, overflow="fold"), justify="right", overflow="fold")
    for metric in metrics:
        values = (number(result, metric.key) for result in results.values())
        table.add_row(metric.label, *(value_text(value, metric.decimals) for value in values))
    table.add_row("supervised tokens", *(_count(result.get("num_tokens")) for result in results.values()))
    return table


def _count(count: int | None) -> str:
    return UNDEFINED if count is None else count_text(count)


def comparison_table(runs: Sequence[RunSummary]) -> ColumnBlocks:
    """Metrics below each other per set, runs next to each other, each later run with its difference to the first.

    A column "before training" comes first where every run started from the same results. Runs that do not fit next to
    each other follow in further blocks, each beginning with the first run.
    """
    base = same_base(runs)
    # The first run stands in every block; what was before training is one more column, in the first block.
    columns: list[RunSummary | None] = [runs[0], *([None] if base is not None else []), *runs[1:]]

    def build(chosen: Sequence[int], is_last: bool, narrow: bool = False) -> Table:
        shown = [columns[number] for number in chosen]
        here = base if None in shown else None
        return _comparison_block(runs, [run for run in shown if run is not None], here, is_last, narrow)

    return ColumnBlocks(build, len(columns), repeated=1, build_narrow=functools.partial(build, narrow=True))


def _comparison_block(
    runs: Sequence[RunSummary],
    shown: Sequence[RunSummary],
    base: Mapping[str, Result] | None,
    is_last: bool,
    narrow: bool,
) -> Table:
    """One block; a narrow one has differences below the values and shorter lines of names."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    longest = LONGEST_NAME_NARROW if narrow else LONGEST_NAME
    title = "Runs side by side" if len(shown) == len(runs) else f"Runs side by side ({len(shown)} of {len(runs)})"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("", overflow="fold")
    before = [""] if base is not None else []
    if base is not None:
        table.add_column("before\ntraining" if narrow else "before training", justify="right", overflow="fold")
    for run in shown:
        table.add_column(Text(in_pieces(run.name, longest)), justify="right", overflow="fold")
    table.add_row("objective", *before, *(Text(in_pieces(run.objective, longest)) for run in shown))
    if any(run.curation for run in runs):
        table.add_row("curation", *before, *(Text(in_pieces(run.curation or "-", longest)) for run in shown))
    for label, values in _effort(shown):
        table.add_row(label, *before, *values)
    for set_name in shared_sets(runs):
        table.add_section()
        table.add_row(Text(set_name, style="bold"), *before, *("" for _ in shown))
        for cells in _set_rows(shown, set_name, base, runs):
            if narrow:
                cells = [cell if isinstance(cell, str) else in_two_lines(cell) for cell in cells]
            table.add_row(*cells)
    if is_last:
        table.caption = "In parentheses: the difference to the first run. Losses in nats per supervised token."
        table.caption_justify, table.caption_style = "left", "dim"
    return table


def in_pieces(text: str, longest: int) -> str:
    """A long name over several lines, broken at blanks and signs, else where it must be."""
    words = re.findall(r"[^\s_./-]*[\s_./-]*", text)
    lines = [""]
    for word in words:
        while len(word) > longest:
            lines += [word[:longest]]
            word = word[longest:]
        if len((lines[-1] + word).rstrip()) <= longest:
            lines[-1] += word
        else:
            lines.append(word)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def in_two_lines(value_and_difference: Text) -> Text:
    """`1.2340 (-3.1%)` with the difference below the value, colors kept."""
    from rich.text import Text

    plain = value_and_difference.plain
    cut = plain.find(" (")
    if cut < 0:
        return value_and_difference
    value, difference = value_and_difference[:cut], value_and_difference[cut + 1 :]
    return Text("\n").join([value, difference])


def _effort(runs: Sequence[RunSummary]) -> Iterator[tuple[str, list[str]]]:
    """How long each run trained."""
    yield "optimizer steps", [count_text(run.steps) for run in runs]
    yield "tokens seen", [count_text(run.tokens_seen) for run in runs]
    if any(run.seconds is not None for run in runs):
        yield "seconds", [value_text(run.seconds, 1) for run in runs]


def _set_rows(
    shown: Sequence[RunSummary], set_name: str, base: Mapping[str, Result] | None, runs: Sequence[RunSummary]
) -> Iterator[list[str | Text]]:
    """The lines of one set: the same ones in every block, whatever the runs `shown` in it were measured by."""
    results = [run.results.get(set_name) for run in shown]
    before = None if base is None else base.get(set_name)
    measured = [run.results[set_name] for run in runs if set_name in run.results]
    for metric in shown_metrics(measured):
        values = [number(result, metric.key) for result in results]
        cells: list[str | Text] = [f"  {metric.label}"]
        if base is not None:
            cells.append(value_text(number(before, metric.key), metric.decimals))
        cells.append(value_text(values[0], metric.decimals))
        cells += [_with_difference(value, values[0], metric) for value in values[1:]]
        yield cells
    yield ["  supervised tokens", *([""] if base is not None else []), *(_tokens_cell(result) for result in results)]


def _tokens_cell(result: Result | None) -> str:
    return UNDEFINED if result is None else _count(result.get("num_tokens"))


def _with_difference(value: float | None, first: float | None, metric: Metric) -> Text:
    """`1.2340 (-3.1%)`, the difference itself where there is no percent; green where better and red where worse."""
    from rich.text import Text

    text = Text(value_text(value, metric.decimals))
    if value is None or first is None:
        return text
    difference = value - first
    relative = relative_difference(value, first)
    change = f"{difference:+.{metric.decimals}f}" if relative is None else f"{relative:+.1%}"
    direction = improvement(value, first, metric)
    style = BETTER if direction > 0 else WORSE if direction < 0 else ""
    return text.append(f" ({change})", style=style)


def relative_difference(value: float, first: float) -> float | None:
    """(value - first) / |first|; None where first is 0 and value is not."""
    if value == first:
        return 0.0
    return (value - first) / abs(first) if first else None


def improvement(value: float, first: float, metric: Metric) -> int:
    """1 better than `first`, -1 worse, 0 the same as far as the printed percent can show."""
    relative = relative_difference(value, first)
    if relative is not None and abs(relative) < ROUNDS_TO_ZERO:
        return 0
    return 1 if (value > first) == metric.higher_is_better else -1


def same_base(runs: Sequence[RunSummary]) -> Mapping[str, Result] | None:
    """The results before training if every run has them and they agree (to 1e-6), else None."""
    bases = [run.base_results for run in runs]
    first = bases[0] if bases else None
    if first is None or any(base is None or not _agree(first, base) for base in bases[1:]):
        return None
    return first


def _agree(left: Mapping[str, Result], right: Mapping[str, Result]) -> bool:
    if left.keys() != right.keys():
        return False
    return all(
        result.keys() == right[name].keys() and all(_close(result[key], right[name][key]) for key in result)
        for name, result in left.items()
    )


def _close(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return left is right
    return math.isclose(left, right, rel_tol=1e-6)
