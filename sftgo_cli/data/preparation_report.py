"""What became of a source's rows: counts that always add up, kept beside the prepared data and printed."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sftgo_cli.data.left_out import OF_ANSWERS, UNTRAINED, LeftOut
from sftgo_cli.errors import UserError

NAMED_ROWS = 5  # how many dropped rows are named per reason
UNSUPERVISED_REASONS = ("empty_answer", "no_supervised_token", "answer_cut")
MAX_FAULTS = 50  # kinds of faults that are told apart
OTHER_FAULTS = "other faults"
VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")  # what differs between faults of one kind


@dataclass(frozen=True)
class DroppedRows:
    """How many rows one reason dropped (or has to do with), and the first few of their ids."""

    num_rows: int
    first_rows: list[str]


@dataclass(frozen=True)
class LostContent:
    """How many messages and rows lose something that the chat template leaves out, and the first of the rows;
    `supervised` where it was to be trained on."""

    num_messages: int
    num_rows: int
    first_rows: list[str]
    supervised: bool


@dataclass(frozen=True)
class PreparationReport:
    """Counts of one source: `rows_kept` + all of `dropped` = `rows_in`. Token counts are of the kept rows, after
    cutting; `tokens_cut` and `supervised_cut` are what cutting took from kept rows; lengths are in tokens."""

    source: str
    format: str
    rows_in: int
    rows_kept: int
    dropped: dict[str, DroppedRows]
    rows_truncated: int
    tokens: int
    supervised_tokens: int
    tokens_cut: int
    supervised_cut: int
    length_min: int
    length_p50: float
    length_p95: float
    length_max: int
    ignored_columns: list[str]
    left_out: dict[str, LostContent]  # by kind: what the chat template does not write
    notes: list[str]  # sentences about the chat template
    faults: dict[str, DroppedRows] = field(default_factory=dict)  # what was wrong with the bad rows that were dropped
    noticed: dict[str, DroppedRows] = field(default_factory=dict)  # kept rows of which a person should hear
    special_tokens: dict[str, int] = field(default_factory=dict)  # how often the rows' own text holds them
    unknown_keys: list[str] = field(default_factory=list)  # of messages; the template may read them
    fits_99: int = field(default=0, compare=False)  # the data.max_length that cuts at most 1 % of the rows

    @property
    def rows_unsupervised(self) -> int:
        """Rows dropped for having no supervised token (an empty answer, weight 0, or all of it cut off)."""
        return sum(self.dropped[reason].num_rows for reason in UNSUPERVISED_REASONS if reason in self.dropped)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> PreparationReport:
        """The report that `to_json` gave."""
        counts = {
            name: {reason: DroppedRows(**rows) for reason, rows in value[name].items()}
            for name in ("dropped", "faults", "noticed")
        }
        left_out = {kind: LostContent(**lost) for kind, lost in value["left_out"].items()}
        return PreparationReport(**{**value, **counts, "left_out": left_out})


def _count(counts: dict[str, DroppedRows], reason: str, row_id: str) -> None:
    before = counts.get(reason, DroppedRows(0, []))
    named = before.first_rows if before.num_rows >= NAMED_ROWS else [*before.first_rows, row_id]
    counts[reason] = DroppedRows(before.num_rows + 1, named)


def _column(error: UserError) -> str:
    """Where in its row a fault is, as ` messages[1].content`."""
    _, found, column = error.where.partition(", column ")
    return f" {column}" if found else ""


def _fits(lengths: array[int]) -> int:
    """The smallest length that at least 99 % of the rows have."""
    import numpy as np

    if not len(lengths):
        return 0
    return int(np.quantile(np.array(lengths, dtype=np.int64), 0.99, method="inverted_cdf"))


@dataclass
class Tally:
    """The running counts from which a report is made."""

    rows_in: int = 0
    rows_truncated: int = 0
    supervised_tokens: int = 0
    tokens_cut: int = 0
    supervised_cut: int = 0
    lengths: array[int] = field(default_factory=lambda: array("i"))
    whole_lengths: array[int] = field(default_factory=lambda: array("i"))  # before they were cut
    dropped: dict[str, DroppedRows] = field(default_factory=dict)
    faults: dict[str, DroppedRows] = field(default_factory=dict)
    noticed: dict[str, DroppedRows] = field(default_factory=dict)
    special_tokens: Counter[str] = field(default_factory=Counter)
    unknown_keys: set[str] = field(default_factory=set)
    ignored_columns: set[str] = field(default_factory=set)
    left_out: dict[str, LostContent] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, reason: str, row_id: str) -> None:
        """Counts one dropped row."""
        _count(self.dropped, reason, row_id)

    def drop_bad(self, reason: str, row_id: str, error: UserError) -> None:
        """Counts one row that was dropped for a fault, and the kind of the fault."""
        self.drop(reason, row_id)
        kind = VARYING.sub("...", error.what)[:100]
        if kind not in self.faults and len(self.faults) >= MAX_FAULTS:
            kind = OTHER_FAULTS
        _count(self.faults, kind, f"{row_id}{_column(error)}")

    def notice(self, what: str, row_id: str) -> None:
        """Counts one row of which a person should hear."""
        _count(self.noticed, what, row_id)

    def count_special(self, tokens: Counter[str], row_id: str, escaped: bool) -> None:
        """Counts one row whose own text holds special tokens."""
        self.special_tokens.update(tokens)
        self.notice("special_tokens_escaped" if escaped else "special_tokens_kept", row_id)

    def count_left_out(self, items: Sequence[LeftOut], row_id: str) -> None:
        """Counts what one row loses to the chat template, an answer's apart from what is only read."""
        for item in items:
            kind = f"{item.kind}{UNTRAINED}" if item.kind in OF_ANSWERS and not item.supervised else item.kind
            before = self.left_out.get(kind, LostContent(0, 0, [], item.supervised))
            named = before.first_rows if len(before.first_rows) >= NAMED_ROWS else [*before.first_rows, row_id]
            self.left_out[kind] = LostContent(
                before.num_messages + item.num_messages, before.num_rows + 1, named, item.supervised
            )

    def report(self, source: str, format_name: str) -> PreparationReport:
        """The finished report."""
        import numpy as np

        lengths = np.array(self.lengths, dtype=np.int64)
        p50, p95 = np.quantile(lengths, [0.5, 0.95]) if len(lengths) else (0.0, 0.0)
        return PreparationReport(
            source=source,
            format=format_name,
            rows_in=self.rows_in,
            rows_kept=len(lengths),
            dropped=self.dropped,
            rows_truncated=self.rows_truncated,
            tokens=int(lengths.sum()),
            supervised_tokens=self.supervised_tokens,
            tokens_cut=self.tokens_cut,
            supervised_cut=self.supervised_cut,
            length_min=int(lengths.min(initial=0 if not len(lengths) else int(lengths[0]))),
            length_p50=float(p50),
            length_p95=float(p95),
            length_max=int(lengths.max(initial=0)),
            ignored_columns=sorted(self.ignored_columns),
            left_out=dict(sorted(self.left_out.items())),
            notes=list(self.notes),
            faults=self.faults,
            noticed=self.noticed,
            special_tokens=dict(self.special_tokens.most_common()),
            unknown_keys=sorted(self.unknown_keys),
            fits_99=_fits(self.whole_lengths),
        )


def refuse_unsupervised(reports: list[PreparationReport], allowed: float) -> None:
    """Stops a run of which more than the fraction `allowed` of the rows has no supervised token.

    Raises:
        UserError: names the share, the reasons and the first rows.
    """
    rows_in = sum(report.rows_in for report in reports)
    without = sum(report.rows_unsupervised for report in reports)
    if not rows_in or without <= allowed * rows_in:
        return
    named = [
        f"{report.source} {reason}: {', '.join(report.dropped[reason].first_rows)}"
        for report in reports
        for reason in UNSUPERVISED_REASONS
        if reason in report.dropped
    ]
    raise UserError(
        f"{without} of {rows_in} rows ({without / rows_in:.1%}) have no supervised token, {allowed:.1%} are allowed",
        "; ".join(named),
        _advice(reports, without),
    )


def _advice(reports: list[PreparationReport], without: int) -> str:
    """What to do about rows without a supervised token: cut answers are a matter of length, not of format."""
    cut = sum(report.dropped["answer_cut"].num_rows for report in reports if "answer_cut" in report.dropped)
    if not cut:
        return "correct the rows, check the format and data.train_on, or raise data.max_unsupervised_fraction"
    fits = max(report.fits_99 for report in reports)
    lengths = f"set data.max_length ({fits:,} tokens fit 99 % of the rows) or data.on_overlong: drop"
    if cut == without:
        return f"their answers are cut away by data.max_length: {lengths}"
    return f"correct the rows; of {cut:,} the answer is cut away: {lengths}"


def refuse_lost(reports: list[PreparationReport]) -> None:
    """Stops a run that would train answers without what the data supervises in them: `data.on_left_out: error`.

    Raises:
        UserError: names what is lost, how often, and the first rows.
    """
    lost = [
        f"{kind} of {count.num_messages} messages in {count.num_rows} rows of {report.source} "
        f"({', '.join(count.first_rows)}{', ...' if count.num_rows > len(count.first_rows) else ''})"
        for report in reports
        for kind, count in report.left_out.items()
        if count.supervised
    ]
    if lost:
        raise UserError(
            f"the chat template leaves out what the data supervises: {'; '.join(lost)}",
            "data.chat_template",
            "choose a template that writes it, set data.train_on: completion where only earlier turns lose it, or "
            "data.on_left_out: drop (those rows) or allow (train without it)",
        )
