"""A two-label token classifier from a folder or the Hub: what is checked before it runs, loading it, its batched pass.

Label 1 means keep. Weights come from safetensors only, the tokenizer must be a fast one (it gives character offsets),
and a checkpoint without a trained head is refused: transformers would draw one at random.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftgo_cli.errors import UserError, nearest
from sftgo_cli.token_nll import scoring_device

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

KEEP = 1  # the label of the words to keep
NUM_LABELS = 2
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """Where a classifier lies; `name` is an absolute folder or a Hub id."""

    name: str
    revision: str | None
    where: str  # for errors: the recipe's key and value

    @property
    def folder(self) -> Path | None:
        """The folder, or None for a Hub id."""
        return Path(self.name) if Path(self.name).is_dir() else None

    @property
    def arguments(self) -> dict[str, Any]:
        """What `from_pretrained` gets besides the name."""
        return {} if self.revision is None else {"revision": self.revision}


@dataclass(frozen=True)
class Shape:
    """What a configuration says without its weights."""

    head: tuple[str, ...]  # parameters that the base model does not have
    max_positions: int | None  # tokens that fit, special ones included; None without a limit


def find_checkpoint(name: str, revision: str | None, recipe_dir: Path, key: str) -> Checkpoint:
    """The folder (relative to the recipe's) or Hub id that `name` stands for.

    Raises:
        UserError: no such folder exists, and it is written as a path or nearly the name of a folder beside the recipe.
    """
    path = recipe_dir / Path(name).expanduser()
    where = f"{key}: {name}"
    if path.is_dir():
        return Checkpoint(str(path.resolve()), revision, where)
    if path.exists():
        raise UserError("the classifier is a file", where, "give the folder that holds config.json")
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    close = nearest(path.name, sorted(child.name for child in folder.iterdir() if child.is_dir()))
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local or (close and folder == path.absolute().parent):
        fix = f"did you mean {folder / close}?" if close else f"check the path; {folder} exists"
        raise UserError(f"there is no folder {name}", where, fix)
    return Checkpoint(name, revision, where)


def check_config(checkpoint: Checkpoint) -> tuple[Any, Shape]:
    """The configuration, and what the model built from it looks like (on the meta device: no memory, no weights).

    Raises:
        UserError: it cannot be read, is of no token-classification architecture, or has another number of labels.
    """
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    try:
        config = AutoConfig.from_pretrained(checkpoint.name, **checkpoint.arguments)
        with torch.device("meta"):
            model = AutoModelForTokenClassification.from_config(config)
    except (OSError, ValueError) as error:
        raise _not_loaded(checkpoint, error) from error
    if config.num_labels != NUM_LABELS:
        raise UserError(
            f"the classifier has {config.num_labels} labels; two are needed (0 drop, {KEEP} keep)",
            checkpoint.where,
            "give a checkpoint of the kind of microsoft/llmlingua-2-xlm-roberta-large-meetingbank",
        )
    head = tuple(name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}."))
    return config, Shape(head, _max_positions(config, model))


def _max_positions(config: Any, model: torch.nn.Module) -> int | None:
    """`max_position_embeddings`, less the places that RoBERTa's kin keep for padding."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return None
    paddings = [getattr(part, "padding_idx", None) for name, part in model.named_modules() if "position" in name]
    reserved = max((padding + 1 for padding in paddings if padding is not None), default=0)
    return int(limit) - reserved


def check_weights(checkpoint: Checkpoint, shape: Shape) -> None:
    """Look at the names in a folder's safetensors files; a Hub checkpoint is looked at when it is loaded.

    Raises:
        UserError: there are only pickled weights or none, or the classifier's head is not among them.
    """
    folder = checkpoint.folder
    if folder is None:
        return
    names = _weight_names(folder)
    if names is None:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl"))
        if not pickled:
            raise UserError("the folder holds no weights", checkpoint.where, f"put {WEIGHTS} there")
        raise UserError(
            f"the weights are pickled ({pickled[0]}), and pickle runs code when it is read",
            checkpoint.where,
            f"load the model once where you trust it and save_pretrained() it: that writes {WEIGHTS}",
        )
    _refuse_missing([name for name in shape.head if name not in names], checkpoint)


def _weight_names(folder: Path) -> set[str] | None:
    from safetensors import SafetensorError, safe_open

    if (folder / INDEX).is_file():
        return set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"])
    if not (folder / WEIGHTS).is_file():
        return None
    try:
        with safe_open(folder / WEIGHTS, framework="np") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise UserError(f"cannot be read: {error}", str(folder / WEIGHTS), "copy or download it again") from error


def _refuse_missing(missing: Sequence[str], checkpoint: Checkpoint) -> None:
    if missing:
        raise UserError(
            f"the checkpoint has no trained token-classification head ({', '.join(sorted(missing))} missing)",
            checkpoint.where,
            "give a checkpoint trained for token classification; a random head would give random scores",
        )


def load_classifier_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's fast tokenizer.

    Raises:
        UserError: it has none, or a slow one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.name, use_fast=True, **checkpoint.arguments)
    except Exception as error:  # transformers, the Hub and tokenizers raise their own errors without a common base
        raise _not_loaded(checkpoint, error) from error
    if not tokenizer.is_fast:
        raise UserError(
            "the classifier's tokenizer is a slow one, which gives no character offsets",
            checkpoint.where,
            "convert it once to a fast one (tokenizer.json)",
        )
    if not tokenizer("a text", add_special_tokens=False)["input_ids"]:
        raise UserError(
            "the classifier's tokenizer turns text into no tokens",
            checkpoint.where,
            "its vocabulary was not saved with it; put its tokenizer.json there",
        )
    return tokenizer


def load_classifier(checkpoint: Checkpoint, dtype: str) -> torch.nn.Module:
    """The model in `dtype` on this process's accelerator, else on the CPU, ready for inference.

    Raises:
        UserError: the weights are pickled, cannot be read, or lack the head.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    try:
        model, report = AutoModelForTokenClassification.from_pretrained(
            checkpoint.name,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            **checkpoint.arguments,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(checkpoint, error) from error
    _refuse_missing([name for name in report["missing_keys"] if not name.endswith("position_ids")], checkpoint)
    classifier: torch.nn.Module = model.to(scoring_device()).eval()
    return classifier


def _not_loaded(checkpoint: Checkpoint, error: Exception) -> UserError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "trust_remote_code" in str(error):
        fix = "it runs code of its own, which a scorer never does; give a checkpoint that transformers knows"
    elif "safetensors" in str(error):
        fix = "weights must be safetensors, not pickle: load it once where you trust it and save_pretrained() it"
    elif checkpoint.folder is not None:
        fix = "the folder must hold config.json, safetensors weights and tokenizer.json of a token classifier"
    else:
        fix = "check the name, the revision and the network (log in for gated models), or give a local folder"
    return UserError(f"cannot load the classifier: {reason[:300]}", checkpoint.where, fix)


def chosen_dtype() -> str:
    """bfloat16 on an accelerator that has it and on a CPU with bfloat16 instructions, else float32."""
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if any(on is True and name.endswith("bf16") for name, on in capabilities.items()) else "float32"


def chosen_batch_tokens() -> int:
    """Enough to fill an accelerator; on a CPU, few enough that a layer's activations stay near its caches."""
    import torch

    return 32768 if torch.cuda.is_available() else 1024


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Sequences by length, longest first, in batches of at most `batch_tokens` tokens with padding (or one sequence)."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def keep_probabilities(
    model: torch.nn.Module, sequences: Sequence[Sequence[int]], pad_id: int, batch_tokens: int
) -> list[npt.NDArray[np.float32]]:
    """softmax(logits)[keep] of every token of every sequence (special tokens included), float32, in the given order."""
    import numpy as np
    import torch

    device = next(model.parameters()).device
    found: list[npt.NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(sequences)
    with torch.inference_mode():
        for batch in batches([len(sequence) for sequence in sequences], batch_tokens):
            longest = len(sequences[batch[0]])
            ids_BT = np.full((len(batch), longest), pad_id, dtype=np.int64)
            mask_BT = np.zeros((len(batch), longest), dtype=np.int64)
            for place, index in enumerate(batch):
                ids_BT[place, : len(sequences[index])] = sequences[index]
                mask_BT[place, : len(sequences[index])] = 1
            ids = torch.from_numpy(ids_BT).to(device)
            mask = None if mask_BT.all() else torch.from_numpy(mask_BT).to(device)
            logits = model(input_ids=ids, attention_mask=mask).logits
            probabilities_BT = torch.softmax(logits.float(), dim=-1)[..., KEEP].cpu().numpy()
            for place, index in enumerate(batch):
                found[index] = probabilities_BT[place, : len(sequences[index])].copy()
    return found
