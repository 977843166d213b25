"""The generator vllm with a stand-in for the package that has the documented classes, and without the package."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sftgo_cli.curation.generators import model, vllm
from sftgo_cli.curation.questions import Answer, CurationContext, Question, Request
from sftgo_cli.errors import EnvironmentProblem, UserError


@dataclass(frozen=True)
class SamplingParams:
    """The arguments that are used here, by vLLM's names and defaults."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    stop_token_ids: list[int] | None = None
    stop: list[str] | None = None


@dataclass
class CompletionOutput:
    """One answer."""

    text: str
    token_ids: list[int]
    finish_reason: str


@dataclass
class RequestOutput:
    """One prompt's answers."""

    outputs: list[CompletionOutput]


class LLM:
    """Answers with the prompt's length and its seed; cut where the limit is below 3 tokens."""

    made: ClassVar[list[dict[str, Any]]] = []
    calls: ClassVar[list[list[list[int]]]] = []
    params: ClassVar[list[SamplingParams]] = []

    def __init__(self, model: str, **arguments: Any) -> None:
        LLM.made.append({"model": model, **arguments})

    def generate(self, prompts: Any, sampling_params: Any, *, use_tqdm: bool = True) -> list[RequestOutput]:
        assert not use_tqdm
        LLM.calls.append([prompt["prompt_token_ids"] for prompt in prompts])
        LLM.params += sampling_params
        outputs = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            text = f" {len(prompt['prompt_token_ids'])} {params.seed} {params.temperature} {params.top_p}\n"
            reason = "length" if params.max_tokens < 3 else "stop"
            outputs.append(RequestOutput([CompletionOutput(text, [1] * min(3, params.max_tokens), reason)]))
        return outputs


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import vllm` gives the stand-in."""
    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", module)
    LLM.made, LLM.calls, LLM.params = [], [], []


def wanted(count: int) -> list[Request]:
    requests = []
    for number in range(count):
        messages = [{"role": "user", "content": "why " * ((number * 7) % 5 + 1)}]
        question = Question(str(number), f"rows.jsonl:{number + 1}", messages, "gold", {})
        requests.append(Request(question, messages, 500 + number))
    return requests


def test_without_the_package(context: CurationContext) -> None:
    with pytest.raises(EnvironmentProblem, match=r"pip install 'sftgo\[vllm\]'"):
        vllm.check([], vllm.Options(), context)


@pytest.mark.usefixtures("package")
def test_every_answer_has_its_prompt_and_its_seed(context: CurationContext) -> None:
    asked = wanted(11)
    found: dict[int, Answer] = {}
    portions: list[int] = []

    def done(answers: list[tuple[int, Answer]]) -> None:
        found.update(answers)
        portions.append(len(answers))

    options = vllm.Options(answers_at_once=4, temperature=0.5, top_p=0.25, tensor_parallel_size=2)
    vllm.check([one.question for one in asked], options, context)
    vllm.generate(asked, options, context, done)
    for number, one in enumerate(asked):
        ids = context.tokenizer.apply_chat_template(one.messages, add_generation_prompt=True, tokenize=True)
        ids = ids["input_ids"] if hasattr(ids, "keys") else ids
        assert found[number] == Answer(f"{len(ids)} {500 + number} 0.5 0.25", True, 3)
        assert list(ids) in [prompt for call in LLM.calls for prompt in call]
    assert portions == [4, 4, 3]
    (made,) = LLM.made
    assert (made["tensor_parallel_size"], made["dtype"], made["trust_remote_code"]) == (2, "float32", False)
    assert Path(made["model"]).is_dir()


@pytest.mark.usefixtures("package")
def test_an_answer_that_is_cut(context: CurationContext) -> None:
    found: list[tuple[int, Answer]] = []
    vllm.generate(wanted(1), vllm.Options(max_new_tokens=2), context, found.extend)
    assert (found[0][1].finished, found[0][1].num_tokens) == (False, 2)


@pytest.mark.usefixtures("package")
def test_answers_end_where_those_of_a_local_model_end(context: CurationContext) -> None:
    """At the ids of configuration and tokenizer, at the template's end of turn, and at the user's texts."""
    chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    chatml += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    for template in (context.template, chatml):
        asked = replace(context, template=template)
        own = model.fingerprint(model.Options(stop=["###"]), asked)["stops"]
        assert vllm.fingerprint(vllm.Options(stop=["###"]), asked)["stops"] == own
        vllm.generate(wanted(1), vllm.Options(stop=["###"]), asked, lambda answers: None)
        params = LLM.params.pop()
        assert [params.stop_token_ids, params.stop] == own
        assert context.tokenizer.eos_token_id in params.stop_token_ids
        assert "###" in params.stop
    assert "<|im_end|>" in params.stop  # no token of this tokenizer


@pytest.mark.usefixtures("package")
def test_prompts_that_are_too_long_are_not_asked(context: CurationContext) -> None:
    asked = wanted(3)
    long = replace(asked[1], messages=[{"role": "user", "content": "why " * 400}])
    asked[1] = long
    options = vllm.Options(max_model_len=64, max_new_tokens=60)
    assert vllm.too_long(asked, options, context) == [1]
    vllm.generate([asked[0], asked[2]], options, context, lambda answers: None)
    assert LLM.made[-1]["max_model_len"] == 64
    assert all(len(prompt) + params.max_tokens <= 64 for prompt, params in zip(LLM.calls[-1], LLM.params, strict=True))
    with pytest.raises(UserError, match=r"rows.jsonl:2.*no room|no room.*rows.jsonl:2"):
        vllm.generate(asked, options, context, lambda answers: None)
    vllm.generate(asked[:1], vllm.Options(), context, lambda answers: None)
    assert "max_model_len" not in LLM.made[-1]


@pytest.mark.usefixtures("package")
def test_a_model_without_a_chat_template(context: CurationContext) -> None:
    with pytest.raises(UserError, match="no chat template"):
        vllm.check([], vllm.Options(), replace(context, template=None))


@pytest.mark.usefixtures("package")
def test_an_engine_that_cannot_start(context: CurationContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: LLM, model: str, **arguments: Any) -> None:
        raise ValueError("No available memory for the cache blocks.\nmore")

    monkeypatch.setattr(LLM, "__init__", fail)
    with pytest.raises(EnvironmentProblem, match="No available memory") as caught:
        vllm.generate(wanted(1), vllm.Options(), context, lambda answers: None)
    assert "\n" not in str(caught.value)


def test_the_fingerprint_is_content(context: CurationContext) -> None:
    own = vllm.fingerprint(vllm.Options(), context)
    assert vllm.fingerprint(vllm.Options(model="builtin:tiny"), context) == own
    assert vllm.fingerprint(vllm.Options(dtype="bfloat16"), context) != own
    assert vllm.fingerprint(vllm.Options(), replace(context, template=f"{context.template} ")) != own


def test_an_adapter_is_refused(context: CurationContext, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "builtin:tiny"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="merge it first"):
        vllm.fingerprint(vllm.Options(model="adapter"), context)
