"""Names and Arrow types of the columns that every stage reads and writes (data types are columns, not classes).

A tokenized row is one list per per-token column, all of the row's length L; every per-token column speaks of the token
at its own index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Features

IGNORE_INDEX = -100  # label of a token that is not supervised
NO_GROUP = -1  # group id of a token that is not supervised

ROW_ID = "row_id"
SOURCE = "source"
TEXT = "text"
INPUT_IDS = "input_ids"
LABELS = "labels"
OFFSETS = "offsets"
TOKEN_SCORES = "token_scores"
GROUP_IDS = "group_ids"
TOKEN_WEIGHTS = "token_weights"
LOSS_WEIGHT = "loss_weight"
REFERENCE_NLL = "reference_nll"
BASE_NLL = "base_nll"
GIVEN_GROUPS = "given_groups"  # int8[L]: the group that the row itself says; becomes group_ids
ROW_KEY = "row_key"  # int64: a hash of what the row says
PROMPT_KEY = "prompt_key"  # int64: a hash of what it asks, normalized
PINNED = "pinned"  # bool[L]: special token, token without characters, or end of turn; see grouping.special_tokens

PER_TOKEN = (INPUT_IDS, LABELS, OFFSETS, PINNED, TOKEN_WEIGHTS, TOKEN_SCORES, GROUP_IDS, REFERENCE_NLL, BASE_NLL)


def features(names: list[str]) -> Features:
    """The `datasets.Features` of the named columns.

    Raises:
        KeyError: a name is not one of the columns above.
    """
    from datasets import Features, List, Value

    known: dict[str, Any] = {
        ROW_ID: Value("string"),
        SOURCE: Value("string"),
        TEXT: Value("string"),
        INPUT_IDS: List(Value("int32")),
        LABELS: List(Value("int32")),
        OFFSETS: List(List(Value("int32"), length=2)),
        PINNED: List(Value("bool")),
        ROW_KEY: Value("int64"),
        PROMPT_KEY: Value("int64"),
        TOKEN_WEIGHTS: List(Value("float32")),
        LOSS_WEIGHT: Value("float32"),
        TOKEN_SCORES: List(Value("float32")),
        GROUP_IDS: List(Value("int8")),
        GIVEN_GROUPS: List(Value("int8")),
        REFERENCE_NLL: List(Value("float32")),
        BASE_NLL: List(Value("float32")),
    }
    return Features({name: known[name] for name in names})
