"""rho1, base_nll and token_cleaning against direct NLLs from transformers, row by row, and what they refuse."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GPT2Config, LlamaConfig

from sftgo_cli import builtin
from sftgo_cli import token_nll as nll
from sftgo_cli.cli.main import main
from sftgo_cli.columns import features
from sftgo_cli.data.rows import TokenChunk, TokenTable
from sftgo_cli.data.tokenizer import load_tokenizer
from sftgo_cli.errors import UserError
from sftgo_cli.losses import head_tile
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.scoring import base_nll, rho1, token_cleaning
from sftgo_cli.scoring.context import ScoringContext

VOCABULARY = 2304  # of builtin:tiny's tokenizer, which the small models here are saved with
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 96,
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
GPT2_SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 96}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "gpt2": lambda: GPT2Config(**GPT2_SIZES, bos_token_id=0, eos_token_id=1),
    "gemma2-softcap": lambda: Gemma2Config(**SIZES, head_dim=16, final_logit_softcapping=3.0, sliding_window=16),
    "cohere-scale": lambda: CohereConfig(**SIZES, logit_scale=3.0),
}


def model_of(name: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A random model with large weights: its logits are far from uniform, so that scales, caps and shifts matter."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.to(dtype).eval()


def saved(folder: Path, name: str = "llama", seed: int = 0) -> Path:
    """A model's folder with builtin:tiny's tokenizer."""
    model_of(name, seed).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(builtin.model_folder("tiny") / file, folder / file)
    return folder


def chunk_of(seed: int = 3, num_rows: int = 17, longest: int = 80) -> TokenChunk:
    """Random rows of 1 to `longest` tokens; prompts, gaps and tails are not supervised, and two rows not at all."""
    generator = np.random.default_rng(seed)
    rows, labels = [], []
    for number in range(num_rows):
        length = longest if number == 0 else int(generator.integers(1, longest))
        row = generator.integers(3, VOCABULARY, size=length)
        supervised = (generator.random(length) < 0.6) & (np.arange(length) >= length // 4)
        supervised &= np.arange(length) < length - number % 5  # some rows end with tokens that do not count
        supervised[0] = False
        if number in (5, 9):
            supervised[:] = False
        rows.append(row.tolist())
        labels.append(np.where(supervised, row, -100).tolist())
    columns = ["input_ids", "labels"]
    dataset = Dataset.from_dict(dict(zip(columns, (rows, labels), strict=True)), features=features(columns))
    return next(iter(TokenTable([dataset], columns).chunks()))


def direct_nll(model: Any, chunk: TokenChunk) -> np.ndarray:
    """Each row alone through the model's own forward; log-softmax in float64."""
    expected = np.full(int(chunk.row_offsets[-1]), np.nan)
    for row in range(chunk.num_rows):
        start, stop = chunk.row_offsets[row], chunk.row_offsets[row + 1]
        ids = torch.from_numpy(chunk.columns["input_ids"][start:stop].astype(np.int64))
        with torch.no_grad():
            log_p = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        for place in range(1, int(stop - start)):
            if chunk.columns["labels"][start + place] != -100:
                expected[start + place] = -float(log_p[place - 1, ids[place]])
    return expected


def context_of(base: Path | str, recipe_dir: Path, dtype: str = "float32", **changes: Any) -> ScoringContext:
    section = ModelSection.model_validate({"name_or_path": str(base), "dtype": dtype})

    def find_run(recipe: Path) -> Path:
        raise AssertionError(recipe)

    said: list[str] = []
    tokenizer = load_tokenizer(section, recipe_dir)
    parts = {"find_run": find_run, "num_processes": 1, "say": said.append, "console": said, **changes}
    return ScoringContext(model=section, recipe_dir=recipe_dir, tokenizer=tokenizer, **parts)


@pytest.mark.parametrize("name", CONFIGS)
def test_nll_equals_the_models_own_whatever_the_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, chunk = model_of(name), chunk_of()
    nll.check_model(model, "here")
    expected = direct_nll(model, chunk)
    assert np.nanstd(expected) > 0.5  # a wrong shift, scale or padding would show
    for batch_tokens in (1, 100, 10**6):
        got = nll.token_nll(model, chunk, batch_tokens, "here")
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(head_tile, "TILE_BYTES", {"cpu": (1, 7 * VOCABULARY * 4)})
    monkeypatch.setattr(head_tile, "MIN_CHUNK_ROWS", 7)
    np.testing.assert_allclose(nll.token_nll(model, chunk, 512, "here"), expected, rtol=1e-5, atol=1e-5)


def test_no_more_logits_and_no_more_tokens_than_needed() -> None:
    model, chunk = model_of("llama"), chunk_of()
    rows, widths = [], []
    model.lm_head.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    nll.token_nll(model, chunk, 160, "here")
    assert sum(rows) == np.count_nonzero(chunk.supervised)
    assert all(height * width <= 160 for height, width in widths)
    assert sum(height for height, _ in widths) == 17 - sum(
        not chunk.supervised[chunk.row_offsets[row] : chunk.row_offsets[row + 1]].any() for row in range(17)
    )
    lasts = [np.flatnonzero(part) for part in np.split(chunk.supervised, chunk.row_offsets[1:-1])]
    assert max(width for _, width in widths) == max(int(last[-1]) for last in lasts if len(last))


def test_scores_depend_on_the_rows_of_a_shard_not_on_its_neighbors() -> None:
    model, chunk = model_of("llama"), chunk_of()
    whole = nll.token_nll(model, chunk, 512, "here")
    cut = int(chunk.row_offsets[6])
    tail = TokenChunk(6, chunk.row_offsets[6:] - cut, {name: values[cut:] for name, values in chunk.columns.items()})
    np.testing.assert_allclose(nll.token_nll(model, tail, 512, "here"), whole[cut:], rtol=1e-5, atol=1e-5)
    assert np.array_equal(nll.token_nll(model, chunk, 512, "here"), whole, equal_nan=True)  # the same bytes again


def test_bfloat16_logits_are_upcast() -> None:
    model, chunk = model_of("llama", dtype=torch.bfloat16), chunk_of()
    got = nll.token_nll(model, chunk, 1, "here")
    expected = direct_nll(model, chunk)  # float64 log-softmax over the same bfloat16 logits
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.05)  # the trimmed row's logits are rounded otherwise
    assert np.nanmean(np.abs(got - expected)) < 0.005
    exact = direct_nll(model_of("llama"), chunk)
    assert np.nanmax(np.abs(got - exact)) > 1e-3  # it did compute in bfloat16
    finite = torch.from_numpy(got[~np.isnan(got)])
    assert not torch.equal(finite.bfloat16().float(), finite)  # and not the log-softmax


@pytest.mark.parametrize("scorer", [rho1, token_cleaning])
def test_excess_is_base_minus_reference(scorer: ModuleType, tmp_path: Path) -> None:
    base, reference, chunk = saved(tmp_path / "base"), saved(tmp_path / "reference", seed=1), chunk_of()
    options = scorer.Options(reference="reference")
    got = scorer.open_scorer(options, context_of("base", tmp_path))(chunk)
    assert tuple(got) == scorer.written(options) == ("token_scores", "base_nll", "reference_nll")
    assert scorer.columns(options) == (("input_ids", "labels"), ())
    expected = [direct_nll(AutoModelForCausalLM.from_pretrained(folder), chunk) for folder in (base, reference)]
    np.testing.assert_allclose(got["base_nll"], expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got["reference_nll"], expected[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got["token_scores"], expected[0] - expected[1], rtol=1e-5, atol=2e-5)
    assert all(values.dtype == np.float32 for values in got.values())
    assert np.array_equal(np.isnan(got["token_scores"]), ~chunk.supervised)


def test_base_nll_and_its_threshold(tmp_path: Path) -> None:
    base, chunk = saved(tmp_path / "base"), chunk_of()
    expected = direct_nll(AutoModelForCausalLM.from_pretrained(base), chunk)
    context = context_of(base, tmp_path)
    plain = base_nll.open_scorer(base_nll.Options(), context)(chunk)
    np.testing.assert_allclose(plain["token_scores"], expected, rtol=1e-5, atol=1e-5)
    perplexity = float(np.exp(np.nanmedian(expected))) + 1e-3  # on no token's own value
    options = base_nll.Options(threshold=perplexity)
    masked = base_nll.open_scorer(options, context)(chunk)
    assert tuple(masked) == base_nll.written(options) == ("token_scores", "base_nll")
    kept = chunk.supervised & (np.exp(expected) <= perplexity)
    assert 0 < kept.sum() < chunk.supervised.sum()
    assert np.array_equal(masked["token_scores"] >= 0, kept)
    np.testing.assert_allclose(masked["token_scores"], math.log(perplexity) - expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked["base_nll"], expected, rtol=1e-5, atol=1e-5)


def test_the_key_is_made_of_content_not_of_paths(tmp_path: Path) -> None:
    base, reference = saved(tmp_path / "base"), saved(tmp_path / "reference", seed=1)
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(reference, moved)
    context = context_of(base, tmp_path)
    one = rho1.fingerprint(rho1.Options(reference="reference"), context)
    assert json.loads(json.dumps(one)) == one
    assert str(tmp_path) not in json.dumps(one)
    assert rho1.fingerprint(rho1.Options(reference=str(moved)), context) == one
    assert rho1.fingerprint(rho1.Options(reference="reference", dtype="bfloat16"), context) != one
    # The recipe's own compute type, given or left out, is the same key.
    assert rho1.fingerprint(rho1.Options(reference="reference", dtype="float32"), context) == one
    model_of("llama", seed=2).save_pretrained(moved)
    assert rho1.fingerprint(rho1.Options(reference=str(moved)), context) != one
    assert set(rho1.PATH_OPTIONS) <= set(rho1.Options.model_fields)
    assert base_nll.fingerprint(base_nll.Options(), context) == {key: one[key] for key in one if key != "reference"}


def test_a_reference_that_is_the_base_itself_is_said(tmp_path: Path) -> None:
    base = saved(tmp_path / "base")
    said: list[str] = []
    context = context_of(base, tmp_path, say=said.append)
    rho1.fingerprint(rho1.Options(reference="base"), context)
    assert said == ["scoring.reference: base is the base model itself: every score is 0"]


def test_rows_beyond_the_context_or_the_vocabulary(tmp_path: Path) -> None:
    model = model_of("llama")
    chunk = chunk_of(longest=120)
    last = int(np.flatnonzero(chunk.supervised[: chunk.row_offsets[1]])[-1])
    with pytest.raises(UserError, match=f"a row has {last} tokens, the model's context is 96 - here - lower"):
        nll.token_nll(model, chunk, 512, "here")
    chunk = chunk_of()
    chunk.columns["input_ids"] = np.where(chunk.supervised, chunk.columns["input_ids"], VOCABULARY + 6)
    with pytest.raises(UserError, match=f"hold token {VOCABULARY + 6}, the model knows {VOCABULARY} - here"):
        nll.token_nll(model, chunk, 512, "here")


def test_what_no_configuration_says_about_the_logits_is_found_out() -> None:
    model, chunk = model_of("llama"), chunk_of()
    forward = model.forward

    def scaled(*args: Any, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        outputs.logits = outputs.logits * 0.5
        return outputs

    model.forward = scaled
    expected = direct_nll(model, chunk)
    nll.check_model(model, "here")
    np.testing.assert_allclose(nll.token_nll(model, chunk, 512, "here"), expected, rtol=1e-5, atol=1e-5)


RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data: {train: {path: "builtin:instructions", max_samples: 4}, max_length: 96, packing: false}
scoring: {name: rho1, reference: REFERENCE}
training: {output_dir: runs/none, use_cpu: true}
"""


def other_tokenizer(folder: Path) -> None:
    saved(folder / "models" / "reference")
    path = folder / "models" / "reference" / "tokenizer.json"
    described = json.loads(path.read_text())
    vocabulary = described["model"]["vocab"]
    first, second = (token for token, index in vocabulary.items() if index in (700, 701))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(described))


def pickled(folder: Path) -> None:
    saved(folder / "models" / "reference")
    (folder / "models" / "reference" / "model.safetensors").rename(
        folder / "models" / "reference" / "pytorch_model.bin"
    )


def unfinished(folder: Path) -> None:
    saved(folder / "models" / "reference")
    (folder / "models" / "reference" / "recipe.resolved.yaml").write_text("model: {name_or_path: builtin:tiny}\n")
    stages = {"stages": {}, "world_size": 1, "finished_steps": None}
    (folder / "models" / "reference" / "stages.json").write_text(json.dumps(stages))


def misnamed(folder: Path) -> None:
    saved(folder / "models" / "referenze")


def untrained(folder: Path) -> None:
    text = RECIPE.replace("{name: rho1, reference: REFERENCE}", "tfidf").replace("runs/none", f"{folder}/runs/none")
    (folder / "reference.yaml").write_text(text)


BAD = {
    "tokenizer": (other_tokenizer, "models/reference", "2 of 2304 ids differ, the first is 700: "),
    "pickle": (pickled, "models/reference", "the weights are pickled (pytorch_model.bin), not safetensors"),
    "unfinished": (unfinished, "./models/reference", "the run is not finished"),
    "missing": (misnamed, "./models/reference", "did you mean"),
    "untrained": (untrained, "reference.yaml", "the recipe has no finished run"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_references_are_one_helpful_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], shared_cache: Path
) -> None:
    prepare, reference, message = BAD[case]
    prepare(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("REFERENCE", reference))
    before = set(shared_cache.glob("score*/*"))
    assert main(["score", str(tmp_path / "recipe.yaml")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if message in line]
    assert len(lines) == 1
    assert "reference" in lines[0]
    assert lines[0].count(" - ") >= 2  # what - where - what to do
    assert set(shared_cache.glob("score*/*")) == before  # nothing half-written


def test_a_pickled_base_model_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    base = saved(tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickled .* - model\.name_or_path: .*base - load the model once"):
        base_nll.fingerprint(base_nll.Options(), context_of(base, tmp_path))
