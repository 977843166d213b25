"""What a reference's name may mean, what identifies it, the tokenizer check, and that it loads as what was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from sftgo_cli import builtin, pipeline
from sftgo_cli.data.tokenizer import load_tokenizer
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.reference_model import (
    ReferenceModel,
    check_same_tokenizer,
    find_reference,
    load_reference,
    reference_fingerprint,
)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
SECTION = ModelSection.model_validate({"name_or_path": "builtin:tiny", "dtype": "float32"})
IDS = torch.arange(3, 20)[None]


def model_folder(folder: Path, seed: int = 0, vocab_size: int = 2304) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=2,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in TOKENIZER_FILES:
        shutil.copy(builtin.model_folder("tiny") / file, folder / file)
    return folder


def adapter_folder(folder: Path, base: Path, seed: int = 0) -> Path:
    """A LoRA adapter whose B is not zero, with the tokenizer beside it, as a run saves it."""
    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(folder)
    for file in TOKENIZER_FILES:
        shutil.copy(base / file, folder / file)
    return folder


def as_run(folder: Path, base: str, finished_steps: int | None = 3) -> Path:
    (folder / "recipe.resolved.yaml").write_text(f"model: {{name_or_path: '{base}', dtype: float32}}\n")
    stages = {"stages": {}, "world_size": 1, "finished_steps": finished_steps}
    (folder / "stages.json").write_text(json.dumps(stages))
    return folder


def no_run(recipe: Path) -> Path:
    raise AssertionError(f"{recipe} is no recipe")


def found(name: str, recipe_dir: Path, find_run: Any = no_run) -> ReferenceModel:
    return find_reference(name, None, SECTION, recipe_dir, find_run, "scoring.reference")


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=IDS).logits
    return logits


def test_a_folder_and_a_builtin_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "models" / "one")
    model = load_reference(found("models/one", tmp_path), "float32")
    assert torch.equal(logits_of(model), logits_of(AutoModelForCausalLM.from_pretrained(folder)))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert load_reference(found("models/one", tmp_path), "bfloat16").dtype == torch.bfloat16
    tiny = builtin.model_folder("tiny")
    named = load_reference(found("builtin:tiny", tmp_path), "float32")
    assert torch.equal(logits_of(named), logits_of(AutoModelForCausalLM.from_pretrained(tiny)))


def test_a_hub_id_is_left_to_the_hub(tmp_path: Path) -> None:
    reference = find_reference("org/name", "v2", SECTION, tmp_path, no_run, "scoring.reference")
    assert reference.section.name_or_path == reference.tokenizer_name == "org/name"
    assert reference.section.revision == "v2"
    for needs_the_hub in (reference_fingerprint, lambda one: load_reference(one, "float32")):
        with pytest.raises(UserError, match=r"'org/name'.* - scoring.reference: org/name - give a local folder"):
            needs_the_hub(reference)


@pytest.mark.parametrize("kind", ["run", "recipe", "bare"])
def test_an_adapter_stands_on_its_base(kind: str, tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    folder = adapter_folder(tmp_path / "runs" / "lora", base)
    if kind != "bare":
        as_run(folder, "../../base")  # as a run's resolved recipe has it: relative to the run's folder
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "/nowhere"  # the path on the machine that trained it
        (folder / "adapter_config.json").write_text(json.dumps(config))
    if kind == "recipe":
        (tmp_path / "reference.yaml").write_text("")
        reference = found("reference.yaml", tmp_path, lambda path: folder if path.name == "reference.yaml" else path)
    else:
        reference = found("runs/lora", tmp_path)
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).merge_and_unload()
    got = logits_of(load_reference(reference, "float32"))
    torch.testing.assert_close(got, logits_of(merged), rtol=1e-5, atol=1e-5)
    assert (got - logits_of(AutoModelForCausalLM.from_pretrained(base))).abs().max() > 0.01
    check_same_tokenizer(reference, load_tokenizer(ModelSection(name_or_path=str(base)), tmp_path))


def test_the_fingerprint_is_the_content(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    run = as_run(adapter_folder(tmp_path / "runs" / "lora", base), "../../base")
    one = reference_fingerprint(found("runs/lora", tmp_path))
    assert json.loads(json.dumps(one)) == one
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "base", other / "base")
    shutil.copytree(run, other / "runs" / "lora")
    config = other / "runs" / "lora" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(base), str(other / "base")))
    assert reference_fingerprint(found("runs/lora", other)) == one
    adapter_folder(other / "runs" / "lora", base, seed=1)
    assert reference_fingerprint(found("runs/lora", other)) != one
    model_folder(base, seed=5)  # the same adapter on another base
    assert reference_fingerprint(found("runs/lora", tmp_path)) != one


def test_what_is_not_there_gets_the_nearest_name(tmp_path: Path) -> None:
    model_folder(tmp_path / "models" / "reference")
    (tmp_path / "reference.yaml").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("")
    for name, message in {
        "./models/referense": rf"models/referense does not exist - scoring.reference: .*{tmp_path}/models/reference\?",
        "referenc.yaml": rf"no such recipe - scoring.reference: referenc.yaml - did you mean {tmp_path}/reference.yaml\?",
        "./zzz/deeper/still": r"does not exist .* check the path; a relative one begins at the recipe's folder",
        "empty": r"holds no model .* give the folder that holds config.json",
        "note.txt": r"the model is a file .* give the folder that holds config.json",
    }.items():
        with pytest.raises(UserError, match=message) as raised:
            found(name, tmp_path)
        assert raised.value.exit_code == 2


def test_runs_and_weights_that_cannot_serve(tmp_path: Path) -> None:
    run = as_run(model_folder(tmp_path / "run"), "builtin:tiny", finished_steps=None)
    with pytest.raises(UserError, match=r"the run is not finished - scoring\.reference: run - run its"):
        found("run", tmp_path)
    as_run(run, "builtin:tiny")
    (run / "model.safetensors").rename(run / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickled \(pytorch_model.bin\).* - scoring.reference: run - load the model"):
        found("run", tmp_path)
    (run / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="the folder holds no weights"):
        found("run", tmp_path)
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    base = AutoModelForCausalLM.from_pretrained(model_folder(tmp_path / "base"))
    get_peft_model(base, prompt).save_pretrained(tmp_path / "prompt")
    with pytest.raises(UserError, match="soft prompt"):
        found("prompt", tmp_path)


def tokenizer_in(folder: Path, edit: Any) -> None:
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    edit(described)
    path.write_text(json.dumps(described))


def test_tokenizers_are_compared_by_content(tmp_path: Path) -> None:
    base = load_tokenizer(SECTION, tmp_path)
    # A larger (padded) embedding and another pre-tokenizer: the ids still mean the same.
    folder = model_folder(tmp_path / "same", vocab_size=2432)
    tokenizer_in(folder, lambda one: one.update(pre_tokenizer=None))
    check_same_tokenizer(found("same", tmp_path), base)
    # An id that only the reference knows is never fed to it.
    more = AutoTokenizer.from_pretrained(folder)
    more.add_tokens(["<only-there>"])
    more.save_pretrained(folder)
    check_same_tokenizer(found("same", tmp_path), base)
    # The other way round it would be fed: the added token of the base is unknown to the reference.
    base.add_tokens(["<only-here>"])
    with pytest.raises(UserError, match=r"1 of 2305 ids differ.* first is 2304: '<only-here>' for .*, '<only-there>'"):
        check_same_tokenizer(found("same", tmp_path), base)
    with pytest.raises(UserError, match=r"is 2304: '<only-here>' for the base model, unknown for the reference - scor"):
        check_same_tokenizer(found("builtin:tiny", tmp_path), base)


def test_swapped_ids_are_another_tokenizer(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "swapped")

    def swap(described: dict[str, Any]) -> None:
        vocabulary = described["model"]["vocab"]
        first, second = (token for token, index in vocabulary.items() if index in (900, 1200))
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]

    tokenizer_in(folder, swap)
    with pytest.raises(UserError, match="2 of 2304 ids differ, the first is 900") as raised:
        check_same_tokenizer(found("swapped", tmp_path), load_tokenizer(SECTION, tmp_path))
    assert "use a reference with the base model's tokenizer" in str(raised.value)


def test_a_reference_without_a_tokenizer_cannot_be_checked(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "bare")
    for file in TOKENIZER_FILES:
        (folder / file).unlink()
    with pytest.raises(UserError, match=r"no tokenizer - scoring.reference: bare - put tokenizer.json there"):
        check_same_tokenizer(found("bare", tmp_path), load_tokenizer(SECTION, tmp_path))


def test_a_runs_resolved_recipe_finds_the_reference_again(tmp_path: Path) -> None:
    """`sftgo eval RUN` scores again from the run's folder: a bare name there must lead back to the recipe's folder."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "reference.yaml").write_text("")
    recipe = tmp_path / "recipes" / "train.yaml"
    recipe.write_text(
        "model: builtin:tiny\ndata: {train: 'builtin:instructions'}\n"
        "scoring: {name: rho1, reference: reference.yaml}\ntraining: {output_dir: runs/x}\n"
    )
    resolved = pipeline.load(recipe, []).resolved_in(tmp_path / "runs" / "x")
    assert resolved["scoring"]["reference"] == "../../recipes/reference.yaml"
