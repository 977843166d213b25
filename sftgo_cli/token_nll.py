"""A causal language model -> the NLL of every supervised token of a shard, for the scorers that compare likelihoods.

    nll[t] = logsumexp(z) - z[x_t],   z = the model's logits after x_0 .. x_{t-1},  float32, nats

Every row is read alone from its beginning, position ids 0, 1, ... Rows of similar length form right-padded batches of a
bounded number of tokens, only up to the last token that a supervised one is predicted from; logits are made for the
supervised positions only, a slice at a time, where the loss head (losses/head.py) fits the architecture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sftgo_cli.columns import IGNORE_INDEX, INPUT_IDS, LABELS
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.options import MethodOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from sftgo_cli.data.rows import TokenChunk


class NllOptions(MethodOptions):
    """What every scorer that runs causal language models can be told."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Compute type of the scoring models; null: model.dtype"
    )
    batch_tokens: Annotated[int, Field(gt=0)] = Field(
        8192, description="Tokens of a scoring batch, padding included; a longer row stands alone"
    )


@dataclass(frozen=True)
class Batch:
    """Rows padded to one width T. `places_N` are the chunk positions of its supervised tokens, rows first."""

    input_ids_BT: npt.NDArray[np.int64]
    read_BT: npt.NDArray[np.bool_]  # False: padding
    predicts_BT: npt.NDArray[np.bool_]  # the state here predicts a supervised token, the next one
    places_N: npt.NDArray[np.int64]


def scoring_device() -> torch.device:
    """The accelerator of this process (`LOCAL_RANK` numbers the processes of a machine), else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def to_device(model: Any) -> Any:
    """The model in evaluation mode on this process's device; a quantized one already lies there."""
    quantized = getattr(model, "quantization_method", None) is not None
    return model.eval() if quantized else model.to(scoring_device()).eval()


def token_nll(model: Any, chunk: TokenChunk, batch_tokens: int, where: str) -> npt.NDArray[np.float32]:
    """NLL of each supervised token of a shard under `model`: float32[N] in nats, NaN where not supervised.

    A row's first token is predicted by nothing: NaN. Deterministic in the shard's content and order.

    Args:
        where: what the user called the model, for messages.

    Raises:
        UserError: a row is longer than the model's context, or holds an id that the model does not know.
    """
    import numpy as np
    import torch

    from sftgo_cli.losses import head

    head.attach(model)
    nll_N = np.full(int(chunk.row_offsets[-1]), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for batch in batches_of(chunk, batch_tokens):
            _check_fits(model, batch, where)
            nll_N[batch.places_N] = _batch_nll(model, batch, chunk.columns[LABELS][batch.places_N])
    return nll_N


def batches_of(chunk: TokenChunk, batch_tokens: int) -> Iterator[Batch]:
    """The shard's rows that have a supervised token, longest first (so that memory runs out at once or never)."""
    import numpy as np

    lengths_R = _read_lengths(chunk)
    order = np.argsort(-lengths_R, kind="stable")
    order = order[lengths_R[order] > 0]
    start = 0
    while start < len(order):
        stop = start + max(1, batch_tokens // int(lengths_R[order[start]]))
        rows = order[start:stop]
        yield _batch(chunk, chunk.row_offsets[rows], lengths_R[rows])
        start = stop


def _read_lengths(chunk: TokenChunk) -> npt.NDArray[np.int64]:
    """int64[R]: how many tokens of each row must be read: those before its last supervised token."""
    import numpy as np

    places_N = np.flatnonzero(chunk.supervised)
    row_N = np.searchsorted(chunk.row_offsets, places_N, side="right") - 1
    lengths_R = np.zeros(chunk.num_rows, dtype=np.int64)
    np.maximum.at(lengths_R, row_N, places_N - chunk.row_offsets[row_N])
    return lengths_R


def _batch(chunk: TokenChunk, starts_B: npt.NDArray[np.int64], lengths_B: npt.NDArray[np.int64]) -> Batch:
    import numpy as np

    column_T = np.arange(int(lengths_B[0]))  # the longest row comes first
    read_BT = column_T < lengths_B[:, None]
    places_BT = np.where(read_BT, starts_B[:, None] + column_T, 0)
    predicts_BT = read_BT & (chunk.columns[LABELS][places_BT + 1] != IGNORE_INDEX)
    input_ids_BT = np.where(read_BT, chunk.columns[INPUT_IDS][places_BT], 0).astype(np.int64)
    return Batch(input_ids_BT, read_BT, predicts_BT, places_BT[predicts_BT] + 1)


def _check_fits(model: Any, batch: Batch, where: str) -> None:
    length, context = (
        batch.input_ids_BT.shape[1],
        getattr(model.config.get_text_config(), "max_position_embeddings", None),
    )
    if context is not None and length > context:
        raise UserError(f"a row has {length} tokens, the model's context is {context}", where, "lower data.max_length")
    known = model.get_input_embeddings().weight.shape[0]
    if int(batch.input_ids_BT.max()) >= known:
        raise UserError(
            f"the rows hold token {int(batch.input_ids_BT.max())}, the model knows {known}",
            where,
            "use a model with the same tokenizer",
        )


def _batch_nll(model: Any, batch: Batch, targets_N: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    import numpy as np
    import torch

    from sftgo_cli.losses.head import losses_at

    device = model.get_input_embeddings().weight.device
    inputs = {"input_ids": torch.from_numpy(batch.input_ids_BT).to(device)}
    if not batch.read_BT.all():
        inputs["attention_mask"] = torch.from_numpy(batch.read_BT.astype(np.int64)).to(device)
    predicts_BT = torch.from_numpy(batch.predicts_BT).to(device)
    nll_N = losses_at(model, inputs, predicts_BT, torch.from_numpy(targets_N.astype(np.int64)).to(device))
    return np.asarray(nll_N.float().cpu().numpy())


def check_model(model: Any, where: str) -> None:
    """Attach the loss head and verify on a few tokens that `token_nll` equals cross-entropy on the model's own logits.

    Raises:
        UserError: the model is not causal, or its losses are not finite.
    """
    import numpy as np

    from sftgo_cli.data.rows import TokenChunk
    from sftgo_cli.losses import head, head_probe

    head.attach(model)
    head_probe.fit(model, where)
    ids = head_probe.probe_ids(model)[0].cpu().numpy().astype(np.int32)
    chunk = TokenChunk(0, np.array([0, len(ids)]), {INPUT_IDS: ids, LABELS: ids})
    if not np.isfinite(token_nll(model, chunk, len(ids), where)[1:]).all():
        raise UserError("the model's losses are not finite", where, "check its weights, or try scoring.dtype: float32")
