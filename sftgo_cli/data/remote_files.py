"""Data files named by URL (`https://`, `s3://`, `hf://`, ...), copied once: from the web directly, else through fsspec.

A copy lies in `$SFTGO_CACHE/downloads`, under the URL and what the server says about the file (size, ETag, date), so a
file that changed is fetched again. Without a network the newest copy is used. A URL is never printed with the name,
password or query that it may carry.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from sftgo_cli.cache import cache_root
from sftgo_cli.data.readers import SUFFIXES, data_suffix
from sftgo_cli.errors import EnvironmentProblem, UserError

URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
ABOUT = ("size", "ETag", "etag", "Last-Modified", "last_modified", "LastModified", "mtime", "updated", "lastModified")
TIMEOUT = 60.0  # seconds without a byte
ONE_FILE = "name one data file, or download the folder"


def is_url(path: str) -> bool:
    """Whether a recipe's path is a URL."""
    return bool(URL.match(path))


def shown(url: str) -> str:
    """A path for messages: of a URL no user, password, query or fragment."""
    if not is_url(url):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def local_copy(url: str, label: str) -> Path:
    """The file that a URL names, on this machine.

    Raises:
        UserError: there is no such file, or it is none that can be read.
        EnvironmentProblem: the protocol needs a package, or the file cannot be fetched.
    """
    where = f"{label}: {shown(url)}"
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2] or "data"
    if data_suffix(Path(name)) is None:
        raise UserError(f"a URL must name a file that ends in {', '.join(SUFFIXES)} (or .gz)", where, ONE_FILE)
    if "*" in url:
        raise UserError("a URL with * names several files", where, ONE_FILE)
    filesystem, path = _opened(url, where)
    copies = cache_root() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:32]
    try:
        about = filesystem.info(path)
    except FileNotFoundError as error:
        raise UserError("there is no such file", where, "check the URL") from error
    except Exception as error:  # each protocol raises its own
        return _newest(copies, name, where, error)
    if about.get("type") == "directory":
        raise UserError("the URL names a folder", where, ONE_FILE)
    said = json.dumps({key: str(about[key]) for key in ABOUT if about.get(key) is not None}, sort_keys=True)
    target = copies / hashlib.sha256(said.encode()).hexdigest()[:16] / name
    if not target.exists():
        _fetch(filesystem, path, target, where)
    return target


class _Web:
    """What is used of a file system, for `http://` and `https://`."""

    def info(self, url: str) -> dict[str, Any]:
        """The headers that say which version of the file it is. Raises FileNotFoundError."""
        with self.open(url, "rb") as answer:
            names = {"ETag": "ETag", "Last-Modified": "Last-Modified", "Content-Length": "size"}
            return {ours: answer.headers[name] for name, ours in names.items() if name in answer.headers}

    def open(self, url: str, mode: str) -> Any:
        """The file's bytes. Raises FileNotFoundError."""
        try:
            return urlopen(url, timeout=TIMEOUT)
        except HTTPError as error:
            if error.code in (404, 410):
                raise FileNotFoundError(url) from error
            raise


def _opened(url: str, where: str) -> tuple[Any, str]:
    import fsspec

    protocol = urlsplit(url).scheme.lower()
    if protocol in ("http", "https"):
        return _Web(), url
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
        fix = f"pip install {package.get(protocol, f'fsspec[{protocol}]')}"
        raise EnvironmentProblem(f"{protocol}:// needs a package that is not installed", where, fix) from error
    except ValueError as error:
        known = "https, s3, gs, hf, ..."
        raise UserError(f"{protocol}:// is no protocol that can be read", where, f"known: {known}") from error
    except Exception as error:  # a protocol's own checks, of credentials say
        raise EnvironmentProblem(f"cannot open it: {_first_line(error)}", where, "check access and network") from error
    return filesystem, str(path)


def _fetch(filesystem: Any, path: str, target: Path, where: str) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filesystem.open(path, "rb") as source, partial.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        partial.replace(target)
    except FileNotFoundError as error:
        raise UserError("there is no such file", where, "check the URL") from error
    except Exception as error:  # the protocol's own errors, and a full disk
        raise EnvironmentProblem(f"cannot fetch it: {_first_line(error)}", where, "check network and disk") from error
    finally:
        partial.unlink(missing_ok=True)


def _newest(copies: Path, name: str, where: str, error: Exception) -> Path:
    """The newest copy of earlier; without one the error is the environment's."""
    found = sorted(copies.glob(f"*/{name}"), key=lambda file: file.stat().st_mtime)
    if found:
        return found[-1]
    raise EnvironmentProblem(f"cannot read it: {_first_line(error)}", where, "check access and network") from error


def _first_line(error: Exception) -> str:
    """What the error says, without URLs, which may carry a password."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"\S+://\S+", "...", text)
