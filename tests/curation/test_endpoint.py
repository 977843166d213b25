"""The endpoint generator against a server on this machine that does what each test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sftgo_cli.curation import http_endpoint
from sftgo_cli.curation.generators import endpoint
from sftgo_cli.curation.questions import Answer, CurationContext, Question, Request, Verdict, unusable
from sftgo_cli.errors import EnvironmentProblem, SftgoError, UserError

KEY = "sk-verysecret-0123456789abcdef"
Reply = tuple[int, dict[str, str], bytes]


def said(text: Any = "fine", finish: str = "stop", usage: tuple[int, int] | None = (10, 5)) -> Reply:
    """A good reply."""
    body: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return 200, {}, json.dumps(body).encode()


def refusal(status: int, message: str = "no", headers: dict[str, str] | None = None, code: str = "") -> Reply:
    """An error reply in OpenAI's form."""
    return status, headers or {}, json.dumps({"error": {"message": message, "code": code}}).encode()


@dataclass
class Server:
    """What the server was asked, and what it does: `script(body)` gives a reply, or None to break the connection."""

    url: str = ""
    http: Any = None
    script: Callable[[dict[str, Any]], Reply | None] = lambda body: said()
    models: tuple[str, ...] = ()
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    peers: set[Any] = field(default_factory=set)
    under_way: int = 0
    most_under_way: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def prompts(self) -> list[str]:
        """The questions that were asked, without the short one of the check."""
        texts = [str(body["messages"][-1]["content"]) for body in self.bodies]
        return [text for text in texts if text != endpoint.PROBE]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with a key in the environment; waits between tries are short."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            state.paths.append(self.path)
            self.send(200, {}, json.dumps({"data": [{"id": name} for name in state.models]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.bodies.append(body)
                state.headers.append(dict(self.headers))
                state.times.append(time.monotonic())
                state.paths.append(self.path)
                state.peers.add(self.client_address)
                state.under_way += 1
                state.most_under_way = max(state.most_under_way, state.under_way)
            reply = state.script(body)
            with state.lock:
                state.under_way -= 1
            if reply is None:
                self.close_connection = True
                return
            self.send(*reply)

        def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False
    http.handle_error = lambda *args: None  # type: ignore[method-assign]  # clients go away in these tests
    threading.Thread(target=lambda: http.serve_forever(0.01), daemon=True).start()
    state.http = http
    state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(http_endpoint, "FIRST_BACK_OFF", 0.01)
    yield state
    http.shutdown()
    http.server_close()


@dataclass
class Run:
    """What a call of `generate` handed over."""

    answers: dict[int, Answer] = field(default_factory=dict)
    portions: list[int] = field(default_factory=list)

    def done(self, answers: list[tuple[int, Answer]]) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert not self.answers.keys() & {number for number, _ in answers}
        self.answers.update(answers)
        self.portions.append(len(answers))


def options(server: Server, **changed: Any) -> endpoint.Options:
    return endpoint.Options(**{"base_url": server.url, "model": "some-model", "timeout": 5.0, **changed})


def wanted(count: int, **values: Any) -> list[Request]:
    asked = [[{"role": "user", "content": f"q{number}"}] for number in range(count)]
    return [
        Request(Question(str(n), f"rows.jsonl:{n + 1}", messages, "gold", {}, **values), messages, 1000 + n)
        for n, messages in enumerate(asked)
    ]


def generate(server: Server, count: int, context: CurationContext, **changed: Any) -> Run:
    run = Run()
    endpoint.generate(wanted(count), options(server, **changed), context, run.done)
    return run


def failed(server: Server, count: int, context: CurationContext, **changed: Any) -> tuple[SftgoError, Run]:
    run = Run()
    with pytest.raises(SftgoError) as caught:
        endpoint.generate(wanted(count), options(server, **changed), context, run.done)
    return caught.value, run


def is_probe(body: dict[str, Any]) -> bool:
    return bool(body["messages"][-1]["content"] == endpoint.PROBE)


def echo(body: dict[str, Any]) -> Reply:
    return said("re " + str(body["messages"][-1]["content"]))


def test_what_is_sent_and_what_is_read(server: Server, context: CurationContext) -> None:
    server.script = lambda body: said("  an answer\n", finish="length" if body["seed"] == 1001 else "stop")
    run = generate(server, 2, context, temperature=0.5, max_new_tokens=7, extra_body={"top_k": 3})
    assert run.answers == {0: Answer("an answer", True, 5), 1: Answer("an answer", False, 5)}
    first = next(body for body in server.bodies if body["seed"] == 1000)
    assert first == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "q0"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 1000,
        "top_k": 3,
    }
    assert set(server.paths) == {"/v1/chat/completions"}
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)


def test_options_that_change_what_is_sent(server: Server, context: CurationContext) -> None:
    changed = {"temperature": None, "top_p": 0.9, "send_seed": False, "max_tokens_field": "max_completion_tokens"}
    generate(server, 1, context, api_key_env=None, **changed)
    assert set(server.bodies[0]) == {"model", "messages", "top_p", "max_completion_tokens"}
    assert "Authorization" not in server.headers[0]


def test_tool_calls_are_sent_in_openais_form(server: Server, context: CurationContext) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "1+1?", "loss_weight": 2.0},
        {"role": "assistant", "content": "", "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "2", "tool_call_id": "1"},
    ]
    tools = [{"type": "function", "function": {"name": "add"}}]
    one = wanted(1)[0]
    asked = replaced(one, messages=messages, question=replaced(one.question, tools=tools))
    endpoint.generate([asked], options(server), context, Run().done)
    sent = server.bodies[0]["messages"]
    assert sent[0] == {"role": "user", "content": "1+1?"}
    assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert "reasoning_content" not in sent[1]
    assert server.bodies[0]["tools"] == tools


@pytest.mark.parametrize(
    ("content", "text"), [(None, ""), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"), (" ", "")]
)
def test_contents_without_a_plain_text(server: Server, context: CurationContext, content: Any, text: str) -> None:
    server.script = lambda body: said(content)
    assert generate(server, 1, context).answers[0].text == text


def test_order_does_not_matter_and_connections_are_kept(server: Server, context: CurationContext) -> None:
    def script(body: dict[str, Any]) -> Reply:
        time.sleep(0.02 if int(body["seed"]) % 3 == 0 else 0.0)
        return echo(body)

    server.script = script
    run = generate(server, 40, context, max_concurrent=4)
    assert {number: answer.text for number, answer in run.answers.items()} == {n: f"re q{n}" for n in range(40)}
    assert len(server.bodies) == 40
    assert len(server.peers) == 4


def test_as_many_calls_at_a_time_as_asked_for(server: Server, context: CurationContext) -> None:
    def script(body: dict[str, Any]) -> Reply:
        time.sleep(0.03)
        return said()

    server.script = script
    generate(server, 18, context, max_concurrent=6)
    assert server.most_under_way == 6


def test_calls_are_spaced_over_all_threads(server: Server, context: CurationContext) -> None:
    generate(server, 7, context, max_concurrent=4, rate_per_minute=1200.0)
    assert server.times[-1] - server.times[0] >= 6 * 0.05 - 0.02
    assert all(later - earlier > 0.02 for earlier, later in zip(server.times, server.times[1:], strict=False))


def first_of_each(reply: Reply | None) -> Callable[[dict[str, Any]], Reply | None]:
    """A script that gives each question that reply first."""
    seen: set[int] = set()

    def script(body: dict[str, Any]) -> Reply | None:
        if body["seed"] in seen:
            return echo(body)
        seen.add(body["seed"])
        return reply

    return script


@pytest.mark.parametrize(
    "reply",
    [
        refusal(500),
        refusal(503, headers={"Retry-After": "0"}),
        refusal(408),
        refusal(409),
        refusal(429),
        None,
        (200, {}, b'{"choices": [{"mess'),
        (200, {}, b"[1]"),
        (200, {}, b"\xff\xfe"),
        (200, {"Content-Length": "500", "Connection": "close"}, b'{"choices": '),
        (200, {}, json.dumps({"error": {"code": 429, "message": "upstream"}}).encode()),
        (200, {}, b'{"id": "x", "choices": []}'),
        (200, {}, b'{"object": "chat.completion"}'),
        (200, {}, b'{"choices": [{"finish_reason": "stop"}]}'),
    ],
    ids=[
        "500",
        "503",
        "408",
        "409",
        "429",
        "reset",
        "half",
        "list",
        "binary",
        "short",
        "wrapped",
        "none",
        "no",
        "empty",
    ],
)
def test_what_passes_is_asked_again(server: Server, context: CurationContext, reply: Reply | None) -> None:
    server.script = first_of_each(reply)
    run = generate(server, 3, context)
    assert {number: answer.text for number, answer in run.answers.items()} == {n: f"re q{n}" for n in range(3)}


def test_a_slow_try_is_given_up_and_repeated(server: Server, context: CurationContext) -> None:
    slow = threading.Event()

    def script(body: dict[str, Any]) -> Reply:
        if not slow.is_set():
            slow.set()
            time.sleep(1.0)
        return said()

    server.script = script
    begun = time.monotonic()
    assert generate(server, 1, context, timeout=0.2).answers[0].text == "fine"
    assert time.monotonic() - begun < 0.9
    assert len(server.bodies) == 2


def test_retry_after_is_honored_for_all_threads(server: Server, context: CurationContext) -> None:
    limited = threading.Event()

    def script(body: dict[str, Any]) -> Reply:
        if not limited.is_set():
            limited.set()
            return refusal(429, headers={"Retry-After": "0.4"})
        return said()

    server.script = script
    generate(server, 4, context, max_concurrent=1)
    assert server.times[1] - server.times[0] >= 0.4


def test_retry_after_as_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_endpoint.time, "time", lambda: 784111777.0 - 20)  # RFC 9110's example is 784111777
    assert http_endpoint.retry_after("Sun, 06 Nov 1994 08:49:37 GMT") == 20.0
    assert http_endpoint.retry_after("120") == 120.0
    assert http_endpoint.retry_after("-3") == 0.0
    assert http_endpoint.retry_after("soon") is None
    assert http_endpoint.retry_after(None) is None


def test_waits_grow_to_a_limit() -> None:
    for number in range(40):
        longest = min(60.0, 0.5 * 2**number)
        waits = [http_endpoint.back_off(number) for _ in range(20)]
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 1


def test_an_endpoint_that_asks_for_hours_is_not_waited_for(server: Server, context: CurationContext) -> None:
    server.script = lambda body: refusal(429, "slow down", {"Retry-After": "7200"})
    error, _ = failed(server, 1, context)
    assert error.exit_code == 3
    assert "7,200 s" in str(error)
    assert len(server.bodies) == 1


def test_no_quota_is_not_asked_again(server: Server, context: CurationContext) -> None:
    server.script = lambda body: refusal(429, "you exceeded your quota", code="insufficient_quota")
    error, _ = failed(server, 1, context)
    assert "paid" in str(error)
    assert len(server.bodies) == 1


def test_when_retries_are_used_up_what_came_stays(server: Server, context: CurationContext) -> None:
    server.script = lambda body: refusal(500, "broken") if body["seed"] == 1005 else echo(body)
    error, run = failed(server, 8, context, max_retries=2, max_concurrent=1, on_failure="stop")
    assert isinstance(error, EnvironmentProblem)
    assert "3 answers are left" in str(error)
    assert "status 500: broken" in str(error)
    assert sorted(run.answers) == [0, 1, 2, 3, 4]
    assert sum(prompt == "q5" for prompt in server.prompts()) == 3


def test_a_question_that_always_fails_is_given_up_and_counted(server: Server, context: CurationContext) -> None:
    lines: list[str] = []
    always: dict[int, Reply | None] = {1001: refusal(500, "broken"), 1003: None, 1004: (200, {}, b'{"id": "x"}')}
    server.script = lambda body: always[body["seed"]] if body["seed"] in always else echo(body)
    run = generate(server, 7, replaced(context, say=lines.append), max_retries=2)
    given_up = Answer("", True, 0, failure="no answer from the endpoint after all retries")
    assert {n for n, answer in run.answers.items() if answer == given_up} == {1, 3, 4}
    assert {n: run.answers[n].text for n in (0, 2, 5, 6)} == {n: f"re q{n}" for n in (0, 2, 5, 6)}
    assert all(server.prompts().count(f"q{number}") == 3 for number in (1, 4))
    assert lines == [
        "3 of 7 questions failed at every try and have no answer; the first is rows.jsonl:2: status 500: broken"
    ]


def test_an_endpoint_that_is_gone_ends_the_run(server: Server, context: CurationContext) -> None:
    server.script = lambda body: refusal(503, "down") if is_probe(body) or body["seed"] >= 1002 else echo(body)
    error, run = failed(server, 40, context, max_retries=1, max_concurrent=2)
    assert isinstance(error, EnvironmentProblem)
    assert sorted(run.answers) == [0, 1]
    assert len(server.bodies) < 60


def test_a_content_filter_is_named(server: Server, context: CurationContext) -> None:
    server.script = lambda body: said("I cannot", "content_filter") if body["seed"] == 1001 else echo(body)
    run = generate(server, 2, context)
    assert unusable(run.answers[1]) == Verdict(False, "stopped by the endpoint's content filter")
    assert unusable(run.answers[0]) is None


def test_calls_under_way_are_kept_when_a_run_ends(server: Server, context: CurationContext) -> None:
    all_under_way = threading.Barrier(4)

    def script(body: dict[str, Any]) -> Reply:
        all_under_way.wait(5)
        if body["seed"] == 1000:
            return refusal(401)
        time.sleep(0.2)
        return echo(body)

    server.script = script
    error, run = failed(server, 30, context, max_concurrent=4)
    assert isinstance(error, UserError)
    assert sorted(run.answers) == [1, 2, 3]
    assert sorted(server.prompts()) == ["q0", "q1", "q2", "q3"]


def test_a_single_refused_question_is_counted(server: Server, context: CurationContext) -> None:
    lines: list[str] = []
    server.script = lambda body: refusal(400, "content filter") if body["seed"] in (1002, 1004) else echo(body)
    run = generate(server, 6, replaced(context, say=lines.append))
    refused = Answer("", True, 0, failure="refused by the endpoint")
    assert {n for n, answer in run.answers.items() if answer == refused} == {2, 4}
    assert unusable(refused) == Verdict(False, "refused by the endpoint")
    assert run.answers[5].text == "re q5"
    assert lines == [
        "2 of 6 questions were refused by the endpoint and have no answer; the first is rows.jsonl:3: "
        "status 400: content filter"
    ]


def test_a_server_that_refuses_everything_answers_nothing(server: Server, context: CurationContext) -> None:
    server.script = lambda body: refusal(400, "unknown option")
    error, run = failed(server, 100, context, max_concurrent=2)
    assert isinstance(error, UserError)
    assert run.answers == {}
    assert len(server.bodies) < 30


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, ["refuses the generator's options", "temperature is not supported"]),
        (401, ["refuses the key in OPENAI_API_KEY"]),
        (403, ["refuses the key in OPENAI_API_KEY"]),
        (404, ["no such model or path", "some-other-model"]),
        (422, ["refuses the generator's options"]),
        (402, ["paid"]),
    ],
)
def test_check_says_what_to_correct(server: Server, context: CurationContext, status: int, words: list[str]) -> None:
    server.models = ("some-other-model", "third")
    server.script = lambda body: refusal(status, f"temperature is not supported {KEY}")
    with pytest.raises(UserError) as caught:
        endpoint.check([], options(server), context)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.bodies) == 1


def test_check_asks_one_short_question(server: Server, context: CurationContext) -> None:
    endpoint.check([], options(server, temperature=0.3, max_new_tokens=9, top_p=0.5), context)
    (body,) = server.bodies
    assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0.3, 9, 0.5)


@pytest.mark.parametrize(
    "reply", [(200, {}, b"<html>hello</html>"), (200, {}, b"{}"), (302, {"Location": "http://127.0.0.1:9/v1"}, b"")]
)
def test_check_of_what_is_no_such_api(server: Server, context: CurationContext, reply: Reply) -> None:
    server.script = lambda body: reply
    with pytest.raises(UserError) as caught:
        endpoint.check([], options(server), context)
    assert "base_url" in str(caught.value)


def test_check_where_nobody_listens(context: CurationContext, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError) as caught:
        endpoint.check([], options(server, base_url="http://127.0.0.1:9/v1"), context)
    assert "does not answer" in str(caught.value)
    assert time.monotonic() - begun < 2
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError) as caught:
        endpoint.check([], options(server), context)
    assert "the environment variable OPENAI_API_KEY" in str(caught.value)


def test_costs_are_counted(server: Server, context: CurationContext) -> None:
    server.script = lambda body: said(usage=(1000, body["seed"]))
    prices = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 10.0}
    run = generate(server, 3, context, **prices)
    for number, answer in run.answers.items():
        assert answer.cost == pytest.approx((1000 * 2.0 + (1000 + number) * 10.0) / 1e6, rel=1e-12)
        assert answer.num_tokens == 1000 + number


def test_max_cost_stops_and_the_rest_is_asked_later(server: Server, context: CurationContext) -> None:
    server.script = lambda body: said(usage=(0, 1000))
    limits = {"price_per_million_output_tokens": 1000.0, "max_cost": 3.0, "max_concurrent": 1}
    error, run = failed(server, 10, context, **limits)
    assert error.exit_code == 3
    assert "max_cost is reached" in str(error)
    assert 3 <= len(run.answers) <= 4  # one call may be under way
    assert len(server.bodies) == len(run.answers)


def test_max_cost_needs_a_server_that_counts(server: Server, context: CurationContext) -> None:
    server.script = lambda body: said(usage=None)
    limits = {"price_per_million_output_tokens": 1000.0, "max_cost": 3.0}
    with pytest.raises(UserError, match="how many tokens"):
        endpoint.check([], options(server, **limits), context)
    assert generate(server, 1, context).answers[0].num_tokens == 0


def test_ctrl_c_ends_at_once_and_keeps_what_came(server: Server, context: CurationContext) -> None:
    def script(body: dict[str, Any]) -> Reply:
        if body["seed"] >= 1003:
            time.sleep(3.0)
        return said()

    server.script = script
    run = Run()

    def done(answers: list[tuple[int, Answer]]) -> None:
        run.done(answers)
        if len(run.answers) == 3:
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        endpoint.generate(wanted(10), options(server, max_concurrent=2), context, done)
    assert time.monotonic() - begun < 1.5
    assert sorted(run.answers) == [0, 1, 2]
    asked = len(server.bodies)
    time.sleep(0.1)
    assert len(server.bodies) == asked <= 5
