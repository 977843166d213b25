"""Loading tokenizers, their complaints, and the fingerprint of what a tokenizer does."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.model_section import ModelSection


def load(name: str, folder: Path) -> Any:
    return load_tokenizer(ModelSection(name_or_path=name), folder)


@pytest.fixture
def saved(bpe: Any, tmp_path: Path) -> Path:
    bpe.save_pretrained(tmp_path / "model")
    return tmp_path


def test_local_folder_relative_to_the_recipe(bpe: Any, saved: Path) -> None:
    loaded = load("model", saved)
    assert loaded("Who are you?")["input_ids"] == bpe("Who are you?")["input_ids"]
    assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(load(str(saved / "model"), saved))


def test_missing_folders(saved: Path) -> None:
    with pytest.raises(UserError, match=r"modle does not exist.*did you mean .*/model\?"):
        load("./modle", saved)
    (saved / "empty").mkdir()
    with pytest.raises(UserError, match="holds no tokenizer"):
        load("empty", saved)
    with pytest.raises(UserError, match="the model is a file"):
        load("model/tokenizer.json", saved)
    (saved / "model" / "tokenizer.json").write_text("{ not json")
    with pytest.raises(UserError, match="the folder's tokenizer cannot be loaded"):
        load("model", saved)
    with pytest.raises(UserError, match="no built-in model"):
        load("builtin:nothing", saved)


def test_hub_names_go_to_transformers(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    asked: dict[str, Any] = {}

    def refuse(name: str, **options: Any) -> Any:
        asked.update(options, name=name)
        raise OSError(f"{name} is not a local folder and is not a valid model identifier\nmore")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    model = ModelSection(name_or_path="org/model", revision="abc", trust_remote_code=True)
    with pytest.raises(
        UserError, match=r"Hub could give: org/model is not a local folder.*model\.name_or_path: org/model"
    ):
        load_tokenizer(model, saved)
    assert asked == {"name": "org/model", "revision": "abc", "trust_remote_code": True, "use_fast": True}


def test_remote_code_needs_consent(saved: Path) -> None:
    config = saved / "model" / "tokenizer_config.json"
    values = json.loads(config.read_text())
    values |= {"tokenizer_class": "MyTokenizer", "auto_map": {"AutoTokenizer": ["code.MyTokenizer", None]}}
    config.write_text(json.dumps(values))
    (saved / "model" / "code.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(UserError, match=r"needs code that comes with the model.*model\.trust_remote_code"):
        load("model", saved)


def test_slow_tokenizers(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(UserError, match=r"slow one.*tokenizer\.json"):
        load("model", saved)


def test_fingerprint_follows_what_the_tokenizer_does(bpe: Any) -> None:
    base = tokenizer_fingerprint(bpe)
    used = copy.deepcopy(bpe)
    used.backend_tokenizer.enable_truncation(4)
    assert tokenizer_fingerprint(used) == base
    templated, padded, grown = copy.deepcopy(bpe), copy.deepcopy(bpe), copy.deepcopy(bpe)
    templated.chat_template = "{{ messages }}"
    padded.pad_token = "</s>"
    grown.add_tokens(["new"])
    assert len({base, *(tokenizer_fingerprint(other) for other in (templated, padded, grown))}) == 4
