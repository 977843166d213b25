"""One exchange with an HTTP server: where it is, the way there through a proxy, the key, and a deadline for the whole.

Redirects are not followed, so a key reaches no other server than the one in the recipe. Certificates are always checked
(`SSL_CERT_FILE` names authorities of one's own). Proxies come from the environment: `HTTPS_PROXY`, `NO_PROXY`, ...
"""

from __future__ import annotations

import base64
import os
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from ssl import SSLContext
from urllib.parse import SplitResult, unquote, urlsplit

from sftgo_cli.errors import UserError

LARGEST_REPLY = 64 * 2**20  # bytes
PORTS = {"http": 80, "https": 443}
ENDING = "/chat/completions"


class Secret:
    """A key that prints as `***`; `in_plain` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "***"

    def in_plain(self) -> str:
        """The key itself, to send."""
        return self._value

    def scrubbed(self, text: str, shortest: int = 4) -> str:
        """A text without the key; one that is shorter than `shortest` (`x`, `EMPTY`) is no secret, and stays."""
        return text.replace(self._value, "***") if len(self._value) >= shortest else text


@dataclass(frozen=True)
class Address:
    """The parts of a `base_url`; `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def server(self) -> str:
        """`host` or `host:port`, where the port is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Received:
    """A server's whole reply."""

    status: int
    retry_after: str | None
    location: str | None
    body: bytes


def read_address(base_url: str) -> Address:
    """The parts of `https://host:port/v1`.

    Raises:
        ValueError: why it is none; the text says nothing of what stands in it, which may be a password.
    """
    try:
        parts = urlsplit(base_url.strip())
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:  # UnicodeError is one
        raise ValueError("is no address; write https://HOST/v1") from None
    if parts.scheme not in PORTS or not host or any(character.isspace() for character in base_url.strip()):
        raise ValueError("must be an address that begins with http:// or https://, such as http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user or password; put the key into the variable that api_key_env names")
    if parts.query or parts.fragment:
        raise ValueError("must end with its path: leave out what follows '?' or '#' (a key belongs into api_key_env)")
    path = parts.path.rstrip("/")
    if path.endswith(ENDING):
        raise ValueError(f"is what stands before {ENDING}: leave that out")
    return Address(parts.scheme, host, port or PORTS[parts.scheme], path)


def opened(address: Address, context: SSLContext | None, timeout: float) -> HTTPConnection:
    """A connection to the server, directly or through the environment's proxy.

    Raises:
        OSError, HTTPException: it cannot be made. UnsupportedProxy: the proxy is of another kind.
    """
    proxy = _proxy(address)
    near = (address.host, address.port) if proxy is None else (proxy.hostname, proxy.port or PORTS["http"])
    if address.scheme == "http":
        connection = HTTPConnection(near[0] or "", near[1], timeout=timeout)
    else:
        connection = HTTPSConnection(near[0] or "", near[1], timeout=timeout, context=context)
        if proxy is not None:
            connection.set_tunnel(address.host, address.port, headers=_proxy_login(proxy))
    connection.auto_open = 0  # a closed one stays closed
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


class UnsupportedProxy(Exception):
    """A proxy that the standard library cannot speak to."""


def _proxy(address: Address) -> SplitResult | None:
    from urllib.request import getproxies, proxy_bypass

    found = getproxies()
    text = found.get(address.scheme) or found.get("all")
    if not text or proxy_bypass(f"{address.host}:{address.port}"):
        return None
    proxy = urlsplit(text if "://" in text else f"http://{text}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise UnsupportedProxy(f"the environment names a proxy of the kind {proxy.scheme}, which is not supported")
    return proxy


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(login.encode()).decode("ascii")}


def exchange(
    connection: HTTPConnection, address: Address, path: str, body: bytes | None, key: Secret | None, deadline: float
) -> Received:
    """POST `body` to `path` below the address (GET where there is none) and read the reply whole.

    Args:
        deadline: by `time.monotonic()`; for all of it, so that a server that sends now and then a byte is not waited
            for without end.

    Raises:
        OSError (TimeoutError among it), HTTPException: the connection broke, or it took too long.
    """
    proxy = _proxy(address) if address.scheme == "http" else None
    target = f"{address.path}{path}" if proxy is None else f"http://{address.server}{address.path}{path}"
    connection.putrequest("GET" if body is None else "POST", target)
    connection.putheader("Accept", "application/json")
    connection.putheader("User-Agent", "sftgo")
    for name, value in (_proxy_login(proxy) if proxy else {}).items():
        connection.putheader(name, value)
    if key is not None:
        connection.putheader("Authorization", f"Bearer {key.in_plain()}")
    if body is not None:
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
    sock = connection.sock
    sock.settimeout(_left(deadline))
    connection.endheaders(body)
    response = connection.getresponse()
    content = _content(response, sock, deadline)
    return Received(response.status, response.getheader("Retry-After"), response.getheader("Location"), content)


def _content(response: HTTPResponse, sock: object, deadline: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while not response.isclosed():
        left = _left(deadline)
        if sock.fileno() >= 0:  # type: ignore[attr-defined]  # a reply that closes the connection lives on without it
            sock.settimeout(left)  # type: ignore[attr-defined]
        part = response.read1(2**16)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > LARGEST_REPLY:
            raise HTTPException(f"its reply is larger than {LARGEST_REPLY:,} bytes")
    missing = response.length
    response.close()  # `read1` leaves a reply of known length open, and the connection with it
    if missing:
        raise IncompleteRead(b"", missing)
    return b"".join(parts)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def key_in(name: str | None) -> Secret | None:
    """The key in an environment variable; None where no variable is named.

    Raises:
        UserError: there is none, or it holds characters that no key has.
    """
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
