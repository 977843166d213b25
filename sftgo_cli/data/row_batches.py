"""A batch of raw rows becomes token rows within the maximum length; what becomes of every row is counted."""

from __future__ import annotations

from dataclasses import dataclass

from sftgo_cli.data.formats import to_sample
from sftgo_cli.data.preparation_report import Tally
from sftgo_cli.data.rendering import Renderer, render_sample
from sftgo_cli.data.row_formats import Format, used_columns
from sftgo_cli.data.samples import Sample, TokenBody
from sftgo_cli.data.segments import GivenGroups
from sftgo_cli.data.sources import RawRow, ResolvedSource
from sftgo_cli.data.token_files import Layout
from sftgo_cli.data.tokenization import Encoder, TokenRow, cut, encode_texts, encode_tokens
from sftgo_cli.errors import UserError, UserErrors
from sftgo_cli.recipe.data_section import DataSection

ERRORS_SHOWN = 5  # faulty rows that are reported together


@dataclass(frozen=True)
class Job:
    """What holds for every row of one source."""

    resolved: ResolvedSource
    columns_map: dict[str, str]
    data: DataSection
    layout: Layout
    given: GivenGroups | None
    encoder: Encoder


def prepare_batch(
    batch: list[RawRow], fmt: Format, renderer: Renderer | None, job: Job, tally: Tally
) -> list[TokenRow]:
    """The batch's usable rows, fitted to the maximum length; everything is counted."""
    tally.rows_in += len(batch)
    known = used_columns(fmt) | set(job.layout.own_columns) | set(job.columns_map.values())
    samples = []
    errors: list[UserError] = []
    for raw in batch:
        tally.ignored_columns.update(raw.values.keys() - known)
        try:
            samples.append(to_sample(raw, fmt, job.columns_map, job.layout.keep_columns, job.layout.keep_row_columns))
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


def _encode_batch(samples: list[Sample], renderer: Renderer | None, job: Job, tally: Tally) -> list[TokenRow]:
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
            tally.count_left_out(row.left_out, sample.row_id)
            rendered.append(row)
    return encode_texts(rendered, job.encoder)


def _fit(row: TokenRow, job: Job, tally: Tally) -> TokenRow | None:
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
