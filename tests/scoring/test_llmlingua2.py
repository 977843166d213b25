"""LLMLingua-2 scores of small random classifiers against a reference written from the paper's rules, piece by piece."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForTokenClassification,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
)

from sftgo_cli.builtin import model_folder
from sftgo_cli.cli.main import main
from sftgo_cli.data.rows import TokenChunk
from sftgo_cli.errors import UserError
from sftgo_cli.scoring import llmlingua2
from sftgo_cli.scoring.token_classifier import batches
from sftgo_cli.scoring.word_probabilities import Classifier, Words, chunk_bounds, word_probabilities

TEXTS = [
    "The quick brown fox jumps over the lazy dog. It does not like rain, sleet and snow. Nor does it run far (at night).",
    "Καλημέρα κόσμε. Добрый день, мир! שלום עולם. مرحبا بالعالم. 你好，世界。 नमस्ते दुनिया.",
    "x",
    "",
    " \n\t ",
    "first line\nsecond line\n\n  - indented item: 12,345.67 (see below)\nwell-known isn't 🙂👩\u200d👧 naïve cafe\u0301",
    "a\0b soft\u00adhyphen zero\u200bwidth ﬁne ½ … end",
    "word " * 40 + "without any end of sentence in a very long line that goes on " * 3,
    "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten. Eleven. Twelve. Thirteen. Fourteen. Fifteen.",
]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def word_piece() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=SPECIALS, show_progress=False)
    backend.train_from_iterator(TEXTS * 2, trainer)
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="[MASK]", **names)


def sentence_piece() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=220, special_tokens=ROBERTA_SPECIALS, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return _roberta(backend)


def byte_level() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=ROBERTA_SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    return _roberta(backend)


def _roberta(backend: Tokenizer) -> PreTrainedTokenizerFast:
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", **names
    )


KINDS: dict[str, tuple[Callable[[], PreTrainedTokenizerFast], Any, Any]] = {
    "word_piece": (word_piece, BertConfig, BertForTokenClassification),
    "sentence_piece": (sentence_piece, XLMRobertaConfig, XLMRobertaForTokenClassification),
    "byte_level": (byte_level, RobertaConfig, RobertaForTokenClassification),
}


def save_classifier(folder: Path, kind: str, num_labels: int = 2) -> Path:
    make, config_class, model_class = KINDS[kind]
    tokenizer = make()
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    ids = {"pad_token_id": tokenizer.pad_token_id, "num_labels": num_labels, "max_position_embeddings": 130}
    model = model_class(config_class(vocab_size=len(tokenizer), **sizes, **ids))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2 if "classifier" in name else 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("classifiers")
    return {kind: save_classifier(base / kind, kind) for kind in KINDS}


def context(folder: Path = Path()) -> Any:
    return SimpleNamespace(recipe_dir=folder)


def options(model: Path, **more: Any) -> llmlingua2.Options:
    return llmlingua2.Options(**{"model": str(model), "dtype": "float32", **more})


def opened(model: Path, **more: Any) -> Classifier:
    return llmlingua2.open_classifier(options(model, **more), context())


def by_text(words: Words, number: int) -> list[float]:
    return words.probabilities_W[words.texts_W == number].tolist()


def keep(model: Any, ids: list[int]) -> list[float]:
    """softmax(logits)[1] of one sequence alone, without padding."""
    with torch.no_grad():
        return torch.softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=-1)[:, 1].tolist()


def begins(kind: str, piece: str, before: str | None) -> bool:
    if before is None:
        return True
    if kind == "word_piece":
        return not piece.startswith("##")
    if kind == "sentence_piece":
        return piece.startswith("▁")
    return piece[0] in "ĠĊĉ" or before[-1] in "ĠĊĉ"


def cut(pieces: list[str], limit: int) -> Iterator[tuple[int, int]]:
    """At most `limit` pieces, cut after the last "." or newline where there is one."""
    start = 0
    while len(pieces) - start > limit:
        stop = start + limit
        while stop > start and pieces[stop - 1] not in (".", "\n", "Ċ"):
            stop -= 1
        stop = stop if stop > start else start + limit
        yield start, stop
        start = stop
    yield start, len(pieces)


def expected_words(kind: str, model: Any, tokenizer: Any, text: str, limit: int) -> list[tuple[float, list[Any]]]:
    """(mean probability, spans of its pieces) of each word."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    around = (2, 3) if kind == "word_piece" else (0, 2)
    values: list[float] = []
    for start, stop in cut(pieces, limit) if ids else []:
        values += keep(model, [around[0], *ids[start:stop], around[1]])[1:-1]
    words: list[tuple[list[float], list[Any]]] = []
    for place, piece in enumerate(pieces):
        if begins(kind, piece, pieces[place - 1] if place else None):
            words.append(([], []))
        words[-1][0].append(values[place])
        words[-1][1].append(spans[place])
    return [(sum(own) / len(own), theirs) for own, theirs in words]


@pytest.mark.parametrize("limit", [7, 20, 126])
@pytest.mark.parametrize("kind", KINDS)
def test_word_probabilities_equal_the_reference(kind: str, limit: int, checkpoints: dict[str, Path]) -> None:
    classifier = opened(checkpoints[kind], max_chunk_tokens=limit, batch_tokens=300)
    assert classifier.rules.kind == kind
    words = word_probabilities(classifier, TEXTS)
    assert words.probabilities_W.dtype == np.float32
    for number, text in enumerate(TEXTS):
        expected = expected_words(kind, classifier.model, classifier.tokenizer, text, limit)
        assert by_text(words, number) == pytest.approx([value for value, _ in expected], abs=1e-5)
        spans = words.spans_W2[words.texts_W == number].tolist()
        assert spans == [[min(a for a, _ in s), max(b for _, b in s)] for _, s in expected]
    assert words.probabilities_W.std() > 0.03  # they say something


def test_batches_and_padding_do_not_matter(checkpoints: dict[str, Path]) -> None:
    for kind in KINDS:
        one = word_probabilities(opened(checkpoints[kind], batch_tokens=1), TEXTS).probabilities_W
        many = word_probabilities(opened(checkpoints[kind], batch_tokens=100_000), TEXTS).probabilities_W
        assert many == pytest.approx(one, abs=1e-5)


def test_batches_hold_every_sequence_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, size=300).tolist()
    found = list(batches(lengths, 256))
    assert sorted(index for batch in found for index in batch) == list(range(300))
    assert all(len(batch) * max(lengths[index] for index in batch) <= 256 for batch in found)
    assert len(found) < sum(lengths) / 256 * 1.3  # little of it is padding
    assert list(batches([999, 3], 10)) == [[0], [1]]


def test_chunks_end_after_sentences() -> None:
    ends = np.array([0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0], dtype=bool)
    assert list(chunk_bounds(ends, 5)) == [(0, 5), (5, 10), (10, 13)]
    assert list(chunk_bounds(ends, 4)) == [(0, 3), (3, 5), (5, 9), (9, 13)]
    assert list(chunk_bounds(ends, 13)) == [(0, 13)]
    assert list(chunk_bounds(ends[:0], 5)) == []
    assert list(chunk_bounds(np.ones(4, dtype=bool), 1)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def package_words(kind: str, model: Any, tokenizer: Any, text: str, limit: int) -> list[float]:
    """llmlingua 0.2.2, prompt_compressor.py: __chunk_context, TokenClfDataset, __merge_token_to_word, mean."""
    tokens = tokenizer.tokenize(text)
    chunks, start = [], 0
    while start < len(tokens):
        if start + limit > len(tokens) - 1:
            chunks.append(tokenizer.convert_tokens_to_string(tokens[start:]))
            break
        end = start + limit
        for back in range(limit):
            if tokens[end - back] in {".", "\n"}:
                end -= back
                break
        chunks.append(tokenizer.convert_tokens_to_string(tokens[start : end + 1]))
        start = end + 1
    words: list[list[float]] = []
    special = {value for value in tokenizer.special_tokens_map.values() if isinstance(value, str)}
    for chunk in chunks:
        names = ["[CLS]", *tokenizer.tokenize(chunk), "[SEP]"][: limit + 2]
        ids = tokenizer.convert_tokens_to_ids(names)
        if not any(name not in special for name in tokenizer.convert_ids_to_tokens(ids)):
            continue
        fresh = True
        for name, value in zip(tokenizer.convert_ids_to_tokens(ids), keep(model, ids), strict=True):
            if name in special:
                continue
            new = not name.startswith("##") if kind == "word_piece" else name in string.punctuation or name[0] == "▁"
            if new or fresh:
                words.append([])
            fresh = False
            words[-1].append(value)
    return [sum(values) / len(values) for values in words]


@pytest.mark.parametrize("limit", [7, 40, 120])
@pytest.mark.parametrize("kind", ["word_piece", "sentence_piece"])
def test_compatibility_equals_the_package(kind: str, limit: int, checkpoints: dict[str, Path]) -> None:
    texts = [*TEXTS, "They do not know. We do not! (do not) ♥♥ ##odd [UNK] it 's n't"]
    classifier = opened(checkpoints[kind], max_chunk_tokens=limit, compatibility="llmlingua")
    words = word_probabilities(classifier, texts)
    for number, text in enumerate(texts):
        expected = package_words(kind, classifier.model, classifier.tokenizer, text, limit)
        assert by_text(words, number) == pytest.approx(expected, abs=1e-5)
        spans = words.spans_W2[words.texts_W == number]
        assert (spans[:, 0] <= spans[:, 1]).all()
        assert (np.diff(spans[:, 0]) >= 0).all()
        assert spans.max(initial=0) <= len(text)
    plain = word_probabilities(opened(checkpoints[kind], max_chunk_tokens=limit), texts)
    assert plain.probabilities_W.tolist() != words.probabilities_W.tolist()


def test_compatible_words_lie_where_the_plain_ones_do(checkpoints: dict[str, Path]) -> None:
    """Without unknown pieces and cuts inside words, the words are the same and so are their places."""
    text = " ".join([TEXTS[0], "They do not run .", TEXTS[8]])
    plain = word_probabilities(opened(checkpoints["word_piece"], max_chunk_tokens=60), [text])
    same = word_probabilities(opened(checkpoints["word_piece"], max_chunk_tokens=60, compatibility="llmlingua"), [text])
    parts = [text[start:stop] for start, stop in plain.spans_W2]
    decoded = [text[start:stop] for start, stop in same.spans_W2]
    assert "".join(parts) == text.replace(" ", "")
    cut = parts.index("do")
    assert decoded[:cut] == parts[:cut]
    assert decoded[-10:] == parts[-10:]


# Whole rows: prompt, response, end-of-turn marker; every character of the response is a token of its own.


def shard_of(rows: list[tuple[str, list[tuple[int, int]]]], marker: str = "<end>") -> TokenChunk:
    """One token per character, markers one token each (pinned); supervised where a span says so."""
    spans, labels, pinned, offsets = [], [], [], [0]
    for text, supervised in rows:
        place = 0
        while place < len(text):
            stop = place + (len(marker) if text.startswith(marker, place) else 1)
            spans.append((place, stop))
            pinned.append(text.startswith(marker, place))
            labels.append(1 if any(first <= place < last for first, last in supervised) else -100)
            place = stop
        offsets.append(len(spans))
    columns = {
        "labels": np.array(labels, dtype=np.int32),
        "offsets": np.array(spans, dtype=np.int32).reshape(-1, 2),
        "pinned": np.array(pinned, dtype=bool),
        "text": [text for text, _ in rows],
    }
    return TokenChunk(0, np.array(offsets, dtype=np.int64), columns)


def scores_of(shard: TokenChunk, model: Path, **more: Any) -> np.ndarray:
    return llmlingua2.open_scorer(options(model, **more), context())(shard)["token_scores"]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_words_on_the_response_alone(kind: str, checkpoints: dict[str, Path]) -> None:
    first, second = TEXTS[0], TEXTS[5]
    text = f"User: hi<end>{first}<end>User: more<end>{second}<end>"
    starts = text.index(first), text.index(second)
    spans = [(starts[0], starts[0] + len(first) + 5), (starts[1], starts[1] + len(second) + 5)]
    shard = shard_of([("all prompt", []), (text, spans), (first, [(0, len(first))])])
    got = scores_of(shard, checkpoints[kind], max_chunk_tokens=20)
    assert got.dtype == np.float32
    assert (np.isnan(got) == (shard.columns["labels"] == -100)).all()
    classifier = opened(checkpoints[kind])
    at = {}
    for place, (begin, _) in enumerate(shard.columns["offsets"][shard.row_offsets[1] : shard.row_offsets[2]].tolist()):
        at[begin] = got[shard.row_offsets[1] + place]
    compared = 0
    for part, start in ((first, starts[0]), (second, starts[1])):
        for value, pieces in expected_words(kind, classifier.model, classifier.tokenizer, part, 20):
            shared = [place for begin, end in pieces for place in range(begin, end) if not part[place].isspace()]
            for place in shared:
                compared += 1
                assert at[start + place] == pytest.approx(value, abs=1e-5)
    assert compared > 150
    alone = got[shard.row_offsets[2] :]
    turn = [at[starts[0] + place] for place in range(len(first))]
    assert alone == pytest.approx(turn, abs=1e-5)  # the prompt and the other turn have no part in it
    assert at[starts[0] + len(first)] == turn[-1]  # the marker: the nearest character's value


def test_rows_without_a_word_have_finite_scores(checkpoints: dict[str, Path]) -> None:
    rows = ["", " \n", "\0\x01", "<end>", "a\0<end>", "♥"]
    shard = shard_of([(text, [(0, len(text))]) for text in rows])
    for more in ({}, {"compatibility": "llmlingua"}):
        got = scores_of(shard, checkpoints["word_piece"], **more)
        assert np.isfinite(got).all()
        parts = np.split(got, shard.row_offsets[1:-1])
        assert [part.tolist() for part in parts[:4]] == [[], [0, 0], [0, 0], [0]]
        assert len(set(parts[4].tolist())) == 1
        assert parts[4][0] > 0
    assert len(scores_of(shard_of([]), checkpoints["word_piece"])) == 0


def test_tokens_without_characters_do_not_split_a_response(checkpoints: dict[str, Path]) -> None:
    shard = shard_of([("one two three.", [(0, 14)])])
    whole = scores_of(shard, checkpoints["word_piece"])
    offsets = np.insert(shard.columns["offsets"], 4, [4, 4], axis=0)
    pinned = np.insert(shard.columns["pinned"], 4, True)
    columns = {**shard.columns, "offsets": offsets, "pinned": pinned, "labels": np.ones(15, dtype=np.int32)}
    more = scores_of(TokenChunk(0, np.array([0, 15]), columns), checkpoints["word_piece"])
    assert np.delete(more, 4).tolist() == whole.tolist()
    assert more[4] == whole[4]


def test_the_fingerprint_is_content_and_what_null_stands_for(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = checkpoints["word_piece"]
    first = llmlingua2.fingerprint(options(model), context())
    copy = shutil.copytree(model, tmp_path / "copy")
    assert llmlingua2.fingerprint(options(Path("copy")), context(tmp_path)) == first
    assert first["max_chunk_tokens"] == 128
    assert first["dtype"] == "float32"
    assert llmlingua2.fingerprint(llmlingua2.Options(model=str(model)), context())["dtype"] in ("float32", "bfloat16")
    compatible = llmlingua2.Options(model=str(model), compatibility="llmlingua")
    assert llmlingua2.fingerprint(compatible, context())["dtype"] == "float32"
    roberta = llmlingua2.fingerprint(options(checkpoints["byte_level"]), context())
    assert roberta["max_chunk_tokens"] == 130 - 2 - 2  # positions 0 and 1 are padding's
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    assert llmlingua2.fingerprint(options(copy), context()) != first
    assert json.loads(json.dumps(first)) == first


def test_checkpoints_that_cannot_score_are_refused_early(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    def refused(model: str | Path, **more: Any) -> str:
        with pytest.raises(UserError) as raised:
            llmlingua2.fingerprint(options(Path(model), **more), context(tmp_path))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    good = checkpoints["word_piece"]
    assert "has 3 labels" in refused(save_classifier(tmp_path / "three", "word_piece", num_labels=3))
    shutil.copytree(good, tmp_path / "classifier")
    assert f"did you mean {tmp_path / 'classifier'}?" in refused("./clasifier")
    assert f"did you mean {tmp_path / 'classifier'}?" in refused("classifiers")
    assert "give a local folder" in refused("someone/elses-classifier")  # the Hub, which is out of reach here
    assert "is a file" in refused(good / "config.json")
    pickled = shutil.copytree(good, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "pickled (pytorch_model.bin)" in refused("pickled")
    (pickled / "pytorch_model.bin").unlink()
    assert "no weights" in refused("pickled")
    headless = tmp_path / "headless"
    shutil.copytree(good, headless)
    BertForTokenClassification.from_pretrained(good).bert.save_pretrained(headless)
    assert "classifier.bias, classifier.weight missing" in refused("headless")
    with pytest.raises(UserError, match="no trained token-classification head"):
        opened(headless)
    slow = shutil.copytree(good, tmp_path / "slow")
    (slow / "tokenizer.json").unlink()
    (slow / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    assert "slow one" in refused("slow")
    assert "129 tokens do not fit: the classifier holds 128" in refused(good, max_chunk_tokens=129)
    assert "WordPiece and SentencePiece" in refused(checkpoints["byte_level"], compatibility="llmlingua")
    assert "cannot load the classifier" in refused(model_folder("tiny").parent)


def test_a_language_model_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(2 labels|two are needed|no trained token-classification head)"):
        llmlingua2.fingerprint(options(model_folder("tiny")), context(tmp_path))


def test_bfloat16_ranks_as_float32_does(checkpoints: dict[str, Path]) -> None:
    exact = word_probabilities(opened(checkpoints["word_piece"]), TEXTS).probabilities_W
    rough = word_probabilities(opened(checkpoints["word_piece"], dtype="bfloat16"), TEXTS).probabilities_W
    assert rough.tolist() != exact.tolist()
    ranks = [np.argsort(np.argsort(values)) for values in (exact, rough)]
    assert np.corrcoef(*ranks)[0, 1] > 0.98


def write_recipe(folder: Path, classifier: Path) -> Path:
    shutil.copytree(classifier, folder / "classifier")
    rows = [{"prompt": "Tell me.", "completion": text} for text in TEXTS if text.strip()]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": "builtin:tiny",
        "data": {"train": [{"path": "rows.jsonl"}], "max_length": 900},
        "scoring": {"name": "llmlingua2", "model": "classifier", "dtype": "float32"},
        "training": {"output_dir": str(folder / "run")},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder / "recipe.yaml"


def test_score_through_the_command_line(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe(tmp_path, checkpoints["sentence_piece"])
    assert main(["score", str(recipe)]) == 0
    (arrow,) = (tmp_path / "cache" / "score").glob("*/0.arrow")
    rows = Dataset.from_file(str(arrow))["token_scores"]
    assert len(rows) == len([text for text in TEXTS if text.strip()])
    scores = np.concatenate([np.array(row, dtype=np.float64) for row in rows])
    assert ((scores > 0) & (scores < 1))[~np.isnan(scores)].all()
    assert np.nanstd(scores) > 0.03

    capsys.readouterr()
    (tmp_path / "classifier" / "model.safetensors").rename(tmp_path / "classifier" / "pytorch_model.bin")
    before = set((tmp_path / "cache").glob("score*/*"))
    assert main(["score", str(recipe)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "pickled" in line]
    assert line.count(" - ") >= 2
    assert set((tmp_path / "cache").glob("score*/*")) == before


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftgo_cli.scoring.shards.SHARD_TOKENS", 100)
    recipe = write_recipe(tmp_path, checkpoints["word_piece"])
    columns = []
    for number in (1, 2):
        monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / f"cache{number}"))
        assert main(["score", str(recipe), "-n", str(number)]) == 0
        (arrow,) = (tmp_path / f"cache{number}" / "score").glob("*/0.arrow")
        columns.append(arrow.read_bytes())
    assert columns[0] == columns[1]
