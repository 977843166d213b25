"""How likely the base model finds an answer: the log-probability of gold and of the chosen target, per row.

    log p(y | x) = sum over the answer's supervised tokens of log p(token | all before), nats

The text is rendered and tokenized as for training, cut at data.max_length, and only the last answer counts. S3FT's point
is that targets which the model finds likelier pull it less far from what it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sftgo_cli.curation.questions import CurationContext
from sftgo_cli.curation.steps import Keep, Step, digest, results_of
from sftgo_cli.data.samples import Sample
from sftgo_cli.progress import Work

if TYPE_CHECKING:
    from sftgo_cli.data.rows import TokenChunk
    from sftgo_cli.data.tokenization import TokenRow

NAME = "log_probabilities"
ROWS_AT_ONCE = 64
BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Likelihood:
    """Sum of the log-probabilities in nats, and how many tokens they are of; None where the answer was cut off."""

    log_probability: float | None
    num_tokens: int


def fingerprint(context: CurationContext) -> dict[str, Any]:
    """The base model's weights, and how text becomes its tokens."""
    from sftgo_cli.base_model import model_fingerprint
    from sftgo_cli.data.tokenizer import tokenizer_fingerprint

    return {
        "base": model_fingerprint(context.model, context.recipe_dir),
        "quantization": context.model.quantization,
        "dtype": context.model.dtype,
        "tokenizer": tokenizer_fingerprint(context.tokenizer),
        "chat_template": context.template,
    }


def likelihoods(samples: Sequence[Sample], max_length: int, context: CurationContext) -> list[Likelihood]:
    """The likelihood of the last answer of every sample, in their order; a cached step.

    Raises:
        UserError: the base model cannot be loaded, or a row does not fit it.
    """
    rows = _token_rows(samples, max_length, context)

    def compute(todo: Sequence[int], keep: Keep) -> None:
        weigh, wanted = _open(context), set(todo)
        ordered = sorted(range(len(rows)), key=lambda number: -len(rows[number].input_ids))  # like lengths together
        for start in range(0, len(ordered), ROWS_AT_ONCE):
            group = ordered[start : start + ROWS_AT_ONCE]
            if wanted.intersection(group):  # a whole group, so that a kill before it changes no last bit
                weighed = zip(group, weigh([rows[number] for number in group]), strict=True)
                keep([(number, result) for number, result in weighed if number in wanted])

    tokens = [[row.input_ids.tolist(), row.labels.tolist()] for row in rows]
    ingredients = {**fingerprint(context), "rows": digest(tokens)}
    work = Work("weighing answers", "the base model", "answers", len(rows), len(rows))
    return [Likelihood(*result) for result in results_of(Step(NAME, work, ingredients, compute), context)]


def token_lengths(samples: Sequence[Sample], context: CurationContext) -> list[int]:
    """Tokens of every sample, none cut."""
    return [len(row.input_ids) for row in _token_rows(samples, None, context)]


def _token_rows(samples: Sequence[Sample], max_length: int | None, context: CurationContext) -> list[TokenRow]:
    from sftgo_cli.data.rendering import Rendered, make_renderer, render_sample
    from sftgo_cli.data.tokenization import cut, encode_texts, make_encoder

    renderer = make_renderer(context.template, context.tokenizer, "completion")
    rendered = [render_sample(sample, renderer) for sample in samples]
    texts = [row for row in rendered if isinstance(row, Rendered)]
    if len(texts) < len(rendered):  # a question has an answer, and so has a choice
        raise ValueError(f"{len(rendered) - len(texts)} rows have no answer to weigh")
    rows = encode_texts(texts, make_encoder(context.tokenizer))
    return rows if max_length is None else [cut(row, max_length) for row in rows]


def _open(context: CurationContext) -> Any:
    """Load the base model; gives the function from token rows to [log-probability, number of tokens] of each."""
    import numpy as np

    from sftgo_cli.base_model import load_base_model
    from sftgo_cli.token_nll import check_model, to_device, token_nll

    where = f"model.name_or_path: {context.model.name_or_path}"
    model = load_base_model(context.model, context.recipe_dir, context.model.dtype)
    model = model.eval() if context.use_cpu else to_device(model)
    check_model(model, where)

    def weigh(rows: Sequence[TokenRow]) -> list[list[float | int | None]]:
        chunk = _chunk(rows)
        nll_N = token_nll(model, chunk, BATCH_TOKENS, where).astype(np.float64)
        pieces = np.split(nll_N, chunk.row_offsets[1:-1])
        found = [piece[np.isfinite(piece)] for piece in pieces]
        return [[-float(piece.sum()) if len(piece) else None, len(piece)] for piece in found]

    return weigh


def _chunk(rows: Sequence[TokenRow]) -> TokenChunk:
    import numpy as np

    from sftgo_cli.columns import INPUT_IDS, LABELS
    from sftgo_cli.data.rows import TokenChunk

    offsets = np.cumsum([0, *(len(row.input_ids) for row in rows)], dtype=np.int64)
    columns = {
        INPUT_IDS: np.concatenate([row.input_ids for row in rows]),
        LABELS: np.concatenate([row.labels for row in rows]),
    }
    return TokenChunk(0, offsets, columns)
