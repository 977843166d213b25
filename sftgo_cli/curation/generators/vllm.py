"""Answers from vLLM in this process, on GPUs: the recipe's base model or another one (extra `vllm`).

Prompts are rendered by the model's chat template here and handed over as token ids, BOS once, so that vLLM sees what the
generator `model` sees; an answer ends where it ends there: at the end-of-sequence ids of the model's generation_config or
configuration and the tokenizer's, at the template's end of turn, or at one of `stop`. A prompt that leaves no room for an
answer in the model's context, or in `max_model_len`, is not asked; near the end of it an answer is cut. Every answer has a
seed of its own (`SamplingParams.seed`); vLLM promises equal answers for equal seeds only for equal batches on equal
hardware, so near ties may fall otherwise in another run, and are not counted [R].
Weights are taken as they lie there: `model.quantization` is not applied.

Written against vLLM's documented interface (`LLM`, `SamplingParams`, `RequestOutput`) and tested with a stand-in for it;
it has not been run with vLLM itself.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sftgo_cli.base_model import model_fingerprint
from sftgo_cli.curation.questions import Answer, CurationContext, Done, Question, Request
from sftgo_cli.data.templates import resolve_chat_template
from sftgo_cli.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.model_source import model_source
from sftgo_cli.recipe.field_types import NonEmpty, NonNegative, PositiveInt
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.recipe.options import MethodOptions
from sftgo_cli.reference_model import find_reference

if TYPE_CHECKING:
    from sftgo_cli.curation.decoding import Prompt
    from sftgo_cli.data.endings import Endings

VERSION = 2
SOURCE = "vLLM offline inference; not run against it here [R]"
PATH_OPTIONS = ("model", "tensor_parallel_size", "gpu_memory_utilization", "answers_at_once")
WHERE = "curation.generator"


class Options(MethodOptions):
    """Recipe options of `generator: {name: vllm}`."""

    model: NonEmpty | None = Field(
        None, description="Folder, Hub id, finished run or recipe of a full model; null: the base model"
    )
    max_new_tokens: PositiveInt = Field(512, description="An answer is cut here")
    temperature: NonNegative = Field(0.0, description="0: the likeliest token")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="Nucleus sampling")
    stop: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Further texts that end an answer; they are left out of it"
    )
    max_model_len: PositiveInt | None = Field(
        None, description="Tokens of prompt and answer that vLLM makes room for; null: the model's whole context"
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the model")
    gpu_memory_utilization: float = Field(0.9, gt=0.0, le=1.0, description="Share of a GPU's memory that vLLM takes")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(None, description="null: the recipe's model.dtype")
    answers_at_once: PositiveInt = Field(256, description="So many are handed to vLLM, and kept, together")


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """The model's weights, its tokenizer, the chat template and the compute type."""
    section = _section(options, context)
    tokenizer, template = _tokenizer(section, options, context)
    ends = _endings(section, options, context)
    return {
        "model": model_fingerprint(section, context.recipe_dir),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "template": template,
        "stops": [list(ends.ids), list(ends.texts)],
        "dtype": options.dtype or context.model.dtype,
    }


def describe(options: Options, context: CurationContext) -> str:
    """`vllm MODEL`."""
    return f"vllm {options.model or context.model.name_or_path}"


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raise what can be known before the model is loaded.

    Raises:
        UserError: there is no such model, it is an adapter, it has no chat template, or this one refuses a question.
        EnvironmentProblem: vLLM is not installed.
    """
    _require()
    section = _section(options, context)
    _endings(section, options, context)
    _prompts([Request(question, question.messages, 0) for question in questions[:1]], section, options, context)


def too_long(wanted: Sequence[Request], options: Options, context: CurationContext) -> list[int]:
    """The places of those whose prompt leaves no room for an answer in the model's context or in max_model_len."""
    found: list[int] = []
    _prompts(wanted, _section(options, context), options, context, found.append)
    return found


def generate(wanted: Sequence[Request], options: Options, context: CurationContext, done: Done) -> None:
    """Answer in portions of `answers_at_once`, each handed over when it is done.

    Raises:
        UserError, EnvironmentProblem: as `check`; also what vLLM cannot load or start.
    """
    _require()
    vllm: Any = importlib.import_module("vllm")
    section = _section(options, context)
    ends = _endings(section, options, context)
    prompts = sorted(_prompts(wanted, section, options, context), key=lambda prompt: len(prompt.ids))
    engine = _engine(vllm.LLM, section, options, context)
    for start in range(0, len(prompts), options.answers_at_once):
        some = prompts[start : start + options.answers_at_once]
        sampling = [_sampling(vllm.SamplingParams, prompt, ends, options) for prompt in some]
        given = [{"prompt_token_ids": list(prompt.ids)} for prompt in some]
        outputs = engine.generate(given, sampling, use_tqdm=False)
        done([(prompt.number, _answer(output, ends)) for prompt, output in zip(some, outputs, strict=True)])


def _require() -> None:
    if importlib.util.find_spec("vllm") is None:
        raise EnvironmentProblem("the generator vllm needs vLLM", WHERE, "pip install 'sftgo[vllm]'")


def _section(options: Options, context: CurationContext) -> ModelSection:
    """The model that answers; a folder among its names is absolute."""
    if options.model is None:
        source = model_source(context.model, context.recipe_dir)
        if source.adapters:
            raise _adapter_fault(f"model.name_or_path: {context.model.name_or_path}")
        return context.model.model_copy(update={"name_or_path": source.weights})
    found = find_reference(options.model, None, context.model, context.recipe_dir, context.find_run, f"{WHERE}.model")
    if found.adapter is not None:
        raise _adapter_fault(found.where)
    return found.section


def _adapter_fault(where: str) -> UserError:
    return UserError(
        "the model is an adapter, which this generator does not load",
        where,
        "merge it first (sftgo merge), or use the generator `model`",
    )


def _tokenizer(section: ModelSection, options: Options, context: CurationContext) -> tuple[Any, str]:
    """The model's tokenizer and chat template: the recipe's for the base model, else its own.

    Raises:
        UserError: it has no chat template.
    """
    if options.model is None:
        tokenizer, template = context.tokenizer, context.template
    else:
        tokenizer = load_tokenizer(section, context.recipe_dir)
        template = resolve_chat_template(None, tokenizer, context.recipe_dir)
    if template is None:
        fix = "set data.chat_template" if options.model is None else "use a model that was trained on conversations"
        raise UserError("the model has no chat template", f"{WHERE}: vllm, model {section.name_or_path}", fix)
    return tokenizer, template


def _configuration(section: ModelSection, context: CurationContext) -> Any:
    from sftgo_cli.curation.decoding_prompts import text_configuration

    return text_configuration(section, context.recipe_dir, f"{WHERE}: vllm, model {section.name_or_path}")


def _endings(section: ModelSection, options: Options, context: CurationContext) -> Endings:
    from sftgo_cli.curation.decoding_prompts import configured_endings

    tokenizer, template = _tokenizer(section, options, context)
    config = _configuration(section, context)
    return configured_endings(config, section.name_or_path, section.revision, tokenizer, template, options.stop)


def _prompts(
    wanted: Sequence[Request],
    section: ModelSection,
    options: Options,
    context: CurationContext,
    on_no_room: Callable[[int], None] | None = None,
) -> list[Prompt]:
    """What is wanted as token ids, each with the room that is left for its answer."""
    from sftgo_cli.curation.decoding_prompts import prompts_of

    tokenizer, template = _tokenizer(section, options, context)
    config = _configuration(section, context)
    lengths = (getattr(config, "max_position_embeddings", None), options.max_model_len)
    longest = min((length for length in lengths if length is not None), default=None)
    vocabulary = getattr(config, "vocab_size", None)
    return prompts_of(wanted, tokenizer, template, options.max_new_tokens, longest, vocabulary, on_no_room)


def _engine(llm: Any, section: ModelSection, options: Options, context: CurationContext) -> Any:
    try:
        return llm(
            model=section.name_or_path,
            revision=section.revision,
            trust_remote_code=section.trust_remote_code,
            dtype=options.dtype or context.model.dtype,
            tensor_parallel_size=options.tensor_parallel_size,
            gpu_memory_utilization=options.gpu_memory_utilization,
            seed=0,
            **({} if options.max_model_len is None else {"max_model_len": options.max_model_len}),
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        fix = "see its log above; lower gpu_memory_utilization or raise tensor_parallel_size if memory is short"
        raise EnvironmentProblem(f"vLLM could not start: {first[:200]}", section.name_or_path, fix) from error


def _sampling(params: Any, prompt: Prompt, ends: Endings, options: Options) -> Any:
    return params(
        temperature=options.temperature,
        top_p=options.top_p,
        max_tokens=prompt.limit,
        seed=prompt.seed,
        n=1,
        stop_token_ids=list(ends.ids),
        stop=list(ends.texts),
    )


def _answer(output: Any, ends: Endings) -> Answer:
    """vLLM leaves the stop texts and special tokens out; an end of turn that is an ordinary token is cut off here."""
    first = output.outputs[0]
    text = str(first.text)
    for end in ends.texts:
        text = text.partition(end)[0]
    return Answer(text.strip(), first.finish_reason == "stop", len(first.token_ids))
