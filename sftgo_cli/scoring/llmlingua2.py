"""LLMLingua-2: a token classifier trained to compress prompts says which words of a response carry its meaning.

    P[word]        = mean over the word's pieces of softmax(logits)[keep]         see word_probabilities.py
    value[c]       = P[word] on each character of the word
    score(token)   = mean of value over the token's non-space characters          see data/alignment.py

The grouping is SFT-GO's (arXiv 2506.15021), the classifier LLMLingua-2's (arXiv 2403.12968): any two-label token
classifier, label 1 = keep. What is classified is the response alone: each contiguous run of supervised tokens is a text
of its own (several assistant turns are several texts), special tokens and end-of-turn markers left out. A token without
a value of its own (white space, a marker, characters that the classifier's tokenizer drops) gets the value of the
nearest character before it in the row, else after it, else 0. Published checkpoints:
microsoft/llmlingua-2-xlm-roberta-large-meetingbank (the default) and
microsoft/llmlingua-2-bert-base-multilingual-cased-meetingbank.

[R] The tokenizer's own special tokens go around each chunk; the llmlingua package feeds XLM-R `<unk>` instead.
`compatibility: llmlingua` reproduces that package's word probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sftgo_cli.columns import LABELS, OFFSETS, PINNED, TEXT, TOKEN_SCORES
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sftgo_cli.data.rows import TokenChunk
    from sftgo_cli.scoring.context import ScoringContext
    from sftgo_cli.scoring.token_classifier import Checkpoint, Shape
    from sftgo_cli.scoring.word_probabilities import Classifier, PieceRules

VERSION = 1
SOURCE = "LLMLingua-2, arXiv 2403.12968; as a grouping: SFT-GO, arXiv 2506.15021"
PATH_OPTIONS = (
    "model",
    "revision",
    "dtype",
    "max_chunk_tokens",
    "batch_tokens",
)  # what they stand for is in the fingerprint
CHUNK_TOKENS = 510  # the original's 512 positions less two special tokens


class Options(MethodOptions):
    """Recipe options of `scoring: {name: llmlingua2}`."""

    model: str = Field(
        "microsoft/llmlingua-2-xlm-roberta-large-meetingbank",
        description="Two-label token classifier (1 = keep): Hub id, or folder relative to the recipe",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a Hub id")
    compatibility: Literal["none", "llmlingua"] = Field(
        "none", description="llmlingua: the llmlingua package's own numbers, its quirks included"
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None,
        description="null: bfloat16 where the hardware has it, else float32; float32 under compatibility: llmlingua",
    )
    max_chunk_tokens: int | None = Field(
        None, ge=1, description="Classifier pieces per chunk; null: 510, or what its positions hold"
    )
    batch_tokens: int | None = Field(
        None, ge=1, description="Classifier tokens of a batch, padding included; null: chosen for the device"
    )


def columns(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The per-token and the per-row columns that are read."""
    return (LABELS, OFFSETS, PINNED), (TEXT,)


def written(options: Options) -> tuple[str, ...]:
    """The per-token columns that are written."""
    return (TOKEN_SCORES,)


def fingerprint(options: Options, context: ScoringContext) -> dict[str, Any]:
    """Content of the classifier (file hashes, or the Hub commit) and its tokenizer, and what null options resolve to.

    Raises:
        UserError: no such folder, other than two labels, no trained head, pickled weights, a slow tokenizer, a chunk
            that the classifier's positions cannot hold, or a tokenizer that `compatibility: llmlingua` does not know.
    """
    from sftgo_cli.cache import file_sha256
    from sftgo_cli.data.tokenizer import tokenizer_fingerprint
    from sftgo_cli.scoring.token_classifier import (
        check_config,
        check_weights,
        chosen_batch_tokens,
        load_classifier_tokenizer,
    )
    from sftgo_cli.scoring.word_probabilities import piece_rules

    checkpoint = _checkpoint(options, context)
    config, shape = check_config(checkpoint)
    check_weights(checkpoint, shape)
    tokenizer = load_classifier_tokenizer(checkpoint)
    if checkpoint.folder is None:
        content: dict[str, Any] = {"hub_id": checkpoint.name, "commit": getattr(config, "_commit_hash", None)}
    else:
        files = sorted(path for path in checkpoint.folder.iterdir() if path.suffix == ".safetensors")
        files.append(checkpoint.folder / "config.json")
        content = {path.name: file_sha256(path) for path in files}
    return {
        **content,
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "dtype": _dtype(options),
        "max_chunk_tokens": _max_chunk_tokens(options, checkpoint, shape, tokenizer, piece_rules(tokenizer)),
        "batch_tokens": options.batch_tokens or chosen_batch_tokens(),
    }


def open_scorer(
    options: Options, context: ScoringContext
) -> Callable[[TokenChunk], dict[str, npt.NDArray[np.float32]]]:
    """Load the classifier; what is returned scores one shard: float32[N], NaN where not supervised."""
    classifier = open_classifier(options, context)
    return lambda shard: {TOKEN_SCORES: _score(shard, classifier)}


def open_classifier(options: Options, context: ScoringContext) -> Classifier:
    """The loaded classifier, for `word_probabilities(classifier, texts)`."""
    from sftgo_cli.scoring.token_classifier import (
        check_config,
        chosen_batch_tokens,
        load_classifier,
        load_classifier_tokenizer,
    )
    from sftgo_cli.scoring.word_probabilities import Classifier, piece_rules

    checkpoint = _checkpoint(options, context)
    _, shape = check_config(checkpoint)
    tokenizer = load_classifier_tokenizer(checkpoint)
    rules = piece_rules(tokenizer)
    return Classifier(
        model=load_classifier(checkpoint, _dtype(options)),
        tokenizer=tokenizer,
        rules=rules,
        max_chunk_tokens=_max_chunk_tokens(options, checkpoint, shape, tokenizer, rules),
        batch_tokens=options.batch_tokens or chosen_batch_tokens(),
        llmlingua=options.compatibility == "llmlingua",
    )


def _checkpoint(options: Options, context: ScoringContext) -> Checkpoint:
    from sftgo_cli.scoring.token_classifier import find_checkpoint

    return find_checkpoint(options.model, options.revision, context.recipe_dir, "scoring.model")


def _dtype(options: Options) -> str:
    from sftgo_cli.scoring.token_classifier import chosen_dtype

    if options.dtype is not None:
        return options.dtype
    return "float32" if options.compatibility == "llmlingua" else chosen_dtype()


def _max_chunk_tokens(options: Options, checkpoint: Checkpoint, shape: Shape, tokenizer: Any, rules: PieceRules) -> int:
    """Pieces of a chunk, special tokens not counted."""
    if options.compatibility == "llmlingua" and rules.kind not in ("word_piece", "sentence_piece"):
        raise UserError(
            "compatibility: llmlingua knows WordPiece and SentencePiece classifiers only, as the package does",
            checkpoint.where,
            "take scoring.compatibility out, or use one of the two published checkpoints",
        )
    special = 2 if options.compatibility == "llmlingua" else len(rules.prefix_ids) + len(rules.suffix_ids)
    limits = [limit for limit in (shape.max_positions, tokenizer.model_max_length) if limit is not None]
    room = min(int(limit) for limit in limits) - special
    if room < 1:
        raise UserError(
            f"the classifier holds {room + special} tokens, of which {special} are special",
            checkpoint.where,
            "give a checkpoint with more positions",
        )
    if options.max_chunk_tokens is not None and options.max_chunk_tokens > room:
        raise UserError(
            f"chunks of {options.max_chunk_tokens} tokens do not fit: the classifier holds {room} beside special ones",
            "scoring.max_chunk_tokens",
            f"give at most {room}, or leave it out",
        )
    return options.max_chunk_tokens or min(CHUNK_TOKENS, room)


@dataclass(frozen=True)
class Responses:
    """R response texts of a shard: the row of each, and its characters in the shard's rows laid end to end."""

    rows_R: npt.NDArray[np.int64]
    spans_R2: npt.NDArray[np.int64]


def responses(shard: TokenChunk, row_starts: npt.NDArray[np.int64]) -> Responses:
    """The contiguous runs of supervised tokens.

    A run ends at a token that is not supervised and at a pinned one with characters (a special token, an end-of-turn
    marker); a pinned token without characters (a space taken out of its offsets) does not end it.
    """
    import numpy as np

    offsets_N2 = shard.columns[OFFSETS].astype(np.int64)
    supervised_N = shard.supervised
    row_N = np.repeat(np.arange(shard.num_rows), np.diff(shard.row_offsets))
    seen = np.flatnonzero((offsets_N2[:, 0] < offsets_N2[:, 1]) | ~supervised_N)
    inside_S = (supervised_N & ~shard.columns[PINNED])[seen]
    rows_S = row_N[seen]
    opens_S = inside_S.copy()
    opens_S[1:] &= ~inside_S[:-1] | (rows_S[1:] != rows_S[:-1])
    starts = np.flatnonzero(opens_S[inside_S])
    rows_I, spans_I2 = rows_S[inside_S], offsets_N2[seen][inside_S]
    if not len(starts):
        return Responses(rows_I, spans_I2)
    first_R = np.minimum.reduceat(spans_I2[:, 0], starts)
    last_R = np.maximum.reduceat(spans_I2[:, 1], starts)
    rows_R = rows_I[starts]
    return Responses(rows_R, np.stack([first_R, last_R], axis=1) + row_starts[rows_R, None])


def _score(shard: TokenChunk, classifier: Classifier) -> npt.NDArray[np.float32]:
    """float32[N]: see the module."""
    import numpy as np

    from sftgo_cli.data.alignment import non_space, paint, spread, token_values
    from sftgo_cli.scoring.word_probabilities import word_probabilities

    row_texts: list[str] = shard.columns[TEXT]
    lengths = [len(text) for text in row_texts]
    row_starts = np.cumsum([0, *lengths], dtype=np.int64)
    whole = "".join(row_texts)
    found = responses(shard, row_starts)
    words = word_probabilities(classifier, [whole[start:stop] for start, stop in found.spans_R2])
    values_C = paint(words.spans_W2 + found.spans_R2[words.texts_W, :1], words.probabilities_W, len(whole))
    texts_C = np.full(len(whole), -1, dtype=np.int64)
    numbers_K, characters_K = spread(found.spans_R2)
    texts_C[characters_K] = numbers_K
    supervised = np.flatnonzero(shard.supervised)
    rows_M = np.searchsorted(shard.row_offsets, supervised, side="right") - 1
    spans_M2 = shard.columns[OFFSETS][supervised].astype(np.int64) + row_starts[rows_M, None]
    rows_C = np.repeat(np.arange(len(row_texts)), lengths)
    scores_N = np.full(int(shard.row_offsets[-1]), np.nan, dtype=np.float32)
    scores_N[supervised] = token_values(values_C, spans_M2, non_space(whole), texts_C, rows_C, rows_M)
    return scores_N
