"""A batch of raw rows becomes token rows within the maximum length; what becomes of every row is counted.

A row that cannot be read, rendered or tokenized is a bad row: `data.on_bad_row` stops at the first few of them, or drops
and counts them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sftgo_cli.data.formats import to_sample, with_system_prompt
from sftgo_cli.data.messages import ASKED_ELSEWHERE
from sftgo_cli.data.preparation_report import Tally
from sftgo_cli.data.rendering import Rendered, Renderer, render_sample
from sftgo_cli.data.row_formats import Format, used_columns
from sftgo_cli.data.row_keys import prompt_key, row_key
from sftgo_cli.data.samples import Sample, TokenBody
from sftgo_cli.data.segments import GivenGroups
from sftgo_cli.data.sources import RawRow, ResolvedSource
from sftgo_cli.data.special_text import escaped, found_in
from sftgo_cli.data.token_files import Layout
from sftgo_cli.data.tokenization import Encoder, TokenRow, cut, encode_texts, encode_tokens
from sftgo_cli.errors import UserError, UserErrors
from sftgo_cli.recipe.data_section import DataSection

ERRORS_SHOWN = 5  # faulty rows that are reported together
# Characters of a row's text: far more than max_length tokens have, and few enough to tokenize, be it one single word.
MIN_CHARACTERS = 1_000_000
CHARACTERS_PER_TOKEN = 64
READING, RENDERING, TOKENIZING = "not_readable", "not_rendered", "not_tokenized"
CUT_BEFORE = "text_cut"  # noticed: the text was cut before it was tokenized
DUPLICATE = "duplicate"
LEFT_OUT = "left_out_by_the_template"


@dataclass(frozen=True)
class Job:
    """What holds for every row of one source; `seen` are the row keys met so far where equal rows are dropped."""

    resolved: ResolvedSource
    columns_map: dict[str, str]
    data: DataSection
    layout: Layout
    given: GivenGroups | None
    encoder: Encoder
    seen: set[int] | None = None


@dataclass
class _BadRows:
    """Faults of the rows of a batch: collected to be raised together, or dropped and counted."""

    job: Job
    tally: Tally
    errors: list[UserError] = field(default_factory=list)

    def add(self, reason: str, row_id: str, error: UserError) -> None:
        """Counts a bad row. Raises where rows may not be bad, and enough of them were found."""
        if self.job.data.on_bad_row == "drop":
            self.tally.drop_bad(reason, row_id, error)
            return
        self.errors.append(error)
        if len(self.errors) == ERRORS_SHOWN:
            self.refuse()

    def refuse(self) -> None:
        """Raises the faults collected so far."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise UserErrors(self.errors)


def prepare_batch(
    batch: list[RawRow], fmt: Format, renderer: Renderer | None, job: Job, tally: Tally
) -> list[TokenRow]:
    """The batch's usable rows, fitted to the maximum length; everything is counted."""
    tally.rows_in += len(batch)
    bad = _BadRows(job, tally)
    samples = _read(batch, fmt, job, tally, bad)
    bad.refuse()
    rows = _encode_batch(samples, renderer, job, tally, bad)
    bad.refuse()
    return [fitted for row in rows if (fitted := _fit(row, job, tally)) is not None]


def _read(batch: list[RawRow], fmt: Format, job: Job, tally: Tally, bad: _BadRows) -> list[Sample]:
    known = used_columns(fmt) | set(job.layout.own_columns) | set(job.columns_map.values())
    samples = []
    for raw in batch:
        tally.ignored_columns.update(raw.values.keys() - known)
        try:
            sample = _sample(raw, fmt, job)
        except UserError as error:
            bad.add(READING, raw.row_id, error)
            continue
        if job.seen is not None:
            if sample.row_key in job.seen:
                tally.drop(DUPLICATE, raw.row_id)
                continue
            job.seen.add(sample.row_key)
        _notice(sample, job, tally)
        samples.append(sample)
    return samples


def _sample(raw: RawRow, fmt: Format, job: Job) -> Sample:
    if raw.fault is not None:
        raise raw.fault
    sample = to_sample(raw, fmt, job.columns_map, job.layout.keep_columns, job.layout.keep_row_columns)
    sample = replace(sample, row_key=row_key(sample), prompt_key=prompt_key(sample))
    return with_system_prompt(sample, job.data.system_prompt)


def _notice(sample: Sample, job: Job, tally: Tally) -> None:
    """Counts what a person should hear about a row that is read."""
    tally.unknown_keys.update(sample.unknown_keys)
    for what in sample.noticed:
        if what != ASKED_ELSEWHERE or job.data.train_on != "all":
            tally.notice(what, sample.row_id)
    tokens = found_in(sample, job.encoder.special_text)
    if tokens:
        tally.count_special(tokens, sample.row_id, job.encoder.special_text.escape is not None)


def _encode_batch(
    samples: list[Sample], renderer: Renderer | None, job: Job, tally: Tally, bad: _BadRows
) -> list[TokenRow]:
    rendered, tokens = [], []
    for sample in samples:
        try:
            if renderer is None:
                assert isinstance(sample.body, TokenBody)
                tokens.append(encode_tokens(sample, job.encoder, job.given))
                continue
            special = job.encoder.special_text
            row = render_sample(sample if special.escape is None else escaped(sample, special), renderer)
        except UserError as error:
            bad.add(TOKENIZING if renderer is None else RENDERING, sample.row_id, error)
            continue
        if isinstance(row, str):
            tally.drop(row, sample.row_id)
        elif job.data.on_left_out == "drop" and any(item.supervised for item in row.left_out):
            tally.drop(LEFT_OUT, sample.row_id)
        elif (short := _within_characters(row, job, tally)) is not None:
            tally.count_left_out(row.left_out, row.sample.row_id)
            rendered.append(short)
    texts = encode_texts(rendered, job.encoder, lambda sample, error: bad.add(TOKENIZING, sample.row_id, error))
    return tokens + texts


def _within_characters(row: Rendered, job: Job, tally: Tally) -> Rendered | None:
    """The row with at most as many characters as can be tokenized in reasonable time, or None when it is dropped."""
    limit = max(MIN_CHARACTERS, CHARACTERS_PER_TOKEN * job.data.max_length)
    if len(row.text) <= limit:
        return row
    if job.data.on_overlong == "error":
        what = f"the row has {len(row.text):,} characters, at most {limit:,} are tokenized"
        fix = "shorten it, or set data.on_overlong: truncate or drop"
        raise UserError(what, f"{row.sample.where} ({row.sample.row_id})", fix)
    if job.data.on_overlong == "drop":
        tally.drop("overlong", row.sample.row_id)
        return None
    tally.notice(CUT_BEFORE, row.sample.row_id)
    spans = [(start, min(end, limit), weight) for start, end, weight in row.spans if start < limit]
    return replace(row, text=row.text[:limit], spans=spans)


def _fit(row: TokenRow, job: Job, tally: Tally) -> TokenRow | None:
    """The row within the maximum length, or None when it is dropped (and counted)."""
    length, supervised, limit = len(row.input_ids), row.num_supervised, job.data.max_length
    if not supervised:
        tally.drop("weight_zero" if row.loss_weight == 0.0 else "no_supervised_token", row.row_id)
        return None
    tally.whole_lengths.append(length)
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
