"""Text with supervised spans -> token columns: ids, labels, offsets, pinned tokens and weights.

Rules. A token is supervised when at least one of its characters lies in a supervised span; so of several byte-level
tokens that share a character all are, and a token across the border between prompt and answer is. A token without
characters (a space that the tokenizer trimmed from its offsets) belongs to the span that covers the position just
before it. The token at index 0 is never supervised, for nothing predicts it. BOS stands exactly once: it is put in
front where the tokenizer itself would and the text does not write it. A token of weight 0 is not supervised, and
neither is one of a segment with `train: false`; `segments.py` has the rule which segment, or message, a token is of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from sftgo_cli.columns import GIVEN_GROUPS, IGNORE_INDEX, NO_GROUP
from sftgo_cli.data.rendering import Rendered, no_roles
from sftgo_cli.data.samples import Sample, TokenBody
from sftgo_cli.data.segments import GivenGroups, first_characters, parts_of
from sftgo_cli.data.special_text import SpecialText, encode_marked, has_marks, special_text, unmarked
from sftgo_cli.errors import UserError

Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoder:
    """A fast tokenizer and what is asked of it for every row."""

    tokenizer: Any
    special: Bools  # by token id, the last entry for all ids from there on: False
    bos_id: int | None  # the BOS id where the tokenizer normally adds it
    bos_token: str
    num_tokens: int  # size of the vocabulary with added tokens
    special_text: SpecialText  # the special tokens as text, and what to do where rows write them


@dataclass(frozen=True)
class TokenRow:
    """One tokenized row of L tokens; `columns` are the user's own per-token numbers and, where the row says them, the
    groups (int8[L]); `row_columns` are the user's own numbers per row."""

    row_id: str
    where: str
    text: str
    input_ids: Int32s  # [L]
    labels: Int32s  # [L]
    offsets: Int32s  # [L, 2]
    pinned: Bools  # [L]
    token_weights: Floats  # [L]
    loss_weight: float
    columns: dict[str, npt.NDArray[Any]]
    weighted: bool  # whether token_weights says more than the labels do
    row_columns: dict[str, float]
    row_key: int  # see row_keys.py
    prompt_key: int

    @property
    def num_supervised(self) -> int:
        """Number of supervised tokens."""
        return int(np.count_nonzero(self.labels != IGNORE_INDEX))


def make_encoder(tokenizer: Any, escape: bool = False) -> Encoder:
    """What tokenization needs to know of the tokenizer; `escape` as in data.special_tokens_in_text.

    Raises:
        UserError: it is a slow tokenizer, which cannot tell a token's characters.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            "the tokenizer is a slow one, which gives no character offsets",
            str(getattr(tokenizer, "name_or_path", "")),
            "convert it once to a fast one (tokenizer.json)",
        )
    special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= {token_id for token_id in tokenizer.all_special_ids if token_id is not None}
    table = np.zeros(max(special, default=-1) + 2, dtype=np.bool_)
    table[sorted(special)] = True
    bos = tokenizer.bos_token_id
    normal = tokenizer("a", add_special_tokens=True)["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    adds_bos = bos is not None and normal[:1] == [bos] and bare[:1] != [bos]
    return Encoder(
        tokenizer=tokenizer,
        special=table,
        bos_id=bos if adds_bos else None,
        bos_token=tokenizer.bos_token or "",
        num_tokens=len(tokenizer),
        special_text=special_text(tokenizer, escape),
    )


def encode_texts(
    rows: Sequence[Rendered], encoder: Encoder, on_fault: Callable[[Sample, UserError], None] | None = None
) -> list[TokenRow]:
    """Tokenized rows, in order, none cut; with `on_fault` it gets the rows that cannot be tokenized, and why.

    Raises:
        UserError: a per-token column of the user's has another length than the row has tokens, or a supervised token's
            role has no group.
    """
    if not rows:
        return []
    encoded = encoder.tokenizer(
        [row.text for row in rows],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    done = []
    for row, ids, offsets in zip(rows, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        try:
            if has_marks(row.text, encoder.special_text):
                done.append(_encode_marked(row, encoder))
            else:
                done.append(_encode_text(row, ids, offsets, encoder))
        except UserError as error:
            if on_fault is None:
                raise
            on_fault(row.sample, error)
    return done


def _encode_marked(row: Rendered, encoder: Encoder) -> TokenRow:
    """A row whose text writes special tokens, as plain text."""
    ids, offsets = encode_marked(row.text, encoder.special_text, row.sample.where)
    return _encode_text(replace(row, text=unmarked(row.text, encoder.special_text)), ids, offsets, encoder)


def _encode_text(row: Rendered, ids: list[int], pairs: list[tuple[int, int]], encoder: Encoder) -> TokenRow:
    input_ids, offsets = _with_bos(
        np.array(ids, dtype=np.int32),
        np.fromiter(chain.from_iterable(pairs), np.int32, 2 * len(pairs)).reshape(-1, 2),  # twice as fast as array
        encoder,
    )
    weights = np.zeros(len(input_ids), dtype=np.float32)
    pinned = _special(input_ids, encoder) | (offsets[:, 0] >= offsets[:, 1])
    for start, end, weight in row.spans:
        inside = covered(offsets, start, end)
        weights[inside] = np.maximum(weights[inside], np.float32(weight))
        marker = row.end_marker
        if marker and row.text.endswith(marker, start, end):
            pinned |= covered(offsets, end - len(marker), end)
    supervised = np.zeros(len(input_ids), dtype=np.bool_)
    for start, end, _ in row.spans:
        supervised |= covered(offsets, start, end)
    if not row.segmented and row.given is None:
        return _finish(row.sample, row.text, input_ids, offsets, pinned, supervised, weights)
    characters = first_characters(row.text, offsets)
    groups = np.zeros(len(input_ids), dtype=np.int8)
    for stretch, segments in row.segmented:
        inside = covered(offsets, stretch.start, stretch.end)
        part = parts_of(stretch, characters[inside])
        supervised[inside] &= np.array([segment.train for segment in segments])[part]
        groups[inside] = np.array([segment.group for segment in segments], dtype=np.int8)[part]
    finished = _finish(row.sample, row.text, input_ids, offsets, pinned, supervised, weights)
    if row.given is None:
        return finished
    if row.given.roles is not None:
        groups = _groups_by_role(row, row.given.roles, characters, finished)
    return _with_groups(finished, groups)


def _groups_by_role(
    row: Rendered, roles: tuple[tuple[str, ...], ...], characters: npt.NDArray[np.int64], finished: TokenRow
) -> npt.NDArray[np.int8]:
    """The group of each token's role; the error is for a supervised token whose role is in none."""
    if row.roles is None:
        raise TypeError("rendering refuses rows without roles")
    stretch, speakers = row.roles
    group_of = {role: number for number, group in enumerate(roles) for role in group}
    part = parts_of(stretch, characters)
    groups = np.array([group_of.get(role, NO_GROUP) for role in speakers], dtype=np.int8)[part]
    lost = np.flatnonzero((groups == NO_GROUP) & (finished.labels != IGNORE_INDEX))
    if len(lost):
        raise UserError(
            f"tokens of the role {speakers[part[lost[0]]]!r} are trained on, and no group has this role",
            row.sample.where,
            "name it in grouping.roles",
        )
    return groups


def _with_groups(row: TokenRow, groups: npt.NDArray[np.int8]) -> TokenRow:
    groups = np.where(row.labels != IGNORE_INDEX, groups, np.int8(NO_GROUP)).astype(np.int8)
    return replace(row, columns=row.columns | {GIVEN_GROUPS: groups})


def _special(ids: Int32s, encoder: Encoder) -> Bools:
    """bool[L]: the special tokens; numpy's `isin` takes as long as all else that is done for a row."""
    return np.asarray(encoder.special[np.minimum(ids, len(encoder.special) - 1)])


def covered(offsets: Int32s, start: int, end: int) -> Bools:
    """bool[L]: the tokens of the characters [start, end); see the rules above for tokens without characters."""
    first, last = offsets[:, 0], offsets[:, 1]
    return np.asarray((last > start) & np.where(first < last, first < end, last <= end))


def _with_bos(ids: Int32s, offsets: Int32s, encoder: Encoder) -> tuple[Int32s, Int32s]:
    """BOS once in front: added where the tokenizer would, and one of two taken away."""
    bos = encoder.tokenizer.bos_token_id
    if bos is not None and bos != encoder.tokenizer.eos_token_id and len(ids) > 1 and ids[0] == bos == ids[1]:
        return ids[1:], offsets[1:]
    if encoder.bos_id is None or (len(ids) and ids[0] == encoder.bos_id):
        return ids, offsets
    return (
        np.concatenate([np.array([encoder.bos_id], dtype=np.int32), ids]),
        np.concatenate([np.zeros((1, 2), dtype=np.int32), offsets]),
    )


def encode_tokens(sample: Sample, encoder: Encoder, given: GivenGroups | None = None) -> TokenRow:
    """A row that came as tokens: taken as it is (no BOS added), padding of its attention_mask taken out.

    `text` is the tokens decoded one by one, so a token that is part of a character shows as U+FFFD. Such a row has no
    segments: where these decide, its tokens are in group 0.

    Raises:
        UserError: an id is not in the vocabulary, a per-token column has another length, or the groups come from roles.
    """
    body = sample.body
    if not isinstance(body, TokenBody):
        raise TypeError("only tokenized rows")
    if given is not None and given.roles is not None:
        raise no_roles("tokenized rows", sample)
    wrong = next((token for token in body.input_ids if not 0 <= token < encoder.num_tokens), None)
    if wrong is not None:
        raise UserError(
            f"token {wrong} is not in the vocabulary of {encoder.num_tokens}",
            f"{sample.where}, column input_ids",
            "tokenize the data with the model's own tokenizer",
        )
    ids = np.array(body.input_ids, dtype=np.int32)
    labels = ids if body.labels is None else np.array(body.labels, dtype=np.int32)
    pieces = encoder.tokenizer.batch_decode([[token] for token in body.input_ids])
    ends = np.cumsum([0, *(len(piece) for piece in pieces)], dtype=np.int32)
    offsets = np.stack([ends[:-1], ends[1:]], axis=1)
    pinned = _special(ids, encoder) | (offsets[:, 0] >= offsets[:, 1])
    supervised = labels != IGNORE_INDEX
    weights = np.ones(len(ids), dtype=np.float32)
    row = _finish(sample, "".join(pieces), ids, offsets, pinned, supervised, weights)
    if given is not None:
        row = _with_groups(row, np.zeros(len(ids), dtype=np.int8))
    return row if body.keep is None else _select(row, np.array(body.keep, dtype=np.bool_))


def _finish(
    sample: Sample,
    text: str,
    input_ids: Int32s,
    offsets: Int32s,
    pinned: Bools,
    supervised: Bools,
    weights: Floats,
) -> TokenRow:
    """The row with the user's own weights multiplied in and weight 0 taken out of the labels."""
    own: dict[str, npt.NDArray[Any]] = {
        name: _checked(values, name, len(input_ids), sample.where) for name, values in sample.token_columns.items()
    }
    if sample.token_weights is not None:
        with np.errstate(over="ignore"):  # an overflow is reported on the next line
            weights = weights * _checked(sample.token_weights, "token_weights", len(input_ids), sample.where)
        if not np.isfinite(weights).all():
            raise UserError(
                "message weight times token weight is not finite", f"{sample.where}, column token_weights", "lower them"
            )
    loss_weight = 1.0 if sample.loss_weight is None else sample.loss_weight
    supervised = supervised & (weights > 0) & (loss_weight > 0)
    supervised[:1] = False
    weighted = bool((weights[supervised] != 1.0).any())
    return TokenRow(
        row_id=sample.row_id,
        where=sample.where,
        text=text,
        input_ids=input_ids,
        labels=np.where(supervised, input_ids, np.int32(IGNORE_INDEX)).astype(np.int32),
        offsets=offsets.astype(np.int32),
        pinned=pinned,
        token_weights=np.where(supervised, weights, np.float32(0)).astype(np.float32),
        loss_weight=loss_weight,
        columns=own,
        weighted=weighted,
        row_columns=dict(sample.row_columns),
        row_key=sample.row_key,
        prompt_key=sample.prompt_key,
    )


def _checked(values: list[float], name: str, length: int, where: str) -> Floats:
    if len(values) != length:
        raise UserError(
            f"{name} has {len(values)} values, the row has {length} tokens",
            f"{where}, column {name}",
            "give one value per token of the rendered row, special tokens and BOS included",
        )
    return np.array(values, dtype=np.float32)


def _select(row: TokenRow, keep: Bools) -> TokenRow:
    """The row with only the tokens of `keep`; labels[0] stays unsupervised."""
    labels = row.labels[keep]
    labels[:1] = IGNORE_INDEX
    return replace(
        row,
        input_ids=row.input_ids[keep],
        labels=labels,
        offsets=row.offsets[keep],
        pinned=row.pinned[keep],
        token_weights=row.token_weights[keep],
        columns={name: values[keep] for name, values in row.columns.items()},
    )


def cut(row: TokenRow, max_length: int) -> TokenRow:
    """The row's first `max_length` tokens, and the text up to the last of them."""
    kept = _select(row, np.arange(len(row.input_ids)) < max_length)
    return replace(kept, text=row.text[: int(kept.offsets[:, 1].max(initial=0))])
