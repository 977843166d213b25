"""The endpoint's key stays where it is; what a recipe may say; resuming; proxies and redirects."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sftgo_cli import methods
from sftgo_cli.cache import canonical_json
from sftgo_cli.curation import workbench
from sftgo_cli.curation.generators import endpoint
from sftgo_cli.curation.http_connection import Secret, read_address
from sftgo_cli.curation.questions import CurationContext
from sftgo_cli.curation.workbench import Workbench
from sftgo_cli.errors import SftgoError, UserError
from sftgo_cli.recipe.load import load_recipe
from sftgo_cli.recipe.options import GeneratorChoice
from tests.curation.test_endpoint import KEY, Run, Server, echo, options, refusal, said, server, wanted

__all__ = ["server"]  # the fixture

RECIPE = """
model: {name_or_path: "builtin:tiny", dtype: float32}
data: {train: [{path: rows.jsonl}]}
curation: [{name: s3ft, judge: {name: exact}, generator: {name: endpoint, model: m, %s}}]
training: {output_dir: runs/unused, max_steps: 2, use_cpu: true}
"""


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it came from, hidden or not."""
    yield error
    for earlier in (error.__cause__, error.__context__):
        if earlier is not None:
            yield from chain(earlier)


def everything_about(error: BaseException) -> str:
    """Messages, tracebacks, and the local variables of every frame of this package in the chain."""
    texts = []
    for one in chain(error):
        texts += traceback.format_exception(one)
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "sftgo_cli" in frame.f_code.co_filename or "http" in frame.f_code.co_filename:
                texts.append(repr(frame.f_locals))
    return "\n".join(texts)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_a_key_in_the_servers_words_is_removed(server: Server, context: CurationContext, status: int) -> None:
    server.script = lambda body: refusal(status, f"the key {KEY} is bad, {KEY}!", {"Retry-After": "0"})
    for call in (
        lambda: endpoint.check([], options(server), context),
        lambda: endpoint.generate(wanted(2), options(server, max_retries=1), context, Run().done),
    ):
        with pytest.raises(SftgoError) as caught:
            call()
        assert "the key *** is bad" in str(caught.value)
        assert KEY not in everything_about(caught.value)


def test_a_connection_that_fails_shows_no_key(server: Server, context: CurationContext) -> None:
    server.script = lambda body: None
    for base_url in (server.url, "http://127.0.0.1:9/v1"):
        with pytest.raises(SftgoError) as caught:
            endpoint.generate(wanted(1), options(server, base_url=base_url, max_retries=0), context, Run().done)
        assert KEY not in everything_about(caught.value)


def test_a_key_in_an_answer_is_removed(server: Server, context: CurationContext) -> None:
    server.script = lambda body: said(f"you sent {KEY}")
    run = Run()
    endpoint.generate(wanted(1), options(server), context, run.done)
    assert run.answers[0].text == "you sent ***"


def test_a_word_that_stands_in_for_a_key_stays_in_answers(
    server: Server, context: CurationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    server.script = lambda body: said("EMPTY it")
    run = Run()
    endpoint.generate(wanted(1), options(server), context, run.done)
    assert run.answers[0].text == "EMPTY it"


def test_a_key_with_line_breaks_is_refused_unseen(
    server: Server, context: CurationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\nX-Other: 1")
    with pytest.raises(UserError) as caught:
        endpoint.check([], options(server), context)
    assert KEY not in str(caught.value)
    assert not server.bodies


def test_a_secret_prints_as_stars() -> None:
    assert (repr(Secret(KEY)), str(Secret(KEY)), f"{Secret(KEY)}") == ("***", "***", "***")


def test_resuming_asks_for_what_is_left_and_leaves_no_key_on_disk(
    server: Server, context: CurationContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTGO_CACHE", str(tmp_path / "cache"))
    lines: list[str] = []
    context = replace(context, say=lines.append)
    server.script = lambda body: refusal(500, f"broken {KEY}") if body["seed"] == 1006 else echo(body)
    stopping = options(server, max_retries=0, max_concurrent=2, on_failure="stop")
    choice = GeneratorChoice(name="endpoint", options=stopping)
    with pytest.raises(SftgoError):
        Workbench(context).answers(wanted(12), choice)
    first = set(server.prompts())
    kept = first - {"q6"}
    assert len(kept) >= 6

    server.bodies.clear()
    server.script = echo
    # neither retries, threads, prices nor the key's variable are part of what the answers depend on
    monkeypatch.setenv("OTHER_KEY", KEY)
    changed = options(server, max_concurrent=3, price_per_million_input_tokens=1.0, api_key_env="OTHER_KEY")
    again = GeneratorChoice(name="endpoint", options=changed)
    answers = Workbench(context).answers(wanted(12), again)
    assert [answer.text for answer in answers] == [f"re q{n}" for n in range(12)]
    assert set(server.prompts()) == {f"q{n}" for n in range(12)} - kept
    assert len(server.prompts()) == 12 - len(kept)

    server.bodies.clear()
    assert Workbench(context).answers(wanted(12), again) == answers
    assert server.bodies == []
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(KEY.encode() in content for content in written)
    assert KEY not in "\n".join(lines)


def test_what_the_cache_key_is_made_of(server: Server, context: CurationContext) -> None:
    def key(**changed: Any) -> str:
        choice = GeneratorChoice(name="endpoint", options=options(server, **changed))
        return canonical_json(workbench.fingerprint(choice, context))

    same = {"timeout": 9.0, "max_retries": 1, "max_concurrent": 2, "rate_per_minute": 5.0, "api_key_env": None}
    prices = {"price_per_million_input_tokens": 1.0, "price_per_million_output_tokens": 1.0, "max_cost": 1.0}
    assert key(**same, **prices, base_url=server.url + "/") == key()
    for changed in (
        {"model": "other"}, {"temperature": 1.0}, {"top_p": 0.5}, {"max_new_tokens": 3}, {"send_seed": False},
        {"base_url": "https://other.example/v1"}, {"extra_body": {"top_k": 1}},
    ):  # fmt: skip
        assert key(**changed) != key()
    assert KEY not in key()
    assert read_address("HTTPS://Api.Example.com:443/v1/") == read_address("https://api.example.com/v1")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (f"api_key: {KEY}", "did you mean api_key_env?"),
        (f"api_key_env: {KEY}", "never the key itself"),
        ("api_key_env: 0123abcdef0123abcdef", "never the key itself"),
        (f"base_url: 'https://user:{KEY}@host/v1'", "no user or password"),
        (f"base_url: 'https://host/v1?key={KEY}'", "leave out what follows"),
        ("base_url: localhost:8000/v1", "begins with http"),
        ("base_url: 'https://host/v1/chat/completions'", "leave that out"),
        (f"extra_body: {{a: [{{api_key: {KEY}}}]}}", "no key or password"),
        ("extra_body: {stream: true}", "one whole answer"),
        ("extra_body: {messages: []}", "own options"),
        ("max_cost: 1.0", "needs price_per_million"),
        ("requests_per_minute: 5", "did you mean rate_per_minute?"),
    ],
)
def test_what_a_recipe_may_not_say(tmp_path: Path, keys: str, words: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE % keys)
    with pytest.raises(UserError) as caught:
        load_recipe(tmp_path / "recipe.yaml", [], methods)
    assert words in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_redirect_is_named_and_not_followed(server: Server, context: CurationContext) -> None:
    server.script = lambda body: (307, {"Location": "https://elsewhere.example/v1"}, b"")
    with pytest.raises(UserError, match=r"elsewhere\.example"):
        endpoint.check([], options(server), context)
    assert len(server.bodies) == 1


def test_a_proxy_of_the_environment_is_used(
    server: Server, context: CurationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://user:pass@").removesuffix("/v1"))
    run = Run()
    endpoint.generate(wanted(1), options(server, base_url="http://model.example/v1"), context, run.done)
    assert run.answers[0].text == "fine"
    assert server.paths == ["http://model.example/v1/chat/completions"]
    assert server.headers[0]["Host"] == "model.example"
    assert server.headers[0]["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    endpoint.generate(wanted(1), options(server), context, Run().done)
    assert server.paths[-1] == "/v1/chat/completions"
    assert "Proxy-Authorization" not in server.headers[-1]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_certificates_are_checked(
    server: Server, context: CurationContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(made, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.http.socket = tls.wrap_socket(server.http.socket, server_side=True)
    asked = options(server, base_url=server.url.replace("http://127.0.0.1", "https://localhost"))
    with pytest.raises(UserError, match="certificate is not trusted"):
        endpoint.check([], asked, context)
    assert not server.bodies
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    endpoint.check([], asked, context)
    assert len(server.bodies) == 1


def test_an_unencrypted_key_is_said(context: CurationContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    lines: list[str] = []
    asked = endpoint.Options(base_url="http://no-such-host.invalid/v1", model="m", max_retries=0)
    with pytest.raises(UserError, match="does not answer"):
        endpoint.check([], asked, replace(context, say=lines.append))
    assert "unencrypted" in lines[0]


def test_options_are_strict() -> None:
    with pytest.raises(ValidationError):
        endpoint.Options(model="m", temperature=-1.0)
    assert json.loads(endpoint.Options(model="m").model_dump_json())["api_key_env"] == "OPENAI_API_KEY"
    assert os.environ.get("OPENAI_API_KEY") != KEY
