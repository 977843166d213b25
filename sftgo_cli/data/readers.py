"""Reading one data file into rows: jsonl, json, csv, parquet, txt, each also gzipped.

Every reader is lazy and yields `(position, values)`: `position` is the line for line-based files, else `row N`, so that
`file:position` is where an error points. Text is UTF-8; a byte order mark and CRLF line ends are accepted, anything
else that is broken (bad JSON, invalid UTF-8, a truncated gzip) is a UserError with file and line. A `.txt` file gives
one row with the column `text` per paragraph (blocks of lines between blank lines).

A row that is broken by itself (one line of JSON, one CSV line with too many cells) is yielded as its UserError in the
values' place, so that whoever reads may go on with the next; what breaks the rest of the file is raised.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sftgo_cli.data.json_text import parse_json
from sftgo_cli.errors import EnvironmentProblem, UserError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_CSV_FIELD = 1 << 30  # bytes; the csv module's own limit of 128 KiB is shorter than a long answer
MAX_LINE = 1 << 28  # bytes; a small gzip file may unpack to a line that no memory holds
MAX_JSON = 1 << 32  # bytes of a `.json` file, which is read whole
Positioned = tuple[str, dict[str, Any] | UserError]


def data_suffix(path: Path) -> str | None:
    """The suffix that decides how `path` is read (`.jsonl` for `rows.jsonl.gz`), or None when it is not readable."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


def data_stem(path: Path) -> str:
    """The file's name without its data suffix and `.gz`."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    suffix = data_suffix(path)
    return name[: -len(suffix)] if suffix else name


def read_file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of one file as `(position, values)`. Raises as `read_each`, and for the first row that is broken."""
    for position, values in read_each(path):
        if isinstance(values, UserError):
            raise values
        yield position, values


def read_each(path: Path) -> Iterator[Positioned]:
    """Rows of one file as `(position, values)`, or `(position, error)` for a row that is broken by itself.

    Raises:
        UserError: the suffix is not known, or the content is broken; names file and line.
        EnvironmentProblem: the file cannot be read.
    """
    suffix = data_suffix(path)
    if suffix in (".jsonl", ".ndjson"):
        return _read_jsonl(path)
    if suffix == ".json":
        return _read_json(path)
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, "\t" if suffix == ".tsv" else ",")
    if suffix == ".txt":
        return _read_paragraphs(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    raise UserError(f"cannot read {path.name}", str(path), f"use one of {', '.join(SUFFIXES)}, or these with .gz")


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded, without line end; only `\\n` and `\\r\\n` end a line."""
    for number, raw in _raw_lines(path):
        yield number, _decode(raw, path, number)


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines with their ends, without a byte order mark."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
            while raw := file.readline(MAX_LINE + 1):
                number += 1
                if len(raw) > MAX_LINE:
                    fix = "split the row"
                    raise UserError(f"the line is longer than {MAX_LINE >> 20} MiB", f"{path}:{number}", fix)
                if number == 1 and raw.startswith(BYTE_ORDER_MARK):
                    raw = raw[len(BYTE_ORDER_MARK) :]
                yield number, raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"broken or truncated gzip: {error}", f"{path}:{number + 1}", "compress or download it again"
        ) from error
    except OSError as error:
        raise EnvironmentProblem(f"cannot read the file: {error.strerror}", str(path), "check the file") from error


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"invalid UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}",
            f"{path}:{number}",
            "save the file as UTF-8",
        ) from error


def _read_jsonl(path: Path) -> Iterator[Positioned]:
    for number, raw in _raw_lines(path):
        if raw.strip():
            yield str(number), _line_row(raw, path, number)


def _line_row(raw: bytes, path: Path, number: int) -> dict[str, Any] | UserError:
    try:
        return _as_object(_parse_json(_decode(raw, path, number), path, number), f"{path}:{number}")
    except UserError as error:
        return error


def _parse_json(text: str, path: Path, first_line: int) -> Any:
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise UserError(
            f"not valid JSON: {error.msg} at column {error.colno}", f"{path}:{line}", "correct or remove the line"
        ) from error
    except (RecursionError, ValueError) as error:  # nested too deeply; too many digits; a key that stands twice
        raise UserError(f"not usable JSON: {error}", f"{path}:{first_line}", "correct or remove the line") from error


def _as_object(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise UserError(
        f"a row must be a JSON object, found {type(value).__name__}", where, "write rows as {column: value}"
    )


def _read_json(path: Path) -> Iterator[Positioned]:
    """A JSON array of rows, an object that holds one, or rows line by line under the name `.json`."""
    lines, size = [], 0
    for number, line in _read_lines(path):
        lines.append((number, line))
        size += len(line)
        if size > MAX_JSON:
            raise UserError(f"the file is longer than {MAX_JSON >> 30} GiB", str(path), "write it as .jsonl")
    text = "\n".join(line for _, line in lines)
    first = next((line for _, line in lines if line.strip()), "")
    if first.lstrip().startswith("{") and _is_json_object(first):
        _refuse_splits(parse_json(first), path)
        rest_is_blank = sum(1 for _, line in lines if line.strip()) == 1
        if not rest_is_blank or not _holds_list(parse_json(first)):
            yield from ((str(number), _line_row(line.encode(), path, number)) for number, line in lines if line.strip())
            return
    rows = _rows_of(_parse_json(text, path, 1), path)
    for index, row in enumerate(rows, start=1):
        try:
            yield f"row {index}", _as_object(row, f"{path}:row {index}")
        except UserError as error:
            yield f"row {index}", error


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except (ValueError, RecursionError):
        return False


def _holds_list(value: dict[str, Any]) -> bool:
    """Whether the object is a wrapper such as `{"data": [...]}` and not a row itself."""
    return len(_object_lists(value)) == 1 and (len(value) == 1 or "data" in value)


def _object_lists(value: dict[str, Any]) -> list[list[Any]]:
    return [v for v in value.values() if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)]


def _refuse_splits(value: dict[str, Any], path: Path) -> None:
    """Raises UserError for an object of nothing but lists of rows, such as `{"train": [...], "test": [...]}`."""
    if len(value) > 1 and len(_object_lists(value)) == len(value) and not {"messages", "conversations"} & value.keys():
        what = f"the file holds several lists of rows: {', '.join(value)}"
        raise UserError(what, str(path), "write each into a file of its own")


def _rows_of(value: Any, path: Path) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        _refuse_splits(value, path)
        if isinstance(value.get("data"), list):
            return list(value["data"])
        lists = _object_lists(value)
        if len(lists) == 1:
            return lists[0]
    raise UserError("found no list of rows", str(path), "write a JSON array of objects, or an object with one list")


def _read_csv(path: Path, delimiter: str) -> Iterator[Positioned]:
    previous_limit = csv.field_size_limit(MAX_CSV_FIELD)
    try:
        reader = csv.DictReader((line + "\n" for _, line in _read_lines(path)), delimiter=delimiter, strict=True)
        _refuse_twice(reader.fieldnames or (), path)
        line = 2
        for row in reader:
            if None in row:
                what = f"more cells than the header's {len(reader.fieldnames or [])}"
                yield str(line), UserError(what, f"{path}:{line}", "quote the cell")
            else:
                yield str(line), {name: _csv_value(name, cell) for name, cell in row.items()}
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"not valid CSV: {error}", f"{path}:{reader.line_num + 1}", "correct the quoting") from error
    finally:
        csv.field_size_limit(previous_limit)


def _refuse_twice(names: Sequence[str], path: Path) -> None:
    """Raises UserError where two columns have one name: only the last would be seen."""
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise UserError(f"the column {twice!r} stands twice in the header", f"{path}:1", "rename or remove one")


def _csv_value(name: str, cell: str | None) -> Any:
    """A cell as text; the one numeric column of a row, `loss_weight`, as a number where it is one."""
    if name != "loss_weight" or cell is None:
        return cell
    if not cell.strip():
        return None
    try:
        return float(cell)
    except ValueError:
        return cell


def _read_paragraphs(path: Path) -> Iterator[Positioned]:
    block: list[str] = []
    start = 1
    for number, line in _read_lines(path):
        if line.strip():
            start = start if block else number
            block.append(line)
        elif block:
            yield str(start), {"text": "\n".join(block)}
            block = []
    if block:
        yield str(start), {"text": "\n".join(block)}


def _read_parquet(path: Path) -> Iterator[Positioned]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sftgo_cli.data.table_nulls import columns_with_objects, without_table_nulls

    number = 0
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as raw:
            # Parquet needs random access, which a gzip stream lacks: it is read whole.
            file = pq.ParquetFile(pa.BufferReader(raw.read()) if path.name.lower().endswith(".gz") else raw)
            _refuse_twice(file.schema_arrow.names, path)
            objects = columns_with_objects(file.schema_arrow)
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    number += 1
                    yield f"row {number}", row | {name: without_table_nulls(row[name]) for name in objects}
    except (ValueError, KeyError, EOFError, gzip.BadGzipFile, zlib.error) as error:  # ArrowInvalid; a key twice
        first = str(error).splitlines()[0]
        raise UserError(f"broken parquet file: {first}", f"{path}:row {number + 1}", "write it again") from error
    except OSError as error:
        raise EnvironmentProblem(f"cannot read the file: {error}", str(path), "check the file") from error
