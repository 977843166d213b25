"""Answers from an OpenAI-compatible chat completions API: OpenAI, a gateway, or one's own vLLM, SGLang, llama.cpp server.

    POST {base_url}/chat/completions
    {"model", "messages", "temperature", "top_p", "seed", max_tokens_field: max_new_tokens, "tools", **extra_body}

The answer is `choices[0].message.content`; null is an empty one. Reasoning that comes in a field of its own is not read;
what a model writes between `<think>` marks inside the content stays [R]. `finish_reason: stop` means finished.

What may go wrong, and what becomes of it [R]:
- Before the first answer, `check` asks one short question with all options as they will be sent (a few tokens are paid).
  What fails then - no such server, key, model, option - is the user's to correct: exit 2.
- Later, what may pass by itself is asked again (http_endpoint.py), a reply without `choices` too. A question whose retries
  are used up is given up: no answer, so that it keeps gold, counted and said (`on_failure: stop`: the run ends, exit 3).
- A call that is refused (400, 403, 413, 422: a content filter, a prompt that is too long) is given up as well.
- Both only while the short question still is answered; otherwise the run ends, exit 2 or 3.
- An answer that ends with `finish_reason: content_filter` is rejected under that name.
- `max_cost` reached: exit 3. Calls under way are still paid, up to `max_concurrent` of them.
What was answered until then is kept, and the same command asks only for the rest. `max_cost` counts from 0 then.

The key is read from the environment when it is sent, and is removed from whatever the server says. It is no part of the
cache key; the address of the server is, without its scheme: a model's name alone does not tell which model answers.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sftgo_cli.curation.chat_completions import PATH, check_additions, read_completion, sent_messages
from sftgo_cli.curation.endpoint_errors import no_such_model, offered, to_correct
from sftgo_cli.curation.http_connection import key_in, read_address
from sftgo_cli.curation.http_endpoint import LONGEST_WAIT, Client, Failure
from sftgo_cli.curation.parallel_calls import Calls
from sftgo_cli.curation.questions import Answer, CurationContext, Done, Question, Request
from sftgo_cli.data.messages import Message
from sftgo_cli.errors import EnvironmentProblem, UserError
from sftgo_cli.recipe.field_types import NonEmpty, NonNegative, Positive, PositiveInt
from sftgo_cli.recipe.options import MethodOptions

VERSION = 2
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
    "on_failure",
)
PROBE = "Reply with the single word OK."
PROBE_RETRIES = 2
REFUSED = frozenset([400, 403, 413, 422])
REFUSED_AT_ONCE = 16  # so many failed calls are believed to be so for their own sake after one probe
REFUSAL, GIVEN_UP = "refused by the endpoint", "no answer from the endpoint after all retries"
FILTERED = "stopped by the endpoint's content filter"
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
    on_failure: Literal["gold", "stop"] = Field(
        "gold",
        description="A question without an answer after all tries: count it and go on (it keeps gold), or end the run",
    )
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
    key = key_in(options.api_key_env)
    retries = min(max_retries, options.max_retries)
    return Client(read_address(options.base_url), key, options.timeout, retries, options.rate_per_minute)


def _asked(client: Client, messages: Sequence[Message], tools: Any, seed: int, options: Options) -> Answer | Failure:
    """One call."""
    body: dict[str, Any] = {"model": options.model, "messages": sent_messages(messages)}
    body[options.max_tokens_field] = options.max_new_tokens
    chosen = {"temperature": options.temperature, "top_p": options.top_p, "seed": seed if options.send_seed else None}
    body |= {name: value for name, value in chosen.items() if value is not None}

    def without_choices(reply: dict[str, Any]) -> Failure | None:
        if read_completion(reply) is not None:
            return None
        return Failure(200, f"its reply has no choices: {client.scrubbed(json.dumps(reply))[:100]}", passing=True)

    reply = client.ask(PATH, body | ({"tools": tools} if tools else {}) | options.extra_body, without_choices)
    read = None if isinstance(reply, Failure) else read_completion(reply)
    if isinstance(reply, Failure) or read is None:
        return reply if isinstance(reply, Failure) else Failure(200, "its reply has no choices", passing=True)
    if options.max_cost is not None and (read.num_prompt_tokens is None or read.num_tokens is None):
        return Failure(200, "its reply does not say how many tokens were used, so max_cost cannot be kept")
    text = client.scrubbed(read.text, SHORTEST_KEY).strip()
    spent = (read.num_prompt_tokens or 0) * options.price_per_million_input_tokens
    spent += (read.num_tokens or 0) * options.price_per_million_output_tokens
    failure = FILTERED if read.filtered else ""
    return Answer(text, read.finished, read.num_tokens or 0, cost=spent / 1e6, failure=failure)


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
    server = read_address(options.base_url).server
    if failure.status == 404:
        client = _client(options, 0)
        try:
            listed = client.ask("/models")
        finally:
            client.close()
        return no_such_model(failure, server, _where(options), client.scrubbed(offered(listed, options.model)))
    return to_correct(failure, server, _where(options), options.api_key_env)


def _where(options: Options) -> str:
    return f"generator endpoint, model {options.model}, base_url {options.base_url}"


@dataclass
class _State:
    """How far `generate` is. `held` are failed calls until it is known that they are so for their own sake."""

    num_left: int
    cost: float = 0.0
    held: list[tuple[int, Failure]] = field(default_factory=list)
    unanswered: list[tuple[int, Failure]] = field(default_factory=list)
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

    def is_last(result: Answer | Failure) -> bool:
        return _is_problem(result, options)

    calls: Calls[Answer | Failure] = Calls(call, is_last, len(wanted), options.max_concurrent)
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
    _tell_unanswered(state, wanted, context)
    if state.problem is not None:
        raise _problem(state, state.problem, options)


def _is_its_own(failure: Failure, options: Options) -> bool:
    """Whether it may be this question alone that fails."""
    patient = failure.wait is None or failure.wait <= LONGEST_WAIT
    return failure.status in REFUSED or (failure.passing and patient and options.on_failure == "gold")


def _is_problem(result: Answer | Failure, options: Options) -> bool:
    """Whether the run has to end."""
    return isinstance(result, Failure) and not result.stopped and not _is_its_own(result, options)


def _take(results: list[tuple[int, Answer | Failure]], state: _State, options: Options, done: Done) -> None:
    answers = [(number, result) for number, result in results if isinstance(result, Answer)]
    if answers:
        done(answers)
    state.num_left -= len(answers)
    state.cost += sum(answer.cost for _, answer in answers)
    for number, result in results:
        if isinstance(result, Failure) and not result.stopped and _is_its_own(result, options):
            state.held.append((number, result))
        elif isinstance(result, Failure) and not result.stopped:
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
    """Give failed calls an empty answer if a short question is still answered."""
    if not state.held:
        return
    state.problem = _probed(options)
    if state.problem is None:
        done([(number, Answer("", True, 0, failure=_why(failure))) for number, failure in state.held])
        state.num_left -= len(state.held)
        state.unanswered += state.held
        state.held = []


def _why(failure: Failure) -> str:
    return REFUSAL if failure.status in REFUSED else GIVEN_UP


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


def _tell_unanswered(state: _State, wanted: Sequence[Request], context: CurationContext) -> None:
    for why, told in ((REFUSAL, "were refused by the endpoint"), (GIVEN_UP, "failed at every try")):
        some = [(number, failure) for number, failure in state.unanswered if _why(failure) == why]
        if some:
            number, first = min(some, key=lambda pair: pair[0])
            context.say(
                f"{len(some):,} of {len(wanted):,} questions {told} and have no answer; the "
                f"first is {wanted[number].question.where}: {first.text}"
            )
