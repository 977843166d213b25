"""Asks a JSON API over HTTP from many threads: retries with back-off, one rate limit for all, connections kept open.

What passes by itself is asked again: a connection that fails or times out, the statuses 408, 409, 425, 429 and 5xx, a
reply that is no JSON object or that the caller cannot use. The wait before retry i = 0, 1, ... is what `Retry-After` asks
for (for all threads), else

    min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2^i) * u,   u ~ Uniform(0.5, 1)                                     [R]

Nothing here raises for what a server does: failures are values, so that no exception carries a frame in which the key
stands.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from typing import Any

from sftgo_cli.curation.http_connection import Address, Received, Secret, UnsupportedProxy, exchange, opened

FIRST_BACK_OFF = 0.5  # seconds
LONGEST_BACK_OFF = 60.0
LONGEST_WAIT = 600.0  # an endpoint that asks for more is not waited for
CONNECT_TIMEOUT = 15.0  # a server that is there accepts sooner, however long its answers take
PASSING = frozenset([408, 409, 425, 429])  # and 5xx
SPENT = frozenset(["insufficient_quota", "billing_hard_limit_reached"])  # 429s that do not pass
SHORT = 200  # characters of a server's message that are shown


@dataclass(frozen=True)
class Failure:
    """Why there is no reply: the server's status (None: none came), one line about it, whether it may pass by itself."""

    status: int | None
    text: str
    passing: bool = False
    wait: float | None = None  # seconds that the server asks for
    stopped: bool = False  # by us, before it was tried to the end


STOPPED = Failure(None, "stopped", stopped=True)


class Pace:
    """When the next call may begin: a token bucket of size 1 for all threads, which also waits when it is told to."""

    def __init__(self, rate_per_minute: float | None) -> None:
        self._interval = 60.0 / rate_per_minute if rate_per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def turn(self) -> float:
        """Take the next token; returns how many seconds it is until then."""
        with self._lock:
            now = time.monotonic()
            begins = max(now, self._next)
            self._next = begins + self._interval
            return begins - now

    def hold(self, seconds: float) -> None:
        """Let no call begin for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Client:
    """One endpoint. Threads share it and the connections that are idle.

    Args:
        timeout: seconds for one try, from connecting to the last byte.
    """

    def __init__(
        self, address: Address, key: Secret | None, timeout: float, max_retries: int, rate_per_minute: float | None
    ) -> None:
        self.address = address
        self.key = key
        self.timeout = timeout
        self.max_retries = max_retries
        self._pace = Pace(rate_per_minute)
        self._stop = threading.Event()
        self._connect_timeout = min(timeout, CONNECT_TIMEOUT)
        self._closed = False
        self._lock = threading.Lock()
        self._busy: set[HTTPConnection] = set()
        self._idle: list[HTTPConnection] = []
        self._context = None
        if address.scheme == "https":
            import ssl

            self._context = ssl.create_default_context()

    def ask(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        unusable: Callable[[dict[str, Any]], Failure | None] = lambda reply: None,
    ) -> dict[str, Any] | Failure:
        """The JSON object that the endpoint replies, after as many retries as are allowed and make sense.

        Args:
            unusable: why a reply cannot be used, if it cannot; asked again where that may pass.
        """
        sent = None if body is None else json.dumps(body, ensure_ascii=True).encode("ascii")
        for number in range(self.max_retries + 1):
            if self._stop.wait(self._pace.turn()):
                return STOPPED
            reply = self._once(path, sent)
            if not isinstance(reply, Failure):
                reply = unusable(reply) or reply
            if not isinstance(reply, Failure) or not reply.passing or number == self.max_retries:
                return reply
            if reply.wait is not None and reply.wait > LONGEST_WAIT:
                return replace(reply, text=f"{reply.text} (asks to wait for {reply.wait:,.0f} s)")
            if reply.wait is not None:
                self._pace.hold(reply.wait)
            elif self._stop.wait(back_off(number)):
                return STOPPED
        return STOPPED

    def stop(self) -> None:
        """Begin no further try, in no thread; those under way go on."""
        self._stop.set()

    def close(self) -> None:
        """Break off what is under way, too."""
        self.stop()
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            for connection in self._busy:  # its thread closes it; closing it here would not wake that
                with suppress(OSError, AttributeError):
                    connection.sock.shutdown(2)
            self._idle.clear()

    def scrubbed(self, text: str, shortest: int = 4) -> str:
        """A text without the key."""
        return text if self.key is None else self.key.scrubbed(text, shortest)

    def _once(self, path: str, body: bytes | None) -> dict[str, Any] | Failure:
        received = self._received(path, body)
        return received if isinstance(received, Failure) else self._read(received)

    def _received(self, path: str, body: bytes | None) -> Received | Failure:
        """One try. A kept connection that the server has closed meanwhile is replaced at once: nobody read the call."""
        deadline = time.monotonic() + self.timeout
        while True:
            connection = kept = self._kept()
            failure: Failure | None
            try:
                if connection is None:
                    connection = self._connected()
                received = exchange(connection, self.address, path, body, self.key, deadline)
                self._keep(connection)
                return received
            except UnsupportedProxy as error:
                failure = Failure(None, str(error))
            except (OSError, HTTPException) as error:
                stale = kept is not None and isinstance(
                    error, RemoteDisconnected | BrokenPipeError | ConnectionResetError
                )
                limit = self.timeout if connection is not None else self._connect_timeout
                failure = None if stale and not self._closed else _connection_failure(error, limit)
            except BaseException:
                self._drop(connection)
                raise
            self._drop(connection)
            if failure is not None:
                return replace(failure, text=self.scrubbed(failure.text))

    def _kept(self) -> HTTPConnection | None:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
            if connection is not None:
                self._busy.add(connection)
            return connection

    def _connected(self) -> HTTPConnection:
        connection = opened(self.address, self._context, self._connect_timeout)
        with self._lock:
            self._busy.add(connection)
        return connection

    def _keep(self, connection: HTTPConnection) -> None:
        if self._closed or connection.sock is None:
            self._drop(connection)
            return
        with self._lock:
            self._busy.discard(connection)
            self._idle.append(connection)

    def _drop(self, connection: HTTPConnection | None) -> None:
        if connection is not None:
            connection.close()
            with self._lock:
                self._busy.discard(connection)

    def _read(self, received: Received) -> dict[str, Any] | Failure:
        value = _json_object(received.body)
        status = received.status
        if 200 <= status < 300:
            if value is None:
                return Failure(status, self._line("its reply is no JSON object", received.body), passing=True)
            if not isinstance(value.get("error"), dict) or value.get("choices"):
                return value
            code = value["error"].get("code")  # gateways wrap what their upstream said
            status = code if isinstance(code, int) and 300 <= code < 600 else 502
        if 300 <= status < 400:
            text = f"it sends elsewhere, to {received.location}; if that is right, write it into base_url"
            return Failure(status, self._line(text, b""))
        error = value.get("error") if value else None
        codes = {str(error.get("code")), str(error.get("type"))} if isinstance(error, dict) else set()
        passing = (status in PASSING or status >= 500) and not codes & SPENT
        text = self._line(f"status {status}", _message(value) or received.body)
        return Failure(402 if codes & SPENT else status, text, passing, retry_after(received.retry_after))

    def _line(self, what: str, said: bytes | str) -> str:
        """`what: said` in one short line without the key."""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        line = " ".join("".join(c if c.isprintable() else " " for c in self.scrubbed(text)).split())
        shown = line if len(line) <= SHORT else line[: SHORT - 3] + "..."
        return f"{self.scrubbed(what)}: {shown}" if shown else self.scrubbed(what)


def back_off(number: int) -> float:
    """Seconds to wait before retry `number`, from 0."""
    return min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(number, 30)) * random.uniform(0.5, 1.0)


def retry_after(value: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks for, given as seconds or as a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, float(value)) if float(value) < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _connection_failure(error: Exception, timeout: float) -> Failure:
    import socket
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"its certificate is not trusted ({error.verify_message}); SSL_CERT_FILE names further authorities"
        return Failure(None, text)
    if isinstance(error, TimeoutError):
        return Failure(None, f"nothing came whole within {timeout:g} s", passing=True)
    if isinstance(error, socket.gaierror):
        return Failure(None, f"its name is not known ({error.strerror})", passing=True)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Failure(None, f"the connection failed: {' '.join(str(reason).split())[:SHORT]}", passing=True)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _message(value: dict[str, Any] | None) -> str:
    """What an error reply says, in the forms of OpenAI, FastAPI (vLLM, TGI) and others; empty where it is in none."""
    if value is None:
        return ""
    error = value.get("error", value.get("detail", value.get("message", "")))
    if isinstance(error, dict):
        error = error.get("message", "")
    return error if isinstance(error, str) else json.dumps(error)
