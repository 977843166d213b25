"""Answers by a local model: the recipe's base model, or any other, a finished run included; greedy or sampled.

A prompt is the chat template's text with the opening of an assistant turn, BOS once. An answer ends at an
end-of-sequence id of the model's generation_config or configuration, the tokenizer's, or the template's end of turn; of
generation_config nothing else is read. An answer that meets `max_new_tokens`, or the end of the model's context, is cut
and not `finished`. Every answer has a random stream of its own, so batch size and number of processes do not change it,
near ties aside: `sftgo_cli/curation/decoding_choice.py` says what these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sftgo_cli.curation.questions import Answer, CurationContext, Done, Question, Request
from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.recipe.model_section import ModelSection
from sftgo_cli.recipe.options import MethodOptions
from sftgo_cli.worker_processes import Crew, Work, work_through

if TYPE_CHECKING:
    from pathlib import Path

    from sftgo_cli.curation.decoding import Generated, Prompt
    from sftgo_cli.data.endings import Endings
    from sftgo_cli.reference_model import ReferenceModel

VERSION = 1
SOURCE = "transformers; batching over a cache that rows enter and leave"
PATH_OPTIONS = ("model", "revision", "dtype", "batch_size")  # the models' content is in the fingerprint
KEY = "generator.model"
CPU_BATCH, ACCELERATOR_BATCH = 16, 64


class Options(MethodOptions):
    """A local model and how it decodes."""

    model: str | None = Field(
        None,
        min_length=1,
        description="Hub id, folder of a model or of a finished run, or a recipe (.yaml): its run; null: the base model",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of `model` on the Hub")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(None, description="Compute type; null: model.dtype")
    max_new_tokens: Annotated[int, Field(gt=0)] = Field(512, description="Where an answer is cut, in tokens")
    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        0.0, description="0 is greedy; above, the logits are divided by it"
    )
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="Sample from the most likely tokens that hold this probability"
    )
    top_k: Annotated[int, Field(gt=0)] | None = Field(None, description="Sample from this many most likely tokens")
    stop: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Further texts that end an answer; they are left out of it"
    )
    batch_size: Annotated[int, Field(gt=0)] | None = Field(
        None, description=f"Answers at a time; null: {CPU_BATCH}, on an accelerator {ACCELERATOR_BATCH}"
    )


@dataclass(frozen=True)
class _Source:
    """The model that is meant, with its tokenizer and chat template; `reference` is None for the base model."""

    section: ModelSection
    section_dir: Path
    reference: ReferenceModel | None
    tokenizer: Any
    template: str
    where: str


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """The content of weights, tokenizer and template, the stop ids, the compute type and the decoding options."""
    from sftgo_cli.base_model import model_fingerprint
    from sftgo_cli.data.tokenizer import tokenizer_fingerprint
    from sftgo_cli.reference_model import check_safetensors, reference_fingerprint

    source = _source(options, context)
    if source.reference is None:
        check_safetensors(source.section, source.section_dir)
        weights = model_fingerprint(source.section, source.section_dir)
    else:
        weights = reference_fingerprint(source.reference)
    ends = _endings(source, options)
    return {
        "weights": weights,
        "quantization": source.section.quantization,
        "tokenizer": tokenizer_fingerprint(source.tokenizer),
        "template": source.template,
        "stops": [list(ends.ids), list(ends.texts)],
        "dtype": options.dtype or context.model.dtype,
        "decoding": [options.max_new_tokens, options.temperature, options.top_p, options.top_k],
    }


def describe(options: Options, context: CurationContext) -> str:
    """`builtin:tiny, greedy` or `runs/sft, temperature 0.7, top_p 0.9`."""
    name = options.model or context.model.name_or_path
    if options.temperature == 0:
        return f"{name}, greedy"
    more = [f"top_p {options.top_p:g}"] if options.top_p < 1 else []
    more += [f"top_k {options.top_k}"] if options.top_k is not None else []
    return ", ".join([name, f"temperature {options.temperature:g}", *more])


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Raises UserError when there is no such model or chat template, nothing ends an answer, or a prompt does not fit."""
    source = _source(options, context)
    _endings(source, options)
    _prompts([Request(question, question.messages, 0) for question in questions], source, options)


def too_long(wanted: Sequence[Request], options: Options, context: CurationContext) -> list[int]:
    """The places of those whose prompt leaves no room for an answer in the model's context."""
    found: list[int] = []
    _prompts(wanted, _source(options, context), options, found.append)
    return found


def generate(wanted: Sequence[Request], options: Options, context: CurationContext, done: Done) -> None:
    """Answer everything that is wanted, longest prompts first; what is begun and not handed over is a batch at most.

    Raises:
        UserError: as `check`, for these conversations, or the model cannot be loaded.
        EnvironmentProblem: a process was killed, or the memory is too small.
    """
    if not wanted:
        return
    source = _source(options, context)
    prompts = _prompts(wanted, source, options)
    prompts.sort(key=lambda prompt: (-len(prompt.ids), prompt.ids))  # alike in length; equal ones are read once
    said: set[str] = set()

    def report(result: list[tuple[int, Answer]] | str) -> None:
        if not isinstance(result, str):
            done(result)
        elif result not in said:
            said.add(result)
            context.say(result)

    dtype = options.dtype or context.model.dtype
    job = _Job(source, options, dtype, _endings(source, options), context.use_cpu)
    work_through(Crew("generation", open_model, job, context.num_processes, context.use_cpu), prompts, report)


@dataclass(frozen=True)
class _Job:
    """All that a process needs, as data that can be sent to it."""

    source: _Source
    options: Options
    dtype: str
    ends: Endings
    use_cpu: bool


def open_model(job: _Job) -> Work[Prompt, list[tuple[int, Answer]] | str]:
    """Load the model: prompts -> lists of (number, answer), or a line to be said."""
    import torch

    from sftgo_cli.curation.decoding import Stops, decode
    from sftgo_cli.curation.decoding_choice import Sampling
    from sftgo_cli.curation.decoding_fallback import cannot_refill, decode_plainly
    from sftgo_cli.curation.decoding_prompts import answer_text, text_end

    options, tokenizer = job.options, job.source.tokenizer
    model = _loaded(job)
    on_cpu = model.get_input_embeddings().weight.device.type == "cpu"
    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    stops = Stops(frozenset(job.ends.ids), text_end(tokenizer, job.ends.texts))
    batch_size = options.batch_size or (CPU_BATCH if on_cpu else ACCELERATOR_BATCH)

    def answer(generated: Generated) -> tuple[int, Answer]:
        text = answer_text(tokenizer, generated.ids, job.ends)
        return generated.number, Answer(text, generated.stopped, len(generated.ids), generated.near_ties)

    def work(prompts: Iterator[Prompt]) -> Iterator[list[tuple[int, Answer]] | str]:
        try:
            reason = cannot_refill(model)
            if reason is not None:
                yield f"generating in whole batches, which is slower: {type(model).__name__} rows cannot change ({reason})"
            through = decode if reason is None else decode_plainly
            for finished in through(model, prompts, sampling, stops, batch_size):
                yield [answer(generated) for generated in finished]
        except torch.OutOfMemoryError as error:
            raise EnvironmentProblem(
                f"the memory is too small for {batch_size} answers at a time",
                job.source.where,
                "lower generator.batch_size; the same command continues, and the answers are the same",
            ) from error

    return work


def _source(options: Options, context: CurationContext) -> _Source:
    if options.model is None:
        where = f"model.name_or_path: {context.model.name_or_path}"
        if context.template is None:
            raise _no_template(where)
        return _Source(context.model, context.recipe_dir, None, context.tokenizer, context.template, where)
    from sftgo_cli.data.templates import resolve_chat_template
    from sftgo_cli.data.tokenizer import load_tokenizer
    from sftgo_cli.reference_model import find_reference

    found = find_reference(options.model, options.revision, context.model, context.recipe_dir, context.find_run, KEY)
    named = found.section.model_copy(update={"name_or_path": found.tokenizer_name})
    tokenizer = load_tokenizer(named, found.section_dir)
    template = resolve_chat_template(None, tokenizer, context.recipe_dir) or context.template
    if template is None:
        raise _no_template(found.where)
    return _Source(found.section, found.section_dir, found, tokenizer, template, found.where)


def _no_template(where: str) -> UserError:
    return UserError(
        "the model has no chat template to be asked with",
        where,
        "set data.chat_template (plain and chatml are shipped), or use a model that has one",
    )


def _configuration(source: _Source) -> Any:
    """The model's configuration; nothing of its weights is read."""
    from sftgo_cli.curation.decoding_prompts import text_configuration

    return text_configuration(source.section, source.section_dir, source.where)


def _endings(source: _Source, options: Options) -> Endings:
    from sftgo_cli.base_model import resolve_name
    from sftgo_cli.curation.decoding_prompts import configured_endings

    section = source.section
    name = resolve_name(section.name_or_path, source.section_dir)
    config = _configuration(source)
    return configured_endings(config, name, section.revision, source.tokenizer, source.template, options.stop)


def _prompts(
    wanted: Sequence[Request], source: _Source, options: Options, on_no_room: Callable[[int], None] | None = None
) -> list[Prompt]:
    from sftgo_cli.curation.decoding_prompts import prompts_of

    config = _configuration(source)
    context = getattr(config, "max_position_embeddings", None)
    vocabulary = getattr(config, "vocab_size", None)
    limit = options.max_new_tokens
    return prompts_of(wanted, source.tokenizer, source.template, limit, context, vocabulary, on_no_room)


def _loaded(job: _Job) -> Any:
    import torch

    from sftgo_cli.base_model import load_base_model
    from sftgo_cli.reference_model import load_reference

    source = job.source
    if source.reference is None:
        model: Any = load_base_model(source.section, source.section_dir, job.dtype)
    else:
        model = load_reference(source.reference, job.dtype)
    model = model.requires_grad_(False).eval()
    quantized = getattr(model, "quantization_method", None) is not None  # lies where it belongs already
    return model if quantized or job.use_cpu or not torch.cuda.is_available() else model.to("cuda")
