"""Answers from an OpenAI-compatible chat completions API: OpenAI, a gateway, or one's own vLLM, SGLang, llama.cpp server.

    POST {base_url}/chat/completions
    {"model", "messages", "temperature", "top_p", "seed", max_tokens_field: max_new_tokens, "tools", **extra_body}

The answer is `choices[0].message.content`; null is an empty one. Reasoning that comes in a field of its own is not read;
what a model writes between `<think>` marks inside the content stays [R]. `finish_reason: stop` means finished.

What may go wrong, and what becomes of it [R]:
- Before the first answer, `check` asks one short question with all options as they will be sent (a few tokens are paid).
  What fails then - no such server, key, model, option - is the user's to correct: exit 2.
- Later, what may pass by itself is asked again (http_endpoint.py); when the retries are used up, the run ends: exit 3.
- A call that is refused (400, 403, 413, 422: a content filter, a prompt that is too long) while the short question still
  is answered is refused for its own sake: an empty answer, counted and said. Otherwise the run ends, exit 2.
- `max_cost` reached: exit 3. Calls under way are still paid, up to `max_concurrent` of them.
What was answered until then is kept, and the same command asks only for the rest. `max_cost` counts from 0 then.

The key is read from the environment when it is sent, and is removed from whatever the server says. It is no part of the
cache key; the address of the server is, without its scheme: a model's name alone does not tell which model answers.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sftgo_cli.curation.chat_completions import PATH, check_additions, read_completion, sent_messages
from sftgo_cli.curation.http_connection import Secret, read_address
from sftgo_cli.curation.http_endpoint import Calls, Client, Failure
from sftgo_cli.curation.questions import Answer, CurationContext, Done, Question, Request
from sftgo_cli.data.messages import Message
from sftgo_cli.errors import EnvironmentProblem, UserError, nearest
from sftgo_cli.recipe.field_types import NonEmpty, NonNegative, Positive, PositiveInt
from sftgo_cli.recipe.options import MethodOptions

VERSION = 1
SOURCE = "OpenAI chat completions API"
PATH_OPTIONS = (
    "base_url",
    "api_key_env",
    "timeout",
    "max_retries",
    "max_concurrent",
    "rate_per_minute",
    "price_per_million_input_tokens",
    "price_per_million_output_tokens",
    "max_cost",
)
PROBE = "Reply with the single word OK."
PROBE_RETRIES = 2
REFUSED = frozenset([400, 403, 413, 422])
REFUSED_AT_ONCE = 16  # so many refused calls are believed to be so for their own sake after one probe
LAST_CALLS = 30.0  # seconds that calls under way get when a run ends early
SHORTEST_KEY = 12  # one that is shorter stands in for a key, is a word, and may be part of an answer
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


class Options(MethodOptions):
    """Recipe options of `generator: {name: endpoint}`."""

    base_url: str = Field("https://api.openai.com/v1", description="Address before /chat/completions")
    model: NonEmpty = Field(description="The model's name there")
    api_key_env: str | None = Field(
        "OPENAI_API_KEY", description="Name of the environment variable that holds the key; null: no key is sent"
    )
    max_new_tokens: PositiveInt = Field(512, description="An answer is cut here")
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="How the endpoint calls max_new_tokens; OpenAI's newer models: max_completion_tokens"
    )
    temperature: NonNegative | None = Field(0.0, description="0: the likeliest token; null: not sent")
    top_p: float | None = Field(None, gt=0.0, le=1.0, description="Nucleus sampling; null: not sent")
    send_seed: bool = Field(True, description="Send each answer's seed; false where the endpoint refuses it")
    timeout: Positive = Field(300.0, description="Seconds for one try")
    max_retries: int = Field(6, ge=0, description="Tries after the first, where a failure may pass by itself")
    max_concurrent: int = Field(8, ge=1, le=512, description="Calls under way at a time")
    rate_per_minute: Positive | None = Field(None, description="Calls begun per minute at most, evenly spaced")
    price_per_million_input_tokens: NonNegative = Field(0.0, description="What a million tokens of prompts cost")
    price_per_million_output_tokens: NonNegative = Field(0.0, description="What a million tokens of answers cost")
    max_cost: Positive | None = Field(None, description="Stop when a step of this run has cost so much")
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="More to send: {chat_template_kwargs: {enable_thinking: false}}"
    )

    @field_validator("base_url")
    @classmethod
    def is_address(cls, value: str) -> str:
        """An address without secrets in it."""
        read_address(value)
        return value

    @field_validator("api_key_env")
    @classmethod
    def names_a_variable(cls, value: str | None) -> str | None:
        """A name, which the message does not repeat: it may be the key itself."""
        if value is not None and not VARIABLE.fullmatch(value):
            raise ValueError(
                "is the name of an environment variable in capitals, such as OPENAI_API_KEY, never the key itself "
                "(a key that was written into a file should be replaced)"
            )
        return value

    @field_validator("extra_body")
    @classmethod
    def adds_only(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Nothing that has an option of its own, and no secret."""
        check_additions(value)
        return value

    @model_validator(mode="after")
    def prices_a_limit(self) -> Options:
        """A limit needs prices."""
        if self.max_cost is not None and not self.is_priced:
            raise ValueError("max_cost needs price_per_million_input_tokens and price_per_million_output_tokens")
        return self

    @property
    def is_priced(self) -> bool:
        """Whether answers are counted as costing anything."""
        return self.price_per_million_input_tokens > 0 or self.price_per_million_output_tokens > 0


def fingerprint(options: Options, context: CurationContext) -> dict[str, Any]:
    """The server: its host, port and path."""
    address = read_address(options.base_url)
    return {"server": f"{address.server}{address.path}"}


def describe(options: Options, context: CurationContext) -> str:
    """`gpt-4.1-mini at api.openai.com`."""
    return f"{options.model} at {read_address(options.base_url).server}"


def check(questions: Sequence[Question], options: Options, context: CurationContext) -> None:
    """Ask one short question, with all options.

    Raises:
        UserError: there is no key, nobody answers, or the endpoint refuses the key, the model or an option.
    """
    address = read_address(options.base_url)
    if address.scheme == "http" and options.api_key_env and address.host not in ("localhost", "127.0.0.1", "::1"):
        context.say(f"the key in {options.api_key_env} goes to {address.server} unencrypted: base_url is http://")
    failure = _probed(options)
    if failure is not None:
        raise _user_error(failure, options)


def _client(options: Options, max_retries: int) -> Client:
    key = _key(options)
    retries = min(max_retries, options.max_retries)
    return Client(read_address(options.base_url), key, options.timeout, retries, options.rate_per_minute)


def _key(options: Options) -> Secret | None:
    name = options.api_key_env
    if name is None:
        return None
    where = f"the environment variable {name}"
    value = os.environ.get(name, "").strip()
    if not value:
        fix = f"export {name}=..., or set api_key_env: another variable's name, or null where no key is needed"
        raise UserError("there is no key for the endpoint", where, fix)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UserError("the key holds characters that no key has", where, "export the key alone")
    return Secret(value)


def _asked(client: Client, messages: Sequence[Message], tools: Any, seed: int, options: Options) -> Answer | Failure:
    """One call."""
    body: dict[str, Any] = {"model": options.model, "messages": sent_messages(messages)}
    body[options.max_tokens_field] = options.max_new_tokens
    chosen = {"temperature": options.temperature, "top_p": options.top_p, "seed": seed if options.send_seed else None}
    body |= {name: value for name, value in chosen.items() if value is not None}
    reply = client.ask(PATH, body | ({"tools": tools} if tools else {}) | options.extra_body)
    if isinstance(reply, Failure):
        return reply
    read = read_completion(reply)
    if read is None:
        return Failure(200, f"its reply has no choices: {client.scrubbed(json.dumps(reply))[:100]}", passing=True)
    if options.max_cost is not None and (read.num_prompt_tokens is None or read.num_tokens is None):
        return Failure(200, "its reply does not say how many tokens were used, so max_cost cannot be kept")
    text = client.scrubbed(read.text, SHORTEST_KEY).strip()
    spent = (read.num_prompt_tokens or 0) * options.price_per_million_input_tokens
    spent += (read.num_tokens or 0) * options.price_per_million_output_tokens
    return Answer(text, read.finished, read.num_tokens or 0, cost=spent / 1e6)


def _probed(options: Options) -> Failure | None:
    """Why a short question is not answered, if it is not."""
    client = _client(options, PROBE_RETRIES)
    try:
        answer = _asked(client, [{"role": "user", "content": PROBE}], None, 0, options)
    finally:
        client.close()
    return answer if isinstance(answer, Failure) else None


def _user_error(failure: Failure, options: Options) -> UserError:
    """What the user is told to correct."""
    where, server = _where(options), read_address(options.base_url).server
    name = options.api_key_env
    if failure.status in (401, 403):
        fix = f"put a valid key for {server} into {name}" if name else "set api_key_env: the variable with the key"
        return UserError(f"{server} refuses {f'the key in {name}' if name else 'access'}: {failure.text}", where, fix)
    if failure.status == 402:
        return UserError(f"{server} has to be paid first: {failure.text}", where, "add credit there, then run it again")
    if failure.status == 404:
        fix = _other_models(options) or "correct base_url (it mostly ends with /v1) or model"
        return UserError(f"{server} has no such model or path: {failure.text}", where, fix)
    if failure.status is None or failure.passing:
        fix = "start it, or correct base_url (it mostly ends with /v1)"
        return UserError(f"{server} does not answer: {failure.text}", where, fix)
    if failure.status < 400:
        return UserError(f"{server} cannot be used: {failure.text}", where, "correct base_url, or leave max_cost out")
    return UserError(f"{server} refuses the generator's options: {failure.text}", where, "correct them")


def _where(options: Options) -> str:
    return f"generator endpoint, model {options.model}, base_url {options.base_url}"


def _other_models(options: Options) -> str:
    """What to write instead, where the endpoint lists its models."""
    client = _client(options, 0)
    try:
        reply = client.ask("/models")
    finally:
        client.close()
    listed = reply.get("data") if isinstance(reply, dict) else None
    items = listed if isinstance(listed, list) else []
    names = [str(item["id"]) for item in items if isinstance(item, dict) and item.get("id")]
    if not names or options.model in names:
        return ""
    close = nearest(options.model, names)
    offered = f"it offers {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return client.scrubbed(f"did you mean {close}? ({offered})" if close else offered)


@dataclass
class _State:
    """How far `generate` is. `held` are refused calls until it is known that they are so for their own sake."""

    num_left: int
    cost: float = 0.0
    held: list[tuple[int, Failure]] = field(default_factory=list)
    refused: list[tuple[int, Failure]] = field(default_factory=list)
    problem: Failure | None = None


def generate(wanted: Sequence[Request], options: Options, context: CurationContext, done: Done) -> None:
    """Ask for every answer, `max_concurrent` at a time; each is handed over as it comes.

    Raises:
        UserError, EnvironmentProblem: as the module says. KeyboardInterrupt: what has come is handed over first.
    """
    client = _client(options, options.max_retries)

    def call(number: int) -> Answer | Failure:
        one = wanted[number]
        return _asked(client, one.messages, one.question.tools, one.seed, options)

    state = _State(len(wanted))
    calls: Calls[Answer | Failure] = Calls(call, _is_problem, len(wanted), options.max_concurrent)
    try:
        while state.problem is None and (results := calls.finished()):
            _take(results, state, options, done)
        calls.halt()
        client.stop()
        end = time.monotonic() + LAST_CALLS
        while results := calls.finished(timeout=max(0.0, end - time.monotonic())):
            _take(results, state, options, done)
        if state.problem is None:
            _settle(state, options, done)
    except KeyboardInterrupt:
        done([(number, result) for number, result in calls.rest() if isinstance(result, Answer)])
        raise
    finally:
        calls.halt()
        client.close()
    _tell_refused(state, wanted, context)
    if state.problem is not None:
        raise _problem(state, state.problem, options)


def _is_problem(result: Answer | Failure) -> bool:
    """Whether the run has to end."""
    return isinstance(result, Failure) and not result.stopped and result.status not in REFUSED


def _take(results: list[tuple[int, Answer | Failure]], state: _State, options: Options, done: Done) -> None:
    answers = [(number, result) for number, result in results if isinstance(result, Answer)]
    if answers:
        done(answers)
    state.num_left -= len(answers)
    state.cost += sum(answer.cost for _, answer in answers)
    for number, result in results:
        if isinstance(result, Failure) and result.status in REFUSED:
            state.held.append((number, result))
        elif isinstance(result, Failure) and _is_problem(result):
            state.problem = state.problem or result
    if state.problem is not None:
        return
    if options.max_cost is not None and state.cost >= options.max_cost and state.num_left > len(state.held):
        state.problem = Failure(
            None, f"max_cost is reached: {state.cost:,.4f} of {options.max_cost:,.4f}", stopped=True
        )
    elif len(state.held) >= REFUSED_AT_ONCE:
        _settle(state, options, done)


def _settle(state: _State, options: Options, done: Done) -> None:
    """Give refused calls an empty answer if a short question is still answered. It counts as finished: it was not cut."""
    if not state.held:
        return
    state.problem = _probed(options)
    if state.problem is None:
        done([(number, Answer("", finished=True, num_tokens=0)) for number, _ in state.held])
        state.num_left -= len(state.held)
        state.refused += state.held
        state.held = []


def _problem(state: _State, failure: Failure, options: Options) -> UserError | EnvironmentProblem:
    """Why the run ends before its end."""
    left = f"{state.num_left:,} answers are left; what has come is kept: run the same command again"
    if failure.stopped:
        return EnvironmentProblem(
            failure.text, _where(options), f"{left} to spend as much once more, or raise max_cost"
        )
    if failure.passing or failure.status is None:
        server = read_address(options.base_url).server
        return EnvironmentProblem(f"{server} does not answer any more: {failure.text}", _where(options), left)
    return _user_error(failure, options)


def _tell_refused(state: _State, wanted: Sequence[Request], context: CurationContext) -> None:
    if state.refused:
        number, first = min(state.refused, key=lambda pair: pair[0])
        context.say(
            f"{len(state.refused):,} of {len(wanted):,} questions were refused by the endpoint and have no answer; the "
            f"first is {wanted[number].question.where}: {first.text}"
        )
