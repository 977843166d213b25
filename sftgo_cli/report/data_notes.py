"""Sentences under the data table: what was ignored, dropped, wrong, lost or doubtful, each with its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sftgo_cli.report.data_table import reason_text
from sftgo_cli.report.number_text import count_text, share_text

if TYPE_CHECKING:
    from sftgo_cli.data.holdout import Leakage
    from sftgo_cli.data.preparation_report import DroppedRows, PreparationReport

FAULTS_SHOWN = 10  # kinds of faults of one source
TOKENS_SHOWN = 5
# What `noticed` of a report means, by its key, after "12 rows of train.0".
NOTICED = {
    "message_trained": "say `train: true` in messages that are not the assistant's, which only data.train_on: all trains",
    "rejected_trained": "are labelled false, as data for KTO marks answers that are not wanted, and are trained on",
    "null_arguments": "have null among the arguments of a call, which they keep: remove them where a table left them",
    "text_cut": "are so long that their text was cut before it was tokenized",
}
KEPT = "they are special tokens there too; data.special_tokens_in_text: escape makes them plain text"
ESCAPED = "they are plain text there"


def data_notes(
    reports: Sequence[PreparationReport],
    weights: Mapping[str, float] | None = None,
    leaks: Mapping[str, Leakage] | None = None,
) -> list[str]:
    """Every sentence.

    Args:
        weights: the training sources by name with their `weight`; the mixture's sentence is about these only. None:
            every report counts once.
        leaks: by evaluation set, how much of it is trained on.
    """
    return [
        *_ignored(reports),
        *_dropped(reports),
        *_faults(reports),
        *_left_out(reports),
        *_noticed(reports),
        *_lengths(reports),
        *_leaks(leaks or {}),
        *_mixture(reports, weights),
    ]


def _ignored(reports: Sequence[PreparationReport]) -> list[str]:
    kinds = {
        "Ignored columns": [report.ignored_columns for report in reports],
        "Message keys that neither sftgo nor the chat template reads": [report.unknown_keys for report in reports],
    }
    notes = []
    for what, names in kinds.items():
        by_names: dict[tuple[str, ...], list[str]] = {}
        for report, own in zip(reports, names, strict=True):
            if own:
                by_names.setdefault(tuple(own), []).append(report.source)
        notes += [f"{what} of {', '.join(sources)}: {', '.join(own)}." for own, sources in by_names.items()]
    return notes


def _named(rows: DroppedRows) -> str:
    return f"{', '.join(rows.first_rows)}{', ...' if rows.num_rows > len(rows.first_rows) else '.'}"


def _dropped(reports: Sequence[PreparationReport]) -> list[str]:
    return [
        f"Dropped from {report.source}, {reason_text(reason)} ({count_text(rows.num_rows)}): {_named(rows)}"
        for report in reports
        for reason, rows in report.dropped.items()
    ]


def _faults(reports: Sequence[PreparationReport]) -> list[str]:
    """What was wrong with bad rows, the most frequent faults first."""
    notes = []
    for report in reports:
        ordered = sorted(report.faults.items(), key=lambda fault: -fault[1].num_rows)
        for kind, rows in ordered[:FAULTS_SHOWN]:
            notes.append(f"Bad rows of {report.source}, {kind} ({count_text(rows.num_rows)}): {_named(rows)}")
        if len(ordered) > FAULTS_SHOWN:
            notes.append(f"Bad rows of {report.source}: {len(ordered) - FAULTS_SHOWN} more kinds of faults.")
    return notes


def _left_out(reports: Sequence[PreparationReport]) -> list[str]:
    lost = [
        f"The chat template leaves out {kind}: {count_text(count.num_messages)} in {count_text(count.num_rows)} rows of "
        f"{report.source} ({', '.join(count.first_rows)}{', ...' if count.num_rows > len(count.first_rows) else ''})."
        for report in reports
        for kind, count in report.left_out.items()
    ]
    return lost + list(dict.fromkeys(note for report in reports for note in report.notes))


def _noticed(reports: Sequence[PreparationReport]) -> list[str]:
    notes = []
    for report in reports:
        for what, rows in report.noticed.items():
            if what in NOTICED:
                notes.append(f"{count_text(rows.num_rows)} rows of {report.source} {NOTICED[what]}: {_named(rows)}")
            else:
                notes.append(_special_tokens(report, rows, ESCAPED if what == "special_tokens_escaped" else KEPT))
    return notes


def _special_tokens(report: PreparationReport, rows: DroppedRows, meaning: str) -> str:
    counts = [f"{token} {count_text(number)}x" for token, number in report.special_tokens.items()]
    tokens = ", ".join([*counts[:TOKENS_SHOWN], *(["..."] if len(counts) > TOKENS_SHOWN else [])])
    text = (
        f"Special tokens in the own text of {count_text(rows.num_rows)} rows of {report.source} ({tokens}): {meaning}: "
    )
    return text + _named(rows)


def _lengths(reports: Sequence[PreparationReport]) -> list[str]:
    return [
        f"data.max_length cuts {count_text(report.rows_truncated)} rows of {report.source}; "
        f"{count_text(report.fits_99)} tokens fit 99% of the rows."
        for report in reports
        if report.fits_99 and report.rows_truncated > 0.01 * report.rows_kept
    ]


def _leaks(leaks: Mapping[str, Leakage]) -> list[str]:
    notes = []
    for name, leak in leaks.items():
        if leak.same_row or leak.same_prompt:
            more = ", ..." if leak.same_row + leak.same_prompt > len(leak.first_rows) else "."
            notes.append(
                f"Of the {count_text(leak.num_rows)} rows of {name}, {count_text(leak.same_row)} are trained on too, and "
                f"{count_text(leak.same_prompt)} more have a prompt that is trained on: its measures will look too good. "
                f"First: {', '.join(leak.first_rows)}{more}"
            )
    return notes


def _mixture(reports: Sequence[PreparationReport], weights: Mapping[str, float] | None) -> list[str]:
    chosen = [report for report in reports if weights is None or report.source in weights]
    if len(chosen) < 2:
        return []
    tokens = [report.supervised_tokens * (1.0 if weights is None else weights[report.source]) for report in chosen]
    shares = (f"{report.source} {share_text(part, sum(tokens))}" for report, part in zip(chosen, tokens, strict=True))
    return [f"Share of the supervised tokens{' per epoch' if weights else ''}: {', '.join(shares)}."]
