"""Writing to disk so that a crash at any instant leaves either the old state or the new one, never half of one.

The rule for anything durable: write beside the target, fsync every file, write the manifest last, rename, fsync the
parent, only then delete what was replaced.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sftgo_cli.errors import EnvironmentProblem

MANIFEST = "manifest.json"
PARTIAL_PREFIX = ".partial-"
REPLACED_PREFIX = ".replaced-"
STORAGE_ERRORS = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM])
RUST_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # safetensors and tokenizers raise no OSError


@contextmanager
def storage_faults(target: Path, num_bytes: int | None = None) -> Iterator[None]:
    """Around code that writes `target` (about `num_bytes`): a full or failing disk becomes exit 3 naming both.

    Raises:
        EnvironmentProblem: the disk is full, read-only or failing, or a size limit was met.
    """
    try:
        yield
    except Exception as error:
        number = _storage_error(error)
        if number is None:
            raise
        where = getattr(error, "filename", None) or target
        needed = "" if num_bytes is None else f"{target.name} needs about {num_bytes:,} bytes; "
        raise EnvironmentProblem(
            f"storage failed: {os.strerror(number)}",
            str(where),
            f"{needed}make room or mend it, then run the same command again",
        ) from error


def _storage_error(error: Exception) -> int | None:
    """The number of a storage error, also where a Rust library only says it in its message; None for anything else."""
    if isinstance(error, OSError):
        number = error.errno
    else:
        match = RUST_OS_ERROR.search(str(error))
        number = int(match.group(1)) if match else None
    return number if number in STORAGE_ERRORS else None


def fsync_path(path: Path) -> None:
    """Flush one file or directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically and durably; a failure leaves nothing beside it."""
    partial = path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{path.name}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (Exception, KeyboardInterrupt):
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` atomically and durably."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by readable JSON atomically and durably."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Every regular file below `folder`, sorted by its relative path."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    """`{relative path: {bytes, sha256}}` of every file below `folder`, the manifest itself left out."""
    entries = {}
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST:
            entries[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return entries


def manifest_faults(folder: Path) -> list[str]:
    """What is wrong with a published folder: missing, shorter or altered files; empty when it is whole."""
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{MANIFEST} is missing or unreadable"]
    faults = []
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != entry["bytes"]:
            faults.append(f"{name} has {path.stat().st_size} bytes, expected {entry['bytes']}")
        elif sha256_of(path) != entry["sha256"]:
            faults.append(f"{name} was altered")
    return faults


def publish_folder(partial: Path, target: Path, manifest_extra: dict[str, Any] | None = None) -> None:
    """Make a finished `partial` folder visible as `target`: fsync, manifest last, rename, fsync the parent."""
    for path in files_below(partial):
        fsync_path(path)
    write_json(partial / MANIFEST, {"files": manifest_of(partial), **(manifest_extra or {})})
    for folder in sorted({path.parent for path in files_below(partial)}):
        fsync_path(folder)
    replaced = target.with_name(REPLACED_PREFIX + target.name)
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
    partial.rename(target)
    fsync_path(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def sweep_partial(folder: Path) -> list[str]:
    """Remove what a killed process left half-written in `folder`; returns the names. Foreign files stay."""
    swept = []
    for path in sorted(folder.glob(".*")) if folder.is_dir() else []:
        if path.name.startswith(REPLACED_PREFIX):
            original = folder / path.name.removeprefix(REPLACED_PREFIX)
            if not original.exists():  # killed between the two renames: the old state is the valid one
                path.rename(original)
                continue
        elif not path.name.startswith(PARTIAL_PREFIX):
            continue
        swept.append(path.name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return swept
