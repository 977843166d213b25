"""A folder whose tokenizer is a sentencepiece model alone -> a fast tokenizer that gives the very same pieces.

Byte-pair models (Llama 2, Mistral, Gemma, Yi, InternLM, ...) are converted here: pieces and merges as they are, spaces as
`▁`, with `▁` before the text where the model puts it, unknown characters as bytes. The result is compared with
sentencepiece itself on texts with digits, bytes, accents and runs of spaces; a model that normalizes otherwise, or a
unigram model, is left to its own class in transformers, under the same comparison.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from sftgo_cli.errors import EnvironmentProblem, UserError

FILES = ("tokenizer.model", "spiece.model")
SAMPLES = (
    "The cat sat on the mat, 1234 times.",
    "Two  spaces,\ttabs\nand\n\nlines ",
    "café naïve Übergröße ÅÉ",
    "中文, 日本語 и русский",
    "🙂 €½ ﬁ",
    "def f(x): return [x + 1, 'y']",
)
LEADING = (" a leading space", "  two")  # later conventions of transformers differ from sentencepiece here only
RANKED = re.compile(rb"^[A-Za-z0-9+/]+=* \d+\r?\n")  # a line of a tiktoken file


def model_file(folder: Path) -> Path | None:
    """The folder's sentencepiece or tiktoken file where there is no tokenizer.json to read instead."""
    if (folder / "tokenizer.json").is_file():
        return None
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def require_packages(file: Path, where: str) -> None:
    """Raises EnvironmentProblem when the package that reads the file is missing."""
    kind = "tiktoken" if is_tiktoken(file) else "sentencepiece"
    packages = {"tiktoken": ("tiktoken",), "sentencepiece": ("sentencepiece", "google.protobuf")}[kind]
    missing = [name for name in packages if not _installed(name)]
    if missing:
        raise EnvironmentProblem(
            f"the tokenizer is a {kind} file, {file.name}, which needs {' and '.join(missing)} to be converted",
            where,
            f"pip install 'sftgo[{kind}]', or save the tokenizer once as tokenizer.json",
        )


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package above it
        return False


def is_tiktoken(file: Path) -> bool:
    """Whether the file holds ranks of byte strings, a line each, rather than a sentencepiece model."""
    with file.open("rb") as stream:
        return RANKED.match(stream.read(4096)) is not None


def converted(file: Path) -> Any | None:
    """The fast tokenizer of a byte-pair sentencepiece model, with what tokenizer_config.json beside it says; None where it
    is a unigram model or does not give the same pieces."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    processor = _processor(file)
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    scores = [processor.get_score(number) for number in range(len(pieces))]
    if any(score != int(score) for score in scores):
        return None
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    ordinary = {
        piece: -scores[number]
        for number, piece in enumerate(pieces)
        if not (processor.is_control(number) or processor.is_unknown(number) or processor.is_byte(number))
    }
    unknown = pieces[processor.unk_id()]
    backend = Tokenizer(
        models.BPE(vocabulary, _merges(ordinary), unk_token=unknown, fuse_unk=True, byte_fallback=_has_bytes(processor))
    )
    prefix = processor.encode("a", out_type=str)[0].startswith("▁")
    spaces = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    backend.decoder = decoders.Sequence(steps)
    backend.add_tokens([AddedToken(piece, normalized=True, special=False) for piece in _user_defined(file)])
    _add_later_tokens(backend, file.parent, len(pieces))  # before the special ones, which would take their ids
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **_settings(file.parent, processor, pieces))
    return None if first_difference(file, tokenizer, (*SAMPLES, *LEADING)) is not None else tokenizer


def check_same(file: Path, tokenizer: Any, where: str) -> None:
    """Raises UserError when a tokenizer that transformers converted gives other pieces than sentencepiece."""
    difference = first_difference(file, tokenizer, SAMPLES)
    if difference is not None:
        raise UserError(
            f"{file.name} cannot be converted exactly: {difference}",
            where,
            "save the tokenizer as tokenizer.json with the library that it was made for",
        )


def first_difference(file: Path, tokenizer: Any, texts: tuple[str, ...]) -> str | None:
    """The first text that becomes other pieces, for messages."""
    processor = _processor(file)
    for text in texts:
        expected = processor.encode(text, out_type=str)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        pieces = tokenizer.convert_ids_to_tokens(ids)
        if [_known(processor, piece) for piece in pieces] != [_known(processor, piece) for piece in expected]:
            return f"{text!r} becomes {pieces[:6]}, not {expected[:6]}"
    return None


def _known(processor: Any, piece: str) -> str:
    """sentencepiece names unknown characters themselves, transformers the unknown token."""
    return str(processor.id_to_piece(processor.piece_to_id(piece)))


def _processor(file: Path) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(file))


def _has_bytes(processor: Any) -> bool:
    return any(processor.is_byte(number) for number in range(min(processor.get_piece_size(), 1024)))


def _user_defined(file: Path) -> list[str]:
    """The pieces that are matched whole before anything is merged, such as runs of line breaks or `<start_of_turn>`."""
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = import_protobuf().ModelProto()
    proto.ParseFromString(file.read_bytes())
    return [piece.piece for piece in proto.pieces if piece.type == piece.USER_DEFINED]


def _add_later_tokens(backend: Any, folder: Path, size: int) -> None:
    """Tokens that were added to the model's own, by the ids that tokenizer_config.json or added_tokens.json gives them."""
    from tokenizers import AddedToken

    later: dict[int, AddedToken] = {}
    for name in ("added_tokens.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            continue
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        if name == "added_tokens.json":
            later |= {number: AddedToken(text, normalized=False) for text, number in content.items()}
            continue
        for number, entry in content.get("added_tokens_decoder", {}).items():
            later[int(number)] = AddedToken(
                entry["content"], special=entry.get("special", False), normalized=entry.get("normalized", False)
            )
    for number in sorted(number for number in later if number >= size):
        add = backend.add_special_tokens if later[number].special else backend.add_tokens
        add([later[number]])


def _merges(ranks: dict[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, in the order in which the model merges."""
    found = []
    for piece, rank in ranks.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ranks and right in ranks:
                found.append((rank, ranks[left], ranks[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _settings(folder: Path, processor: Any, pieces: list[str]) -> dict[str, Any]:
    """Special tokens and chat template: of the model, and over them of the files beside it."""
    ids = {"bos_token": processor.bos_id(), "eos_token": processor.eos_id(), "unk_token": processor.unk_id()}
    ids["pad_token"] = processor.pad_id()
    settings: dict[str, Any] = {name: pieces[number] for name, number in ids.items() if number >= 0}
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            config |= json.loads((folder / name).read_text(encoding="utf-8"))
    for name in (*ids, "sep_token", "mask_token"):
        value = config.get(name)
        if value is not None:
            settings[name] = value["content"] if isinstance(value, dict) else value
    for name in ("chat_template", "model_max_length", "additional_special_tokens", "clean_up_tokenization_spaces"):
        if config.get(name) is not None:
            settings[name] = config[name]
    template = folder / "chat_template.jinja"
    if template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    return settings
