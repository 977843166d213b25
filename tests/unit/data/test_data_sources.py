"""Finding sources, reading every file type, and what broken files say."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sftgo_cli.data.sources import RawRow, ResolvedSource, read_rows, resolve_source, source_fingerprint
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.data_section import EvalSource, SourceSection

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d\ne"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def resolve(path: Path | str, folder: Path, **options: Any) -> ResolvedSource:
    return resolve_source(SourceSection(path=str(path), **options), folder, "train")


def rows_of(path: Path, **options: Any) -> list[RawRow]:
    return list(read_rows(resolve(path, path.parent, **options)))


def values_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row.values for row in rows_of(path, **options)]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.jsonl", LINES),
        ("r.ndjson", LINES),
        ("r.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n") + b"\r\n\r\n"),
        ("r.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("r.json", json.dumps(ROWS).encode()),
        ("r.json", json.dumps({"version": 1, "data": ROWS}, indent=1).encode()),
        ("r.json", json.dumps({"data": ROWS}).encode()),
        ("r.json", LINES),
        ("r.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("r.csv", b'prompt,completion\r\na,b\r\nc,"d\ne"\r\n'),
        ("r.tsv", b'\xef\xbb\xbfprompt\tcompletion\na\tb\nc\t"d\ne"\n'),
        ("r.csv.gz", gzip.compress(b'prompt,completion\na,b\nc,"d\ne"\n', mtime=0)),
    ],
)
def test_every_text_format_gives_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert values_of(tmp_path / name) == ROWS


def test_parquet_plain_and_gzipped(tmp_path: Path) -> None:
    write_parquet(tmp_path / "r.parquet", ROWS)
    (tmp_path / "z.parquet.gz").write_bytes(gzip.compress((tmp_path / "r.parquet").read_bytes()))
    assert values_of(tmp_path / "r.parquet") == ROWS
    assert values_of(tmp_path / "z.parquet.gz") == ROWS
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"broken parquet.*bad\.parquet:row 1"):
        rows_of(tmp_path / "bad.parquet")


def test_text_file_gives_one_row_per_paragraph(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n\nfirst\nstill first\n \n\nsecond\n")
    rows = rows_of(tmp_path / "t.txt")
    assert [row.values for row in rows] == [{"text": "first\nstill first"}, {"text": "second"}]
    assert [row.where.rsplit(":", 1)[1] for row in rows] == ["3", "7"]


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"text": "a\u2028b\u0085c"}\n', encoding="utf-8")
    assert values_of(tmp_path / "r.jsonl") == [{"text": "a\u2028b\u0085c"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", LINES + b'{"prompt": }\n', r"not valid JSON.*r\.jsonl:3"),
        ("r.jsonl", LINES + b"[1]\n", r"a row must be a JSON object, found list.*r\.jsonl:3"),
        ("r.jsonl", LINES + b'{"prompt": "\xff"}\n', r"invalid UTF-8: byte 0xff at position 13.*r\.jsonl:3"),
        ("r.jsonl", "{}".encode("utf-16"), r"invalid UTF-8.*r\.jsonl:1"),
        ("r.jsonl", b"[" * 100000 + b"\n", r"not usable JSON.*r\.jsonl:1"),
        ("r.jsonl.gz", gzip.compress(LINES, mtime=0)[:-10], r"truncated gzip.*r\.jsonl\.gz:\d"),
        ("r.jsonl.gz", LINES, r"truncated gzip.*r\.jsonl\.gz:1"),
        ("r.json", b'[{"a": 1},\n {"a": }]', r"not valid JSON.*r\.json:2"),
        ("r.json", b'{"a": 1, \n"b": 2}', r"no list of rows.*r\.json"),
        ("r.json", b"[1]", r"a row must be a JSON object, found int.*row 1"),
        ("r.csv", b"a,b\n1,2\n1,2,3\n", r"more cells than the header's 2.*r\.csv:3"),
        ("r.csv", b'a,b\n1,2\n"1,2\n', r"not valid CSV.*r\.csv:"),
    ],
)
def test_broken_files_name_file_and_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        rows_of(tmp_path / name)


def test_csv_cells_longer_than_the_csv_modules_limit(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("text,loss_weight\n" + "x" * 200_000 + ",0.5\n")
    assert values_of(tmp_path / "r.csv") == [{"text": "x" * 200_000, "loss_weight": 0.5}]


def test_row_ids_are_own_ids_where_unique(tmp_path: Path) -> None:
    rows = [{"id": "x"}, {"id": 7}, {"id": "x"}, {"id": ""}, {"id": True}, {}]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = rows_of(tmp_path / "r.jsonl")
    assert [row.row_id for row in found] == ["x", "7", "row:2", "row:3", "row:4", "row:5"]
    assert found[1].where == f"{tmp_path}/r.jsonl:2"


def test_missing_paths_name_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "heldout.jsonl").write_bytes(LINES)
    for wrong in ("data/heldot.jsonl", "./data/heldot.jsonl"):
        with pytest.raises(UserError, match=r"there is no .*did you mean .*data/heldout\.jsonl\?"):
            resolve(wrong, tmp_path)
    with pytest.raises(UserError, match=r"did you mean .*/data\?"):
        resolve("./daata/heldout.jsonl", tmp_path)
    with pytest.raises(UserError, match="check the path"):
        resolve("/nowhere/at/all.jsonl", tmp_path)
    (tmp_path / "data" / "model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"cannot read a file named model\.bin.*\.jsonl"):
        resolve("data/model.bin", tmp_path)
    with pytest.raises(UserError, match="by fraction"):
        resolve_source(EvalSource(fraction=0.1), tmp_path, "eval.heldout")


def test_folders_choose_the_split_or_everything(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    (parts / "deep").mkdir(parents=True)
    (parts / ".cache").mkdir()
    (parts / ".cache" / "x.jsonl").write_bytes(LINES)
    (parts / "dataset_info.json").write_text("{}")
    (parts / "b.jsonl").write_bytes(LINES[: LINES.index(b"\n") + 1])
    (parts / "deep" / "c.csv").write_text("prompt,completion\nx,y\n")
    assert [row.row_id for row in rows_of(parts)] == ["file0:0", "file1:0"]

    splits = tmp_path / "splits"
    splits.mkdir()
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test.jsonl"):
        (splits / name).write_text(json.dumps({"text": name}) + "\n")
    assert [row["text"] for row in values_of(splits)] == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert [row["text"] for row in values_of(splits, split="test")] == ["test.jsonl"]
    with pytest.raises(UserError, match=r"no split 'tset'.*did you mean test\?"):
        resolve(splits, tmp_path, split="tset")
    with pytest.raises(UserError, match="no split 'heldout'"):
        resolve(parts, tmp_path, split="heldout")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no readable data file"):
        resolve("empty", tmp_path)


def test_folders_saved_by_datasets(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}).save_to_disk(
        str(tmp_path / "two")
    )
    assert values_of(tmp_path / "one") == ROWS
    assert values_of(tmp_path / "two", split="test") == ROWS[:1]
    with pytest.raises(UserError, match=r"no split 'heldout'.*test, train"):
        resolve("two", tmp_path, split="heldout")
    prints = [source_fingerprint(resolve(path, tmp_path)) for path in ("one", "two")]
    assert prints[0] == prints[1]


def test_fingerprint_is_the_content_and_not_the_path(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl").write_bytes(LINES)
    (tmp_path / "c.jsonl").write_bytes(LINES + b"\n")
    prints = [source_fingerprint(resolve(f"{name}.jsonl", tmp_path)) for name in "abc"]
    assert prints[0] == {"files": [{"kind": ".jsonl", "sha256": hashlib.sha256(LINES).hexdigest()}]}
    assert prints[0] == prints[1] != prints[2]


def test_builtin_rows(tmp_path: Path) -> None:
    source = resolve("builtin:instructions", tmp_path)
    row = next(iter(read_rows(source)))
    assert {"instruction", "output"} <= set(row.values)
    assert row.where == "builtin:instructions:row 1"
    heldout = resolve("builtin:instructions", tmp_path, split="heldout")
    assert source_fingerprint(source) != source_fingerprint(heldout)
    with pytest.raises(UserError, match="no built-in data set"):
        list(read_rows(resolve("builtin:nothing", tmp_path)))


def test_everything_else_goes_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    asked: list[Any] = []

    def load(path: str, name: str | None, split: str, revision: str | None) -> Any:
        asked.append((path, name, split, revision))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = resolve("tatsu-lab/alpaca-v1.5", tmp_path, name="en", split="train[:2]", revision="abc")
    assert source.kind == "hub"
    rows = list(read_rows(source))
    assert asked == [("tatsu-lab/alpaca-v1.5", "en", "train[:2]", "abc")]
    assert [row.values for row in rows] == ROWS
    assert (rows[1].row_id, rows[1].where) == ("row:1", "tatsu-lab/alpaca-v1.5:row 2")

    class Api:
        def dataset_info(self, path: str, revision: str | None) -> Any:
            return type("Info", (), {"sha": f"commit of {path}@{revision}"})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert source_fingerprint(source)["revision"] == "commit of tatsu-lab/alpaca-v1.5@abc"

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach the Hub\nmore")

    monkeypatch.setattr(Api, "dataset_info", refuse)
    fingerprint = source_fingerprint(source)["revision"]
    assert fingerprint == f"fingerprint {datasets.Dataset.from_list(ROWS)._fingerprint}"
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"neither a local path nor.*Couldn't reach the Hub\).*train.*check the path"):
        list(read_rows(source))
