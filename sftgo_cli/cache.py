"""Content-keyed stage cache: same ingredients hit, any changed ingredient misses.

A stage's key is the sha256 over its name, version and ingredients (options, the parents' keys, the content of what it
reads). It lives in `$SFTGO_CACHE/<stage>/<key>/`, by default under `~/.cache/sftgo`; `manifest.json`, written last, holds
the ingredients as readable JSON beside the sha256 of every file. Paths, log levels and worker counts never enter a key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftgo_cli import durable
from sftgo_cli.errors import UserError

# The recipe that results are made for, for `sftgo cache ls`; it never enters a key.
made_for: ContextVar[str] = ContextVar("made_for", default="")
KEY_LENGTH = 32  # hex digits of the sha256 used as folder name: 128 bits


@dataclass(frozen=True)
class CachedStage:
    """Where a stage's result lies, and whether it was there already."""

    path: Path
    key: str
    hit: bool


def cache_root() -> Path:
    """`$SFTGO_CACHE`, else `~/.cache/sftgo`."""
    configured = os.environ.get("SFTGO_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "sftgo"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def stage_key(name: str, version: int, ingredients: dict[str, Any]) -> str:
    """The folder name of a stage's result."""
    text = canonical_json({"stage": name, "version": version, "ingredients": ingredients})
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, remembered by path, size, mtime and inode so that large files are read once."""
    status = path.stat()
    resolved = str(path.resolve())
    identity = [resolved, status.st_size, status.st_mtime_ns, status.st_ino]
    memory = cache_root() / "hashes" / (hashlib.sha256(resolved.encode()).hexdigest()[:KEY_LENGTH] + ".json")
    try:
        remembered = json.loads(memory.read_text(encoding="utf-8"))
        if remembered["identity"] == identity:
            return str(remembered["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = durable.sha256_of(path)
    with contextlib.suppress(OSError):  # not remembered (a full disk, say), and not fsynced: it costs only a read
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial = memory.with_name(f"{memory.name}.{os.getpid()}")
        partial.write_text(json.dumps({"identity": identity, "sha256": digest}), encoding="utf-8")
        partial.replace(memory)
    return digest


def is_cached(name: str, version: int, ingredients: dict[str, Any]) -> bool:
    """Whether the stage's result is there and whole, so that `cached` would build nothing."""
    target = cache_root() / name / stage_key(name, version, ingredients)
    return target.exists() and not _faults(target)


def cached(
    name: str,
    version: int,
    ingredients: dict[str, Any],
    build: Callable[[Path], None],
    say: Callable[[str], None] = lambda line: None,
) -> CachedStage:
    """Return the stage's folder, building it under a lock when it is missing or damaged.

    `build` gets an empty folder to fill. Several processes may ask for the same key: one builds, the others wait for the
    kernel lock and read the same bytes; a dead holder never blocks. A damaged result is rebuilt, said through `say`.

    Raises:
        EnvironmentProblem: the cache cannot be written. Whatever `build` raises; it leaves nothing behind.
    """
    from filelock import FileLock

    key = stage_key(name, version, ingredients)
    folder = cache_root() / name
    target = folder / key
    with durable.storage_faults(target):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(folder / f"{key}.lock"))
        lock.acquire()
    try:
        if target.exists():
            faults = _faults(target)
            if not faults:
                return CachedStage(target, key, hit=True)
            say(f"cache: {name} {key[:8]} is damaged ({faults[0]}), rebuilding it")
        partial = folder / f"{durable.PARTIAL_PREFIX}{key}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with durable.storage_faults(target):
                partial.mkdir()
                build(partial)
                described = {"stage": name, "version": version, "ingredients": ingredients, "recipe": made_for.get()}
                durable.publish_folder(partial, target, described)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        lock.release()
    return CachedStage(target, key, hit=False)


def _faults(target: Path) -> list[str]:
    """Like `durable.manifest_faults`, with remembered hashes: a hit must not read gigabytes."""
    try:
        entries = json.loads((target / durable.MANIFEST).read_text(encoding="utf-8"))["files"]
        return [name for name, entry in entries.items() if file_sha256(target / name) != entry["sha256"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{type(error).__name__}: {error}"]


@dataclass(frozen=True)
class CacheEntry:
    """One cached result, for `sftgo cache ls`; `built` in seconds since 1970, `recipe` a path."""

    stage: str
    key: str
    num_bytes: int
    path: Path
    built: float
    recipe: str


def entries() -> Iterator[CacheEntry]:
    """Every published result of the cache, by stage and key."""
    root = cache_root()
    for manifest in sorted(root.glob(f"*/*/{durable.MANIFEST}")):
        folder = manifest.parent
        if not folder.name.startswith("."):
            size = sum(path.stat().st_size for path in durable.files_below(folder))
            built = manifest.stat().st_mtime
            yield CacheEntry(folder.parent.name, folder.name, size, folder, built, _recipe_of(manifest))


def _recipe_of(manifest: Path) -> str:
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8")).get("recipe", ""))
    except (OSError, ValueError, AttributeError):  # damaged: rebuilt when it is asked for
        return ""


def explain(path: Path) -> dict[str, Any]:
    """What a result's key is made of: stage, version and ingredients."""
    manifest = json.loads((path / durable.MANIFEST).read_text(encoding="utf-8"))
    return {name: manifest[name] for name in ("stage", "version", "ingredients")}


def find(prefix: str) -> CacheEntry:
    """The cached result whose key begins with `prefix`.

    Raises:
        UserError: none does, or several do.
    """
    found = [entry for entry in entries() if entry.key.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    what = "no cached result has this key" if not found else f"{len(found)} cached results have keys like this"
    raise UserError(what, prefix, "see sftgo cache ls")
