"""Loading the model's tokenizer, and what its content is for the cache key."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sftgo_cli.data.sentencepiece_model import check_same, converted, is_tiktoken, model_file, require_packages
from sftgo_cli.errors import UserError
from sftgo_cli.model_source import model_source
from sftgo_cli.new_tokens import extend_tokenizer
from sftgo_cli.recipe.model_section import ModelSection

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
)


def load_tokenizer(model: ModelSection, recipe_dir: Path) -> Any:
    """The fast tokenizer of `model.name_or_path`, with `model.new_tokens`. Raises as `_loaded`."""
    tokenizer = _loaded(model, recipe_dir)
    extend_tokenizer(tokenizer, model.new_tokens or [])
    return tokenizer


def _loaded(model: ModelSection, recipe_dir: Path) -> Any:
    """The fast tokenizer of a folder (relative to the recipe's), `builtin:NAME` or a Hub id. A sentencepiece model alone
    is converted.

    Code that comes with the model runs only under `trust_remote_code`.

    Raises:
        UserError: no such folder or Hub model, no tokenizer in it, or one that is not fast and cannot be converted.
        EnvironmentProblem: the package that reads its file is missing.
    """
    from transformers import AutoTokenizer

    source = model_source(model, recipe_dir)
    name = Path(source.tokenizer) if Path(source.tokenizer).is_dir() else source.tokenizer
    if isinstance(name, Path) and _has_only_byte_level_files(name):
        from transformers import GPT2TokenizerFast

        return GPT2TokenizerFast(vocab=str(name / "vocab.json"), merges=str(name / "merges.txt"))
    file = model_file(name) if isinstance(name, Path) else None
    where = f"model.name_or_path: {model.name_or_path}"
    if file is not None:
        require_packages(file, where)
        if not is_tiktoken(file):
            exact = converted(file)
            if exact is not None:
                return exact
    revision = {} if source.tokenizer_revision is None else {"revision": source.tokenizer_revision}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(name), trust_remote_code=model.trust_remote_code, use_fast=True, **revision
        )
    except Exception as error:  # transformers, the Hub and tokenizers raise their own errors without a common base
        raise _not_loaded(model, name, error) from error
    if not tokenizer.is_fast:
        raise UserError(
            "the tokenizer is a slow one, which gives no character offsets",
            f"model.name_or_path: {model.name_or_path}",
            "convert it once to a fast one (tokenizer.json) and use that folder",
        )
    if file is not None and not is_tiktoken(file):
        check_same(file, tokenizer, where)
    if not tokenizer("a text", add_special_tokens=False)["input_ids"]:
        raise UserError(
            f"the tokenizer turns text into no tokens (it knows {len(tokenizer)})",
            f"model.name_or_path: {model.name_or_path}",
            "its vocabulary was not loaded when it was saved; save it again from its own files",
        )
    return tokenizer


def _has_only_byte_level_files(folder: Path) -> bool:
    """GPT-2's original two files and nothing that says more: transformers 5 cannot tell the tokenizer from these."""
    there = {file for file in (*TOKENIZER_FILES, "merges.txt") if (folder / file).is_file()}
    return there == {"vocab.json", "merges.txt"}


def _not_loaded(model: ModelSection, name: Path | str, error: Exception) -> UserError:
    where = f"model.name_or_path: {model.name_or_path}"
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "trust_remote_code" in str(error):
        return UserError(
            "the tokenizer needs code that comes with the model",
            where,
            "read that code, then set model.trust_remote_code",
        )
    if isinstance(name, Path):
        if not any((name / file).is_file() for file in TOKENIZER_FILES):
            return UserError("the folder holds no tokenizer", where, f"put {TOKENIZER_FILES[0]} there")
        return UserError(f"the folder's tokenizer cannot be loaded: {reason}", where, "save it again as tokenizer.json")
    return UserError(
        f"neither a local folder nor a model that the Hub could give: {reason}",
        where,
        "check the name, the revision and the network (log in for gated models), or give a local folder",
    )


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """sha256 of what the tokenizer does: its backend, special tokens and chat template; not where it came from."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # Truncation and padding are left-overs of earlier calls.
    content = {
        "backend": {key: value for key, value in backend.items() if key not in ("truncation", "padding")},
        "special_tokens": {key: str(value) for key, value in tokenizer.special_tokens_map.items()},
        "chat_template": getattr(tokenizer, "chat_template", None),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
