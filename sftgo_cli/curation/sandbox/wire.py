"""Messages between two processes over pipes: a length of four bytes, then JSON. Runs inside the sandboxes."""

from __future__ import annotations

import os

MOST_BYTES = 16 * 2**20  # of one message; a larger one ends the program
READY = b"!"  # the first byte of a process that has started; nothing of the program has run by then


class WireError(Exception):
    """The other side has gone, or sent what is no message."""


def send(fd: int, text: str) -> None:
    """Write one message. Raises WireError where it is too long or nobody reads it."""
    data = text.encode("ascii")
    if len(data) > MOST_BYTES:
        raise WireError(f"more than {MOST_BYTES >> 20} MB in one message")
    view = memoryview(len(data).to_bytes(4, "big") + data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        raise WireError("the program ended") from None


def receive(fd: int) -> str:
    """Read one message. Raises WireError."""
    size = int.from_bytes(_exactly(fd, 4), "big")
    if size > MOST_BYTES:
        raise WireError(f"a message of {size} bytes")
    try:
        return _exactly(fd, size).decode("ascii")
    except UnicodeDecodeError:
        raise WireError("a message that is no text") from None


def _exactly(fd: int, size: int) -> bytes:
    parts = []
    while size:
        try:
            part = os.read(fd, min(size, 65536))
        except OSError:
            part = b""
        if not part:
            raise WireError("the program ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
