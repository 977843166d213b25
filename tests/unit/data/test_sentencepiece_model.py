"""Folders with a sentencepiece or tiktoken file alone: the pieces are those of the library that the file was made with."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.data.sentencepiece_model import LEADING, SAMPLES
from sftgo_cli.data.tokenizer import load_tokenizer
from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.recipe.model_section import ModelSection

TEXTS = (*SAMPLES, *LEADING, "the cats sat\n\non 17 mats", "<turn>user\n\nthe cat</turn>", "    indented", "")
LINES = [f"the cat number {number} sat on the mat and ate {number * 7} fish, café naïve" for number in range(500)]


def loaded(folder: Path) -> Any:
    return load_tokenizer(ModelSection.model_validate({"name_or_path": str(folder)}), folder)


def model_in(folder: Path, **options: Any) -> Any:
    """Train a model, put it alone in a folder with a config.json, and return the library's own processor."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the extra `sentencepiece` is not installed")
    pytest.importorskip("google.protobuf", reason="the extra `sentencepiece` is not installed")
    content = io.BytesIO()
    settings = {"vocab_size": 350, "model_type": "bpe", "byte_fallback": True, "character_coverage": 1.0}
    settings |= {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "minloglevel": 9}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=content, **{**settings, **options}
    )
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(content.getvalue())
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 350}))
    return sentencepiece.SentencePieceProcessor(model_proto=content.getvalue())


OPTIONS: dict[str, dict[str, Any]] = {
    "Llama's kind": {"split_digits": True, "add_dummy_prefix": True},
    "Gemma's kind": {"add_dummy_prefix": False, "user_defined_symbols": ["<turn>", "</turn>", "\n\n", "▁▁"]},
    "without bytes": {"byte_fallback": False},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_pieces_are_the_librarys_own(name: str, tmp_path: Path) -> None:
    processor = model_in(tmp_path / "model", **OPTIONS[name])
    tokenizer = loaded(tmp_path / "model")
    assert tokenizer.is_fast
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["input_ids"]
        assert ids == processor.encode(text), text
        assert name == "without bytes" or tokenizer.decode(ids) == text
    tokenizer.save_pretrained(tmp_path / "saved")
    again = loaded(tmp_path / "saved")
    assert [again(text)["input_ids"] for text in TEXTS] == [tokenizer(text)["input_ids"] for text in TEXTS]


def test_what_stands_beside_the_model_is_read(tmp_path: Path) -> None:
    model_in(tmp_path / "model")
    added = {"350": {"content": "<|im_start|>", "special": True}, "351": {"content": "<|im_end|>", "special": True}}
    config = {"eos_token": "<|im_end|>", "chat_template": "{{ messages }}", "added_tokens_decoder": added}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = loaded(tmp_path / "model")
    assert tokenizer("<|im_start|>x<|im_end|>", add_special_tokens=False)["input_ids"][0] == 350
    assert tokenizer.eos_token_id == 351
    assert tokenizer.chat_template == "{{ messages }}"
    assert len(tokenizer) == 352


def test_a_model_that_transformers_reads_otherwise_is_refused(tmp_path: Path) -> None:
    model_in(tmp_path / "model", model_type="unigram", byte_fallback=False)
    with pytest.raises(UserError, match=r"tokenizer\.model cannot be converted exactly: .* - save the tokenizer as"):
        loaded(tmp_path / "model")


def test_a_tiktoken_file_is_converted(tmp_path: Path) -> None:
    pytest.importorskip("tiktoken", reason="the extra `tiktoken` is not installed")
    ranks_in(tmp_path)
    tokenizer = loaded(tmp_path)
    ids = tokenizer("the cat 🙂", add_special_tokens=False)["input_ids"]
    assert ids[0] == 258  # the
    assert tokenizer.decode(ids) == "the cat 🙂"


def ranks_in(folder: Path) -> None:
    """A file of ranks as tiktoken's: all bytes, and a few words."""
    words = [bytes([number]) for number in range(256)] + [b"th", b"he", b"the", b" c", b"at", b" cat"]
    lines = [base64.b64encode(word).decode() + f" {rank}" for rank, word in enumerate(words)]
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 300}))


@pytest.mark.parametrize("kind", ["sentencepiece", "tiktoken"])
def test_a_missing_package_is_named_with_its_extra(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "tiktoken":
        ranks_in(tmp_path)
    else:
        (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name.startswith(kind) else find(name, *more)
    )
    with pytest.raises(EnvironmentProblem, match=rf"is a {kind} file, tokenizer\.model, .*sftgo\[{kind}\]"):
        loaded(tmp_path)
