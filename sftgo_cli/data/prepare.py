"""One source from raw rows to an Arrow file of token columns, batch by batch, with a report of what became of its rows.

Memory holds one batch of rows and one integer per row, so sources larger than memory work. Every kept row has at
least one supervised token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sftgo_cli import columns
from sftgo_cli.data.formats import Format, Sample, TokenBody, detect_format, rename, to_sample, used_columns
from sftgo_cli.data.preparation_report import PreparationReport, Tally
from sftgo_cli.data.rendering import Renderer, make_renderer, render_sample
from sftgo_cli.data.segments import GivenGroups
from sftgo_cli.data.sources import RawRow, ResolvedSource, read_rows
from sftgo_cli.data.tokenization import Encoder, TokenRow, cut, encode_texts, encode_tokens, make_encoder
from sftgo_cli.errors import EnvironmentProblem, UserError, UserErrors
from sftgo_cli.recipe.data_section import DataSection, EvalSource, SourceSection

if TYPE_CHECKING:
    from datasets import Dataset, Features

BATCH_ROWS = 1000
ERRORS_SHOWN = 5  # faulty rows that are reported together
ALWAYS = (
    columns.ROW_ID,
    columns.SOURCE,
    columns.TEXT,
    columns.INPUT_IDS,
    columns.LABELS,
    columns.OFFSETS,
    columns.PINNED,
)
WEIGHTS = (columns.TOKEN_WEIGHTS, columns.LOSS_WEIGHT)


@dataclass(frozen=True)
class Prepared:
    """Token columns of one source (memory-mapped from the file they were written to) and the report."""

    dataset: Dataset
    report: PreparationReport


@dataclass(frozen=True)
class _Job:
    """What holds for every row of one source."""

    resolved: ResolvedSource
    columns_map: dict[str, str]
    data: DataSection
    keep_columns: tuple[str, ...]
    keep_row_columns: tuple[str, ...]
    given: GivenGroups | None
    encoder: Encoder

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The user's columns, per token and per row."""
        return self.keep_columns + self.keep_row_columns


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
) -> Prepared:
    """The source as a data set with the columns row_id, source, text, input_ids, labels, offsets, pinned, with
    token_weights and loss_weight where a row carries some, with `keep_columns` (float32[L] each) and `keep_row_columns`
    (float32 each), and with given_groups (int8[L]) where `given` asks for them.

    `template` is the chat template's source (see `resolve_chat_template`) or None. `out_file` is the Arrow file to
    write; it is removed again when the source is refused. `on_rows` gets the number of rows read, every so often.

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
    encoder = make_encoder(tokenizer)
    job = _Job(resolved, dict(source.columns), data, tuple(keep_columns), tuple(keep_row_columns), given, encoder)
    rows = islice(read_rows(resolved), source.max_samples)
    tally = Tally()
    try:
        fmt, weighted = _write(job, source.format, _counted(rows, on_rows), tokenizer, template, tally, out_file)
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
    return Prepared(_open(out_file, weighted), report)


def _counted(rows: Iterator[RawRow], on_rows: Callable[[int], None]) -> Iterator[RawRow]:
    for number, row in enumerate(rows):
        if number and number % BATCH_ROWS == 0:
            on_rows(number)
        yield row


def _write(
    job: _Job,
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
    with ArrowWriter(features=_features(job), path=str(out_file)) as writer:
        while batch := list(islice(rows, BATCH_ROWS)):
            if fmt is None:
                fmt = _format_of(batch[0], declared, job)
                if fmt != "tokenized":
                    renderer = make_renderer(_needed(template, fmt), tokenizer, job.data.train_on, job.given)
            kept = _prepare_batch(batch, fmt, renderer, job, tally)
            if kept:
                weighted |= {columns.TOKEN_WEIGHTS} if any(row.weighted for row in kept) else set()
                weighted |= {columns.LOSS_WEIGHT} if any(row.loss_weight != 1.0 for row in kept) else set()
                writer.write_table(_table(kept, job))
        if fmt is None:
            raise UserError("there are no rows", f"{job.resolved.label}: {job.resolved.path}", "give at least one row")
        writer.finalize()
    return fmt, weighted


def _needed(template: str | None, fmt: Format) -> str | None:
    """Plain text is never put into a chat template."""
    return None if fmt == "text" else template


def _format_of(row: RawRow, declared: str, job: _Job) -> Format:
    if declared != "auto":
        return cast(Format, declared)
    try:
        return detect_format(list(rename(row.values, job.columns_map, row.where)))
    except UserError as error:
        raise UserError(error.what, f"{row.where}; {error.where}", error.fix) from error


def _prepare_batch(
    batch: list[RawRow], fmt: Format, renderer: Renderer | None, job: _Job, tally: Tally
) -> list[TokenRow]:
    """The batch's usable rows, fitted to the maximum length; everything is counted."""
    tally.rows_in += len(batch)
    known = used_columns(fmt) | set(job.own_columns) | set(job.columns_map.values())
    samples = []
    errors: list[UserError] = []
    for raw in batch:
        tally.ignored_columns.update(raw.values.keys() - known)
        try:
            samples.append(to_sample(raw, fmt, job.columns_map, job.keep_columns, job.keep_row_columns))
        except UserError as error:
            errors.append(error)
            if len(errors) == ERRORS_SHOWN:
                break
    _raise(errors)
    rows = _encode_batch(samples, renderer, job, tally)
    return [fitted for row in rows if (fitted := _fit(row, job, tally)) is not None]


def _raise(errors: list[UserError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UserErrors(errors)


def _encode_batch(samples: list[Sample], renderer: Renderer | None, job: _Job, tally: Tally) -> list[TokenRow]:
    if renderer is None:
        return [
            encode_tokens(sample, job.encoder, job.given) for sample in samples if isinstance(sample.body, TokenBody)
        ]
    rendered = []
    for sample in samples:
        row = render_sample(sample, renderer)
        if isinstance(row, str):
            tally.drop(row, sample.row_id)
        else:
            tally.count_left_out(row.left_out)
            rendered.append(row)
    return encode_texts(rendered, job.encoder)


def _fit(row: TokenRow, job: _Job, tally: Tally) -> TokenRow | None:
    """The row within the maximum length, or None when it is dropped (and counted)."""
    length, supervised, limit = len(row.input_ids), row.num_supervised, job.data.max_length
    if not supervised:
        tally.drop("weight_zero" if row.loss_weight == 0.0 else "no_supervised_token", row.row_id)
        return None
    if length > limit:
        if job.data.on_overlong == "error":
            raise UserError(
                f"the row has {length} tokens, data.max_length is {limit}",
                f"{row.where} ({row.row_id})",
                "raise data.max_length, or set data.on_overlong: truncate or drop",
            )
        if job.data.on_overlong == "drop":
            tally.drop("overlong", row.row_id)
            return None
        row = cut(row, limit)
        if not row.num_supervised:
            tally.drop("answer_cut", row.row_id)
            return None
        tally.rows_truncated += 1
        tally.tokens_cut += length - limit
        tally.supervised_cut += supervised - row.num_supervised
    tally.lengths.append(len(row.input_ids))
    tally.supervised_tokens += row.num_supervised
    return row


def _features(job: _Job) -> Features:
    from datasets import Features, List, Value

    own: dict[str, Any] = {name: List(Value("float32")) for name in job.keep_columns}
    own |= {name: Value("float32") for name in job.keep_row_columns}
    given = [columns.GIVEN_GROUPS] if job.given is not None else []
    return Features({**columns.features([*ALWAYS, *WEIGHTS, *given]), **own})


def _table(rows: list[TokenRow], job: _Job) -> Any:
    """One Arrow table of a batch: flat numpy values with row offsets, no Python loop per token."""
    import numpy as np
    import pyarrow as pa

    from sftgo_cli.data.rows import list_array

    starts = np.cumsum([0, *(len(row.input_ids) for row in rows)])

    def lists(per_row: list[Any]) -> Any:
        return list_array(np.concatenate(per_row), starts)

    flat_offsets = np.concatenate([row.offsets for row in rows]).reshape(-1)
    pairs = pa.FixedSizeListArray.from_arrays(pa.array(flat_offsets), 2)
    cells: dict[str, Any] = {
        columns.ROW_ID: pa.array([_encodable(row.row_id) for row in rows]),
        columns.SOURCE: pa.array([job.resolved.label] * len(rows)),
        columns.TEXT: pa.array([row.text for row in rows]),
        columns.INPUT_IDS: lists([row.input_ids for row in rows]),
        columns.LABELS: lists([row.labels for row in rows]),
        columns.OFFSETS: pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), pairs),
        columns.PINNED: lists([row.pinned for row in rows]),
        columns.TOKEN_WEIGHTS: lists([row.token_weights for row in rows]),
        columns.LOSS_WEIGHT: pa.array(np.array([row.loss_weight for row in rows], dtype=np.float32)),
    }
    if job.given is not None:
        cells[columns.GIVEN_GROUPS] = lists([row.columns[columns.GIVEN_GROUPS] for row in rows])
    cells |= {name: lists([row.columns[name] for row in rows]) for name in job.keep_columns}
    for name in job.keep_row_columns:
        cells[name] = pa.array(np.array([row.row_columns[name] for row in rows], dtype=np.float32))
    return pa.table(cells).cast(_features(job).arrow_schema)


def _encodable(text: str) -> str:
    """The text without lone surrogates, which Arrow cannot store."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _open(out_file: Path, weighted: set[str]) -> Dataset:
    """The written file, memory-mapped, without the weight columns that are 1 everywhere."""
    from datasets import Dataset

    dataset = Dataset.from_file(str(out_file))
    return dataset.remove_columns([name for name in WEIGHTS if name not in weighted])


def _nothing_left(report: PreparationReport) -> UserError:
    reasons = [f"{reason}: {rows.num_rows} ({', '.join(rows.first_rows)})" for reason, rows in report.dropped.items()]
    return UserError(
        f"none of the {report.rows_in} rows can be trained on",
        f"{report.source}, dropped {'; '.join(reasons)}",
        "check the answers, data.train_on and data.max_length",
    )


def split_heldout(dataset: Dataset, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Row numbers for training and held out, each ascending: the max(1, round(fraction n)) rows with the smallest hash
    of seed and row_id are held out, so the choice follows the rows and not their order.

    Raises:
        UserError: fewer than two rows, or nothing would be left to train on.
    """
    row_ids = dataset[columns.ROW_ID]
    num_heldout = max(1, round(fraction * len(dataset)))
    if num_heldout >= len(dataset):
        raise UserError(
            f"holding out {fraction} of {len(dataset)} rows leaves nothing to train on", "data.eval", "hold out less"
        )
    keys = [(hashlib.sha256(f"{seed}\0{row_id}".encode()).digest(), index) for index, row_id in enumerate(row_ids)]
    heldout = sorted(index for _, index in sorted(keys)[:num_heldout])
    chosen = set(heldout)
    return [index for index in range(len(dataset)) if index not in chosen], heldout
