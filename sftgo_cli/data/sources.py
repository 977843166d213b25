"""Where rows come from: local files, folders, URLs, Hub data sets and the package's own `builtin:` data.

`resolve_source` finds out what a recipe's `path` means without reading it, `source_fingerprint` says what its content
is (for the cache key; never a path), `read_rows` reads it lazily. Relative paths are relative to the recipe's folder. A
folder gives all its readable files in the order of their names, or only those of the split where files are named after
splits (`train.jsonl`, `test-00000-of-00002.parquet`); a folder written by `datasets.save_to_disk` is opened as such.
A single file is the split `train`, or the one that it is named after. Of each, `split` may take a slice
(`train[:10%]`). A URL's file is copied first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sftgo_cli.data.readers import SUFFIXES, data_stem, data_suffix, read_each
from sftgo_cli.data.remote_files import is_url, local_copy
from sftgo_cli.data.split_slices import RowSlice, split_name
from sftgo_cli.errors import UserError, nearest
from sftgo_cli.recipe.data_section import EvalSource, SourceSection

if TYPE_CHECKING:
    from datasets import Dataset

BUILTIN_PREFIX = "builtin:"
SPLIT_NAMES = ("train", "test", "validation", "valid", "val", "dev", "eval", "heldout")
NOT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
MAX_ROWS = 1 << 62
READ_BATCH = 1000  # rows taken from an Arrow data set at a time


@dataclass(frozen=True)
class ResolvedSource:
    """A data source that was found. `label` is its name in the `source` column and in messages."""

    label: str
    kind: Literal["files", "saved", "hub", "builtin"]
    path: str  # folder or file as found, Hub id, or builtin name
    split: str  # its name alone, but for a Hub data set
    files: tuple[Path, ...] = ()
    name: str | None = None
    revision: str | None = None
    rows: RowSlice | None = None


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the source. `where` is for messages (`train.jsonl:12`), `row_id` is stable and unique.
    `fault` is why the row could not be read; it then has no values."""

    where: str
    row_id: str
    values: dict[str, Any]
    fault: UserError | None = None


def resolve_source(source: SourceSection | EvalSource, recipe_dir: Path, label: str) -> ResolvedSource:
    """What `source.path` refers to; nothing is read, and nothing downloaded but the file of a URL.

    Raises:
        UserError: a local path does not exist or holds nothing readable, or the split is not there.
        EnvironmentProblem: a URL's file cannot be fetched.
    """
    if source.path is None:
        raise UserError("an evaluation set by fraction has no path of its own", label, "give path, or hold rows out")
    if is_url(source.path) and not source.path.startswith("file://"):
        path = local_copy(source.path, label)
    else:
        path = recipe_dir / Path(source.path.removeprefix("file://")).expanduser()
    if source.path.startswith(BUILTIN_PREFIX) or path.exists():
        name, rows = split_name(source.split, f"{label}.split")
        if source.path.startswith(BUILTIN_PREFIX):
            found = ResolvedSource(label, "builtin", source.path[len(BUILTIN_PREFIX) :], name)
        else:
            found = _resolve_folder(path, name, label) if path.is_dir() else _resolve_file(path, name, label)
        return replace(found, rows=rows)
    if _looks_local(source.path, recipe_dir):
        raise UserError(f"there is no {source.path}", f"{label}: {path}", _path_hint(path))
    return ResolvedSource(label, "hub", source.path, source.split, name=source.name, revision=source.revision)


def _resolve_file(path: Path, split: str, label: str) -> ResolvedSource:
    where = f"{label}: {path}"
    if data_suffix(path) is None:
        raise UserError(f"cannot read a file named {path.name}", where, f"use one of {', '.join(SUFFIXES)} (or .gz)")
    if not path.is_file():
        raise UserError("a pipe or device, not a file", where, "write its rows into a file first")
    own = _split_of(path)
    if split.lower() not in ("train", own):
        names = f"train or {own}" if own in SPLIT_NAMES and own != "train" else "train"
        raise UserError(f"a single file has no split {split!r}", where, f"remove split; the file is {names}")
    return ResolvedSource(label, "files", str(path), split, files=(path,))


def _looks_local(path: str, recipe_dir: Path) -> bool:
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or data_suffix(Path(path)) is not None:
        return True
    return "/" in path and (recipe_dir / path).parent.is_dir()


def _path_hint(path: Path) -> str:
    folder = next(parent for parent in path.parents if parent.is_dir())
    names = sorted(child.name for child in folder.iterdir())
    close = nearest(path.name if folder == path.parent else path.relative_to(folder).parts[0], names)
    return f"did you mean {folder / close}?" if close else f"check the path; {folder} exists"


def _resolve_folder(folder: Path, split: str, label: str) -> ResolvedSource:
    where = f"{label}: {folder}"
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in folder.iterdir() if (child / "state.json").is_file())
        if split not in splits:
            raise _no_split(split, splits, where)
        return ResolvedSource(label, "saved", str(folder / split), split)
    if (folder / "state.json").is_file():
        own = _saved_split(folder / "state.json")
        if split not in ("train", own):
            raise _no_split(split, [own] if own else [], where)
        return ResolvedSource(label, "saved", str(folder), split)
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and data_suffix(file) and file.name not in NOT_DATA and not _hidden(file, folder)
    )
    if not files:
        raise UserError("the folder holds no readable data file", where, f"put {', '.join(SUFFIXES)} (or .gz) there")
    chosen = [file for file in files if _split_of(file) == split.lower()]
    found = sorted({_split_of(file) for file in files} & set(SPLIT_NAMES))
    if not chosen and (found or split != "train"):
        raise _no_split(split, found, where)
    return ResolvedSource(label, "files", str(folder), split, files=tuple(chosen or files))


def _saved_split(state: Path) -> str | None:
    """The split that a saved data set was taken from, where it says so."""
    try:
        own = json.loads(state.read_text(encoding="utf-8")).get("_split")
    except (OSError, ValueError, AttributeError):
        return None  # damaged: opening it says so
    return own if isinstance(own, str) else None


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _split_of(file: Path) -> str:
    return re.split(r"[-_.]", data_stem(file).lower(), maxsplit=1)[0]


def _no_split(split: str, found: list[str], where: str) -> UserError:
    close = nearest(split, found)
    fix = f"did you mean {close}?" if close else f"splits there: {', '.join(found) or 'none'}"
    return UserError(f"there is no split {split!r}", where, fix)


def source_fingerprint(resolved: ResolvedSource) -> dict[str, Any]:
    """The content of the source as ingredients of a cache key: sha256 per file, or the Hub's commit; never a path.

    Raises:
        UserError: the Hub data set cannot be reached or found.
    """
    sliced = {} if resolved.rows is None else {"rows": [resolved.rows.start, resolved.rows.stop]}
    return _content(resolved) | sliced


def _content(resolved: ResolvedSource) -> dict[str, Any]:
    if resolved.kind == "files":
        from sftgo_cli.cache import file_sha256

        return {"files": [{"kind": data_suffix(file), "sha256": file_sha256(file)} for file in resolved.files]}
    if resolved.kind == "builtin":
        from sftgo_cli.builtin import data_fingerprint

        return {
            "builtin": resolved.path,
            "split": resolved.split,
            "content": data_fingerprint(resolved.path, resolved.split),
        }
    if resolved.kind == "saved":
        from sftgo_cli.cache import file_sha256

        shards = sorted(Path(resolved.path).glob("*.arrow"))
        return {"files": [{"kind": ".arrow", "sha256": file_sha256(shard)} for shard in shards]}
    return {"hub": resolved.path, "name": resolved.name, "split": resolved.split, "revision": _hub_revision(resolved)}


def _hub_revision(resolved: ResolvedSource) -> str:
    """The commit of the Hub data set; offline, the fingerprint of the copy that `datasets` has cached."""
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(resolved.path, revision=resolved.revision).sha
    except Exception:  # offline or refused: no common base; loading then says what is wrong
        commit = None
    return commit or f"fingerprint {_load_hub(resolved)._fingerprint}"


def _load_hub(resolved: ResolvedSource) -> Dataset:
    import datasets

    try:
        loaded = datasets.load_dataset(resolved.path, resolved.name, split=resolved.split, revision=resolved.revision)
    except (
        Exception
    ) as error:  # the loader raises its own, the network's and the builder's errors without a common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{resolved.path!r} is neither a local path nor a data set that the Hub could give ({reason})",
            resolved.label,
            "check the path, name, split and revision, and the network",
        ) from error
    return loaded


def read_rows(resolved: ResolvedSource) -> Iterator[RawRow]:
    """The source's rows, lazily. Raises as `read_each_row`, and for the first row that is broken."""
    for row in read_each_row(resolved):
        if row.fault is not None:
            raise row.fault
        yield row


def read_each_row(resolved: ResolvedSource) -> Iterator[RawRow]:
    """The source's rows, lazily. A row keeps its own `id` where that is text or an integer and unique so far, else it
    is `row:<index>`, or `file<number>:<index>` where there are several files; both count from 0. Never a file's name:
    ids are cached, and a cache key holds content, not names.

    Raises:
        UserError: a file is broken (names file and line) or the Hub has no such data set. A row that is broken by
            itself is none: it is yielded with its fault.
    """
    seen: set[int] = set()
    for where, stem, index, values in _sliced(resolved):
        if isinstance(values, UserError):
            yield RawRow(where, f"{stem}:{index}", {}, values)
            continue
        own = values.get("id")
        row_id = f"{stem}:{index}"
        is_id = (isinstance(own, str) and own) or (isinstance(own, int) and not isinstance(own, bool))
        if is_id and hash(str(own)) not in seen:
            row_id = str(own)
        while hash(row_id) in seen:  # an id of the rows' own that reads like one of ours
            row_id += "+"
        seen.add(hash(row_id))
        yield RawRow(where, row_id, values)


Placed = tuple[str, str, int, dict[str, Any] | UserError]


def _sliced(resolved: ResolvedSource) -> Iterator[Placed]:
    """The rows of the source's slice; to know a percent or a row from the end, they are counted first."""
    if resolved.rows is None:
        return _positioned(resolved)
    total = sum(1 for _ in _positioned(resolved)) if resolved.rows.needs_total else MAX_ROWS
    chosen = resolved.rows.range(total)
    return islice(_positioned(resolved), chosen.start, chosen.stop)


def _positioned(resolved: ResolvedSource) -> Iterator[Placed]:
    """`(where, stem, index, values or fault)` of every row."""
    if resolved.kind == "files":
        for number, file in enumerate(resolved.files):
            stem = "row" if len(resolved.files) == 1 else f"file{number}"
            for index, (position, values) in enumerate(read_each(file)):
                yield f"{file}:{position}", stem, index, values
        return
    if resolved.kind == "builtin":
        from sftgo_cli.builtin import data_rows

        for index, values in enumerate(data_rows(resolved.path, resolved.split)):
            yield f"{BUILTIN_PREFIX}{resolved.path}:row {index + 1}", "row", index, values
        return
    dataset = _load_saved(resolved) if resolved.kind == "saved" else _load_hub(resolved)
    for index, values in enumerate(_iterate(dataset)):
        yield f"{resolved.path}:row {index + 1}", "row", index, values


def _load_saved(resolved: ResolvedSource) -> Dataset:
    import datasets

    try:
        return datasets.Dataset.load_from_disk(resolved.path)
    except Exception as error:  # as in _load_hub: no common base
        raise UserError(
            f"cannot open the saved data set: {error}", f"{resolved.label}: {resolved.path}", "save it again"
        ) from error


def _iterate(dataset: Dataset) -> Iterator[dict[str, Any]]:
    from sftgo_cli.data.table_nulls import columns_with_objects, without_table_nulls

    objects = columns_with_objects(dataset.features.arrow_schema)
    for batch in dataset.iter(batch_size=READ_BATCH):
        names = list(batch)
        for cells in zip(*batch.values(), strict=True):
            row = dict(zip(names, cells, strict=True))
            yield row | {name: without_table_nulls(row[name]) for name in objects}
