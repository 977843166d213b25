"""Whether rows can be decoded as `decoding` does it, and how they are completed where not: by plain `generate`.

Some architectures keep more than keys and values per token (state-space and linear-attention layers), or place tokens by
something else than `position_ids`. Which do is not looked up but tried: a few rows that enter at different times must
have the logits that each has alone. `generate` chooses through the same function, so what it gives is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from sftgo_cli.curation.decoding import Generated, Prompt, Row, Stops, choose_and_add, new_row
from sftgo_cli.curation.decoding_choice import Sampling
from sftgo_cli.curation.decoding_rows import device_of, joined, prefill, step

# Of the largest logit. Rounding stays far below; a row that sees another's tokens, or is misplaced, lies far above.
PROBE_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
PROBE_LENGTHS = (7, 4, 9)  # the third row enters later
PROBE_STEPS = 3


@torch.inference_mode()
def cannot_refill(model: Any) -> str | None:
    """Why rows of this model cannot leave and enter a batch, in a few words; None where they can."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    texts = [[(17 * place + 5 * row + 3) % vocabulary for place in range(16)] for row in range(len(PROBE_LENGTHS))]
    try:
        alone = [_logits_alone(model, ids) for ids in texts]
        got = _logits_together(model, texts)
    except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError, KeyError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return f"{type(error).__name__} from its cache"
    largest = max(float(logits_TV.abs().max()) for logits_TV in alone)
    difference = max(float((logits_V - alone[row][length - 1]).abs().max()) for row, length, logits_V in got)
    if difference <= PROBE_TOLERANCE[model.dtype] * max(1.0, largest):
        return None
    return f"logits change by {difference:.2g} when they do"


def _logits_alone(model: Any, ids: Sequence[int]) -> Tensor:
    """float32[T, V] without any cache."""
    output = model(input_ids=torch.tensor([list(ids)], device=device_of(model)), use_cache=False)
    logits_TV: Tensor = output.logits[0].float()
    return logits_TV


def _logits_together(model: Any, texts: Sequence[Sequence[int]]) -> list[tuple[int, int, Tensor]]:
    """(row, how many of its tokens were read, logits[V]) at every step of rows that begin and leave at other times."""
    read = list(PROBE_LENGTHS)
    block, logits_RV = prefill(model, [texts[0][: read[0]], texts[1][: read[1]]])
    rows = [0, 1]
    got = [(row, read[row], logits_RV[place]) for place, row in enumerate(rows)]
    block = joined([(block, [0, 1])])
    for number in range(2 * PROBE_STEPS):
        if number == PROBE_STEPS:
            later, logits_RV = prefill(model, [texts[2][: read[2]]])
            got.append((2, read[2], logits_RV[0]))
            block, rows = joined([(block, [1]), (later, [0])]), [1, 2]
        tokens_R = torch.tensor([texts[row][read[row]] for row in rows], device=device_of(model))
        logits_RV = step(model, block, tokens_R, [True, True])
        for place, row in enumerate(rows):
            read[row] += 1
            got.append((row, read[row], logits_RV[place]))
    return got


def decode_plainly(
    model: Any, prompts: Iterator[Prompt], sampling: Sampling, stops: Stops, batch_size: int
) -> Iterator[list[Generated]]:
    """As `decoding.decode`, by `model.generate`, one batch after the other."""
    while batch := list(islice(prompts, batch_size)):
        rows = [new_row(prompt, sampling, device_of(model)) for prompt in batch]
        _generate(model, rows, sampling, stops)
        yield [row.generated for row in rows]


@torch.inference_mode()
def _generate(model: Any, rows: Sequence[Row], sampling: Sampling, stops: Stops) -> None:
    from transformers import GenerationConfig

    def chosen(input_ids: Tensor, scores_RV: Tensor) -> Tensor:
        tokens_R = choose_and_add(rows, scores_RV.float(), sampling, stops, model.dtype)
        return torch.full_like(scores_RV, -torch.inf).scatter(-1, tokens_R[:, None], 0.0)

    def ended(input_ids: Tensor, scores: Any, **more: Any) -> Tensor:
        return torch.tensor([not row.is_open for row in rows], device=input_ids.device)

    width = max(len(row.prompt.ids) for row in rows)
    device = device_of(model)
    padding = [width - len(row.prompt.ids) for row in rows]
    ids_RC = [[0] * count + list(row.prompt.ids) for row, count in zip(rows, padding, strict=True)]
    mask_RC = [[0] * count + [1] * (width - count) for count in padding]
    # Penalties, beams and the like that a model's generation_config.json sets are not asked for.
    model.generation_config = GenerationConfig(pad_token_id=0)
    model.generate(
        input_ids=torch.tensor(ids_RC, device=device),
        attention_mask=torch.tensor(mask_RC, device=device),
        max_new_tokens=max(row.prompt.limit for row in rows),
        do_sample=False,
        logits_processor=[chosen],
        stopping_criteria=[ended],
    )
