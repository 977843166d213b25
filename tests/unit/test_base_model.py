"""What a model's name may mean, and that every weight comes from there: adapters merged, faults in one line."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration, LlamaConfig

from sftgo_cli.base_model import load_base_model, load_trained_model, model_fingerprint
from sftgo_cli.errors import EnvironmentProblem, SftgoError, UserError
from sftgo_cli.model_source import model_source
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.tuning import full

IDS = torch.arange(3, 20)[None]
SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def section_of(name: Path | str, **more: Any) -> ModelSection:
    return ModelSection.model_validate({"name_or_path": str(name), "dtype": "float32", **more})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, initializer_range=0.3)).save_pretrained(folder)
    return folder


def adapter_on(model: Any, folder: Path, seed: int) -> Any:
    """Save a LoRA adapter with large weights on a model; returns peft's model with it."""
    torch.manual_seed(seed)
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not find a config file")  # the base is an adapter's folder
        wrapped.save_pretrained(folder)
    return wrapped


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=IDS).logits
    return logits


def as_lora_run(folder: Path, base: str) -> None:
    """As a run writes it: the base relative to the run's folder, which the path of another machine does not help."""
    (folder / "recipe.resolved.yaml").write_text(f"model: {{name_or_path: '{base}', dtype: float32}}\n")
    (folder / "stages.json").write_text(json.dumps({"stages": {}, "world_size": 1, "finished_steps": 3}))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/nowhere"}))


@pytest.mark.parametrize("kind", ["adapter", "run", "checkpoint of a run", "adapter on a run"])
def test_an_adapter_is_merged_into_its_base(kind: str, base: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "lora"
    folder = run / "checkpoint-3" if kind == "checkpoint of a run" else run
    expected = logits_of(adapter_on(AutoModelForCausalLM.from_pretrained(base), folder, 1))
    if kind != "adapter":
        shutil.copytree(base, tmp_path / "base")
        run.mkdir(exist_ok=True)
        if folder != run:
            shutil.copy(folder / "adapter_config.json", run)
        as_lora_run(run, "../../base")
        if folder != run:
            (run / "adapter_config.json").unlink()
    if kind == "adapter on a run":
        folder = tmp_path / "second"
        below = load_base_model(section_of("runs/lora"), tmp_path, "float32")
        assert below.name_or_path == str(run)  # so that an adapter on top names the run, not the base below it
        expected = logits_of(adapter_on(below, folder, 2))
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(run)
    plain = logits_of(AutoModelForCausalLM.from_pretrained(base))
    assert float((expected - plain).abs().max()) > 0.1
    model = load_base_model(section_of(folder), tmp_path, "float32")
    assert not isinstance(model, PeftModel)
    assert not any("lora" in name for name in model.state_dict())
    torch.testing.assert_close(logits_of(model), expected, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path / "merged")
    again = load_base_model(section_of("merged"), tmp_path, "float32")
    assert torch.equal(logits_of(again), logits_of(model))
    assert load_base_model(section_of(folder), tmp_path, "bfloat16").dtype == torch.bfloat16


def test_the_model_of_a_run_on_an_adapter_has_both(base: Path, tmp_path: Path) -> None:
    adapter_on(AutoModelForCausalLM.from_pretrained(base), tmp_path / "first", 1)
    section = section_of("first")
    expected = logits_of(adapter_on(load_base_model(section, tmp_path, "float32"), tmp_path / "run", 2))
    trained = load_trained_model(tmp_path / "run", section, tmp_path, "float32")
    torch.testing.assert_close(logits_of(trained), expected, rtol=1e-4, atol=1e-4)
    merged = trained.merge_and_unload()
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_is_part_of_what_identifies_the_model(base: Path, tmp_path: Path) -> None:
    contents = []
    for seed in (1, 2):
        adapter_on(AutoModelForCausalLM.from_pretrained(base), tmp_path / str(seed), seed)
        contents.append(model_fingerprint(section_of(str(seed)), tmp_path))
    assert contents[0] != contents[1]
    assert contents[0]["base"] == contents[1]["base"] == model_fingerprint(section_of(base), tmp_path)


def test_a_circle_of_adapters_is_refused(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        content = {"base_model_name_or_path": str(tmp_path / other), "peft_type": "LORA"}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="name one another as their base"):
        model_source(section_of("a"), tmp_path)


def rewritten(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def configured(**more: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **more}))

    return apply


def cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def sharded(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="4KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter_without_weights(folder: Path) -> None:
    adapter_on(AutoModelForCausalLM.from_pretrained(folder), folder / "adapter", 1)
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, folder / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(folder / "adapter" / f"base-{name}")
    (folder / "below").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "adapter" / f"base-{name}").rename(folder / "below" / name)
    for path in (folder / "adapter").iterdir():
        path.rename(folder / path.name)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "below"}))


def quantized(method: str, **more: Any) -> Callable[[Path], None]:
    return configured(quantization_config={"quant_method": method, "bits": 4, "group_size": 8, **more})


FAULTS: dict[str, tuple[Callable[[Path], None], type[SftgoError], str]] = {
    "a layer is missing": (
        rewritten(lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight", None)),  # type: ignore[arg-type, return-value]
        UserError,
        r"1 of the model's 21 weights are not in .* and would be random: model.layers.1.mlp.up_proj.weight",
    ),
    "the head is missing": (
        rewritten(lambda weights: weights.pop("lm_head.weight", None)),  # type: ignore[arg-type, return-value]
        UserError,
        r"lm_head.weight - .*without a language-model head",
    ),
    "a weight of another shape": (
        rewritten(lambda weights: weights.update({"model.norm.weight": torch.ones(15)})),
        UserError,
        r"do not fit its config.json: model.norm.weight is \[15\], not \[16\]",
    ),
    "a config of another size": (configured(hidden_size=32), UserError, "do not fit its config.json"),
    "half a file": (cut, UserError, "are damaged: .* download or save the folder again"),
    "a missing shard": (sharded, UserError, r"a file of the weights is missing: model-0000\d-of-"),
    "pickled weights": (pickled, UserError, r"are pickled \(pytorch_model.bin\), not safetensors"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), UserError, "holds no weights"),
    "no model": (lambda folder: (folder / "config.json").unlink(), UserError, "holds no model"),
    "an adapter lacks a weight": (adapter_without_weights, UserError, "does not fit its base model"),
    "an encoder-decoder": (configured(model_type="t5", architectures=["T5"]), UserError, "t5 is an encoder-decoder"),
    "an encoder": (configured(model_type="distilbert"), UserError, "no causal language model of type distilbert"),
    "a random attention": (configured(model_type="reformer"), UserError, "reformer cannot be measured or trained: its"),
    "an unknown type": (configured(model_type="zorp"), UserError, "`zorp` but .* does not recognize.* - update"),
    "a config that contradicts itself": (configured(num_attention_heads=3), UserError, "cannot load the model"),
    "GPTQ": (quantized("gptq"), EnvironmentProblem, "needs a package: .* - pip install optimum"),
    "AWQ": (quantized("awq"), EnvironmentProblem, "needs a package: .* - pip install gptqmodel"),
    "bitsandbytes": (
        quantized("bitsandbytes", load_in_4bit=True),
        EnvironmentProblem,
        "needs a package: .* - pip install bitsandbytes",
    ),
}


CASES = [(name, False) for name in FAULTS] + [(name, True) for name in FAULTS if name != "an adapter lacks a weight"]


@pytest.mark.parametrize(("name", "without_memory"), CASES)
def test_what_cannot_be_trained_is_refused_in_one_line(
    name: str, without_memory: bool, base: Path, tmp_path: Path
) -> None:
    change, kind, message = FAULTS[name]
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    change(folder)
    with pytest.raises(kind, match=message) as raised:
        load_base_model(section_of("model"), tmp_path, "float32", without_memory)
    assert "\n" not in str(raised.value)


def test_tied_and_multimodal_models_load_whole(tmp_path: Path) -> None:
    tied = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, tie_word_embeddings=True))
    tied.save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    assert torch.equal(logits_of(load_base_model(section_of("tied"), tmp_path, "float32")), logits_of(tied))
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config={**SIZES, "head_dim": 8},
        vision_config={**vision, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=60,
    )
    wrapper = Gemma3ForConditionalGeneration(config)
    wrapper.save_pretrained(tmp_path / "wrapper")
    loaded = load_base_model(section_of("wrapper"), tmp_path, "float32")
    assert torch.equal(logits_of(loaded), logits_of(wrapper))


def test_quantized_weights_are_not_trained_in_full(base: Path, tmp_path: Path) -> None:
    model: Any = load_base_model(section_of(base), tmp_path, "float32")
    model.quantization_method = "fp8"  # as transformers marks it on an accelerator; here it gives the plain weights
    with pytest.raises(UserError, match=r"quantized \(fp8\), which cannot be trained in full - tuning\.name"):
        full.apply(model, full.Options())
