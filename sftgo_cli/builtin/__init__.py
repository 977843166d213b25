"""The network-free models and data behind `model: builtin:tiny` and `data: builtin:instructions`.

The models are shipped with the package. `tiny` is a base model, made by `python -m sftgo_cli.builtin.pretrain OUT_DIR`;
`tiny-instruct` follows simple instructions and was made from it by `python -m sftgo_cli.builtin.instruct OUT_DIR`. The
data are generated on every call from a fixed seed. Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sftgo_cli.errors import UserError, nearest

MODEL_NAMES = ("tiny", "tiny-instruct")
DATA_NAMES = ("instructions", "arithmetic")
SPLITS = ("train", "heldout")


def model_folder(name: str) -> Path:
    """The folder of a built-in model, for `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`.

    `name` is given without `builtin:`.

    Raises:
        UserError: no built-in model has this name.
    """
    _check(name, MODEL_NAMES, "model", f"builtin:{name}")
    return Path(__file__).parent / name.replace("-", "_")


def data_rows(name: str, split: str) -> list[dict[str, Any]]:
    """The rows of a built-in data set's `train` or `heldout` split, in a fixed order; `name` without `builtin:`.

    `instructions` has id, instruction, input, output; `arithmetic` has id, prompt, completion, answer. All are strings.

    Raises:
        UserError: no built-in data set has this name, or it has no such split.
    """
    from sftgo_cli.builtin import arithmetic, instructions

    _check(name, DATA_NAMES, "data set", f"builtin:{name}")
    _check(split, SPLITS, "split", f"builtin:{name}")
    return instructions.rows(split) if name == "instructions" else arithmetic.rows(split)


def data_fingerprint(name: str, split: str) -> str:
    """The sha256 of the rows' canonical JSON: a cache key's ingredient, equal exactly when the rows are.

    Raises:
        UserError: as `data_rows`.
    """
    canonical = json.dumps(data_rows(name, split), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def _check(name: str, known: tuple[str, ...], what: str, where: str) -> None:
    if name in known:
        return
    close = nearest(name, known)
    hint = f"did you mean {close}?" if close else f"choose one of: {', '.join(known)}"
    raise UserError(f"there is no built-in {what} {name!r}", where, hint)
