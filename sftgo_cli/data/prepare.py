"""One source from raw rows to an Arrow file of token columns, batch by batch, with a report of what became of its rows.

Memory holds one batch of rows and one integer per row, so sources larger than memory work. Every kept row has at
least one supervised token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sftgo_cli import columns
from sftgo_cli.data.preparation_report import PreparationReport, Tally
from sftgo_cli.data.rendering import Renderer, make_renderer
from sftgo_cli.data.row_batches import Job, prepare_batch
from sftgo_cli.data.row_formats import Format, detect_format, rename
from sftgo_cli.data.segments import GivenGroups
from sftgo_cli.data.sources import RawRow, ResolvedSource, read_each_row
from sftgo_cli.data.token_files import ALWAYS, WEIGHTS, Layout, open_rows, token_features, token_table
from sftgo_cli.data.tokenization import make_encoder
from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.recipe.data_section import DataSection, EvalSource, SourceSection

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 1000


@dataclass(frozen=True)
class Prepared:
    """Token columns of one source (memory-mapped from the file they were written to) and the report."""

    dataset: Dataset
    report: PreparationReport


def prepare_rows(
    resolved: ResolvedSource,
    source: SourceSection | EvalSource,
    data: DataSection,
    tokenizer: Any,
    template: str | None,
    keep_columns: Sequence[str],
    out_file: Path,
    on_rows: Callable[[int], None] = lambda num_rows: None,
    keep_row_columns: Sequence[str] = (),
    given: GivenGroups | None = None,
    seen: set[int] | None = None,
) -> Prepared:
    """The source as a data set with the columns row_id, source, text, input_ids, labels, offsets, pinned, row_key,
    prompt_key, with token_weights and loss_weight where a row carries some, with `keep_columns` (float32[L] each) and
    `keep_row_columns` (float32 each), and with given_groups (int8[L]) where `given` asks for them.

    `template` is the chat template's source (see `resolve_chat_template`) or None. `out_file` is the Arrow file to
    write; it is removed again when the source is refused. `on_rows` gets the number of rows read, every so often.
    `seen` are the row keys of rows that are trained on already: rows that equal one of them or each other are dropped.

    Raises:
        UserError: a row or file is faulty (several at once: UserErrors), the template or tokenizer does not fit, a row
            is over-long under `on_overlong: error`, or no row is left.
        EnvironmentProblem: a file cannot be read, or `out_file` not be written.
    """
    clash = sorted({*keep_columns, *keep_row_columns} & {*ALWAYS, *WEIGHTS, columns.GIVEN_GROUPS})
    if clash:
        raise UserError(f"column {clash[0]!r} is made by sftgo itself", resolved.label, "rename your column")
    twice = sorted({*keep_columns} & {*keep_row_columns})
    if twice:
        raise UserError(
            f"column {twice[0]!r} is asked for per token and per row", resolved.label, "name two different columns"
        )
    encoder = make_encoder(tokenizer, data.special_tokens_in_text == "escape")
    layout = Layout(resolved.label, tuple(keep_columns), tuple(keep_row_columns), given is not None)
    job = Job(resolved, dict(source.columns), data, layout, given, encoder, seen)
    rows = islice(read_each_row(resolved), source.max_samples)
    tally = Tally()
    try:
        fmt, weighted = _write(job, source.format, _counted(rows, on_rows), tokenizer, template, tally, out_file)
        tally.unknown_keys = {key for key in tally.unknown_keys if not _reads(template, key)}
        report = tally.report(resolved.label, fmt)
        if not report.rows_kept:
            raise _nothing_left(report)
    except OSError as error:
        out_file.unlink(missing_ok=True)
        raise EnvironmentProblem(
            f"cannot write the prepared rows: {error.strerror or error}", str(out_file), "free space and run again"
        ) from error
    except BaseException:
        out_file.unlink(missing_ok=True)
        raise
    return Prepared(open_rows(out_file, weighted), report)


def _counted(rows: Iterator[RawRow], on_rows: Callable[[int], None]) -> Iterator[RawRow]:
    for number, row in enumerate(rows):
        if number and number % BATCH_ROWS == 0:
            on_rows(number)
        yield row


def _write(
    job: Job,
    declared: str,
    rows: Iterator[RawRow],
    tokenizer: Any,
    template: str | None,
    tally: Tally,
    out_file: Path,
) -> tuple[Format | str, set[str]]:
    """Writes all kept rows; returns the format and which of the weight columns say something."""
    from datasets.arrow_writer import ArrowWriter

    weighted: set[str] = set()
    fmt: Format | None = None
    renderer: Renderer | None = None
    with ArrowWriter(features=token_features(job.layout), path=str(out_file)) as writer:
        while batch := list(islice(rows, BATCH_ROWS)):
            readable = next((row for row in batch if row.fault is None), None)
            if fmt is None and readable is not None:
                fmt = _format_of(readable, declared, job)
                _check_system_prompt(job.data, fmt, template)
                if fmt != "tokenized":
                    renderer = make_renderer(_needed(template, fmt), tokenizer, job.data.train_on, job.given)
                    tally.notes += renderer.notes
            kept = prepare_batch(batch, fmt or "text", renderer, job, tally)
            if kept:
                weighted |= {columns.TOKEN_WEIGHTS} if any(row.weighted for row in kept) else set()
                weighted |= {columns.LOSS_WEIGHT} if any(row.loss_weight != 1.0 for row in kept) else set()
                writer.write_table(token_table(kept, job.layout))
        if not tally.rows_in:
            raise UserError("there are no rows", f"{job.resolved.label}: {job.resolved.path}", "give at least one row")
        writer.finalize()
    return fmt or declared, weighted


def _check_system_prompt(data: DataSection, fmt: Format, template: str | None) -> None:
    if data.system_prompt and template is None and fmt not in ("text", "tokenized"):
        fix = "set data.chat_template (for example chatml or plain), or write it into the prompts"
        raise UserError("a system prompt needs a chat template, and the tokenizer has none", "data.system_prompt", fix)


def _reads(template: str | None, key: str) -> bool:
    """Whether a chat template names a key of a message."""
    return template is not None and re.search(rf"\b{re.escape(key)}\b", template) is not None


def _needed(template: str | None, fmt: Format) -> str | None:
    """Plain text is never put into a chat template."""
    return None if fmt == "text" else template


def _format_of(row: RawRow, declared: str, job: Job) -> Format:
    if declared != "auto":
        return cast(Format, declared)
    try:
        return detect_format(list(rename(row.values, job.columns_map, row.where)))
    except UserError as error:
        raise UserError(error.what, f"{row.where}; {error.where}", error.fix) from error


def _nothing_left(report: PreparationReport) -> UserError:
    counts = {**report.dropped, **dict(list(report.faults.items())[:3])}
    reasons = [f"{reason}: {rows.num_rows} ({', '.join(rows.first_rows)})" for reason, rows in counts.items()]
    fix = "check the answers, data.train_on and data.max_length"
    if "answer_cut" in report.dropped:
        fix += f" ({report.fits_99:,} tokens fit 99 % of the rows)"
    return UserError(
        f"none of the {report.rows_in} rows can be trained on", f"{report.source}, dropped {'; '.join(reasons)}", fix
    )
