"""A byte-level tokenizer trained on a few words, and rows made with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sftgo_cli.columns import features

NAMES = ["row_id", "source", "text", "input_ids", "labels", "offsets", "pinned", "token_scores", "group_ids"]


@pytest.fixture(scope="session")
def bpe() -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    backend.train_from_iterator(["the cat sat on the mat"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def make_row(bpe: Any) -> Callable[..., dict[str, Any]]:
    """A row of `<s>` + prompt + answer + `</s>`; token t of the answer has score t % 7 and group t % num_groups."""

    def make(prompt: str, answer: str, row_id: str = "r:1", num_groups: int = 2, **more: Any) -> dict[str, Any]:
        text = f"{prompt}{answer}</s>"
        encoded = bpe(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = np.array([bpe.bos_token_id, *encoded["input_ids"]])
        spans = np.array([(0, 0), *encoded["offset_mapping"]])
        supervised = spans[:, 1] > len(prompt)
        place = np.arange(len(ids)) - int(np.argmax(supervised))
        return {
            "row_id": row_id,
            "source": "train.0",
            "text": text,
            "input_ids": ids.tolist(),
            "labels": np.where(supervised, ids, -100).tolist(),
            "offsets": spans.tolist(),
            "pinned": np.isin(ids, bpe.all_special_ids).tolist(),
            "token_scores": np.where(supervised, place % 7, np.nan).tolist(),
            "group_ids": np.where(supervised, place % num_groups, -1).tolist(),
            **more,
        }

    return make


@pytest.fixture(scope="session")
def make_dataset() -> Callable[[list[dict[str, Any]]], Any]:
    from datasets import Dataset

    def make(rows: list[dict[str, Any]]) -> Any:
        return Dataset.from_list(rows, features=features(NAMES))

    return make
