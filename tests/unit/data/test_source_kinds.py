"""Where data comes from: slices of local files, URLs, pipes and devices, nulls of typed tables, keys that stand twice."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sftgo_cli.data import remote_files
from sftgo_cli.data.remote_files import shown
from sftgo_cli.data.sources import read_each_row, read_rows, resolve_source, source_fingerprint
from sftgo_cli.data.split_slices import split_name
from sftgo_cli.errors import EnvironmentProblem, SftgoError, UserError
from sftgo_cli.recipe.data_section import SourceSection

ROWS = "".join(json.dumps({"prompt": f"q{k}", "completion": "a"}) + "\n" for k in range(10))


def numbers(path: Any, split: str = "train") -> list[int]:
    source = resolve_source(SourceSection(path=str(path), split=split), Path("/"), "mine")
    return [int(row.values["prompt"][1:]) for row in read_rows(source)]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", range(10)),
        ("train[:3]", range(3)),
        ("train[7:]", range(7, 10)),
        ("train[2:5]", range(2, 5)),
        ("train[-3:]", range(7, 10)),
        ("train[:-8]", range(2)),
        ("train[:10%]", range(1)),
        ("train[25%:50%]", range(2, 5)),
        ("train[-20%:]", range(8, 10)),
        ("[:2]", range(2)),
        ("train[ :2]", range(2)),
        ("train[20:30]", range(0)),
        ("train[5:2]", range(0)),
    ],
)
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "folder", "saved"])
def test_a_slice_of_every_local_form(tmp_path: Path, split: str, expected: range, form: str) -> None:
    rows = [json.loads(line) for line in ROWS.splitlines()]
    path = tmp_path / f"rows.{form}"
    if form == "jsonl":
        path.write_text(ROWS)
    elif form == "csv":
        path.write_text("prompt,completion\n" + "".join(f"{row['prompt']},a\n" for row in rows))
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "folder":
        path.mkdir()
        (path / "part-0.jsonl").write_text("".join(ROWS.splitlines(keepends=True)[:4]))
        (path / "part-1.jsonl").write_text("".join(ROWS.splitlines(keepends=True)[4:]))
    else:
        from datasets import Dataset

        Dataset.from_list(rows).save_to_disk(str(path))
    assert numbers(path, split) == list(expected)


def test_slices_are_those_of_datasets(tmp_path: Path) -> None:
    from datasets import ReadInstruction

    for split in (
        "train[:15%]",
        "train[33%:66%]",
        "train[-35%:]",
        "train[:5]",
        "train[-4:]",
        "train[85%:]",
        "train[4:-3]",
    ):
        (expected,) = ReadInstruction.from_spec(split).to_absolute({"train": 37})
        _, rows = split_name(split, "here")
        assert rows is not None
        assert rows.range(37) == range(expected.from_, expected.to)


@pytest.mark.parametrize(
    "split", ["train[", "train[1]", "train[a:b]", "train+test", "train[:10%]+train[90%:]", "train[:200%]"]
)
def test_a_split_that_is_none_is_refused(tmp_path: Path, split: str) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    with pytest.raises(UserError, match=r"split .* - mine\.split - write it like train\[:10%\]"):
        numbers(tmp_path / "rows.jsonl", split)


def test_the_name_of_a_single_file_s_split(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "test.jsonl"):
        (tmp_path / name).write_text(ROWS)
    assert numbers(tmp_path / "test.jsonl", "test") == numbers(tmp_path / "test.jsonl") == list(range(10))
    with pytest.raises(UserError, match=r"single file has no split 'validation' - mine: .*rows\.jsonl - remove split"):
        numbers(tmp_path / "rows.jsonl", "validation")
    with pytest.raises(UserError, match=r"no split 'valid'.*the file is train or test"):
        numbers(tmp_path / "test.jsonl", "valid[:3]")


def test_slices_are_part_of_the_fingerprint_and_keep_ids(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    sources = [
        resolve_source(SourceSection(path="rows.jsonl", split=split), tmp_path, "mine")
        for split in ("train", "train[5:]", "train[:50%]")
    ]
    assert len({json.dumps(source_fingerprint(source)) for source in sources}) == 3
    assert [row.row_id for row in read_rows(sources[1])] == [f"row:{k}" for k in range(5, 10)]


def test_a_built_in_source_takes_slices() -> None:
    source = resolve_source(SourceSection(path="builtin:instructions", split="train[:3]"), Path("/"), "mine")
    assert len(list(read_rows(source))) == 3


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server of this machine that serves `tmp_path/web`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


@pytest.fixture
def memory() -> Iterator[str]:
    import fsspec

    yield "memory://sftgo-test"
    files = fsspec.filesystem("memory")
    if files.exists("/sftgo-test"):
        files.rm("/sftgo-test", recursive=True)


def test_a_file_of_the_web_is_copied_once_and_again_when_it_changes(server: str, tmp_path: Path) -> None:
    file = tmp_path / "web" / "rows.jsonl"
    file.write_text(ROWS)
    assert numbers(f"{server}/rows.jsonl", "train[:3]") == [0, 1, 2]
    copies = tmp_path / "sftgo-cache" / "downloads"
    assert len(list(copies.rglob("rows.jsonl"))) == 1
    file.write_text("".join(ROWS.splitlines(keepends=True)[:2]))
    assert numbers(f"{server}/rows.jsonl") == [0, 1]
    assert len(list(copies.rglob("rows.jsonl"))) == 2
    with pytest.raises(UserError, match=r"no such file - mine: http://127\.0\.0\.1:\d+/other\.jsonl"):
        numbers(f"{server}/other.jsonl?token=secret")


def test_without_a_network_the_newest_copy_is_read(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "web" / "rows.jsonl").write_text(ROWS)
    assert numbers(f"{server}/rows.jsonl") == list(range(10))

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to http://user:secret@host/x")

    monkeypatch.setattr(remote_files, "urlopen", offline)
    assert numbers(f"{server}/rows.jsonl") == list(range(10))
    with pytest.raises(EnvironmentProblem, match=r"cannot read it: no route to \.\.\. - ") as caught:
        numbers(f"{server}/more.jsonl")
    assert "secret" not in str(caught.value)


def test_other_protocols_are_read_through_fsspec(memory: str) -> None:
    import fsspec

    with fsspec.open(f"{memory}/rows.jsonl", "wb") as file:
        file.write(ROWS.encode())
    assert numbers(f"{memory}/rows.jsonl") == list(range(10))
    local = Path(os.environ["SFTGO_CACHE"]).parent / "here.jsonl"
    local.write_text(ROWS)
    assert numbers(f"file://{local}") == list(range(10))


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("s3://bucket/rows.jsonl", EnvironmentProblem, "s3:// needs a package .* - pip install s3fs"),
        ("gs://bucket/rows.jsonl", EnvironmentProblem, "gs:// needs a package .* - pip install gcsfs"),
        ("nowhere://bucket/rows.jsonl", UserError, "nowhere:// is no protocol"),
        ("https://example.org/folder", UserError, "must name a file that ends in"),
        ("hf://datasets/org/name", UserError, "must name a file that ends in"),
        ("s3://bucket/*.jsonl", UserError, "names several files"),
    ],
)
def test_what_cannot_be_fetched_is_refused_as_a_url(url: str, kind: type[SftgoError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        numbers(url)
    assert f"mine: {url}" in str(caught.value)


def test_secrets_of_urls_are_not_shown() -> None:
    assert shown("https://me:pass@host.org/a/b.jsonl?key=1#x") == "https://host.org/a/b.jsonl"
    assert shown("org/name") == "org/name"
    with pytest.raises(EnvironmentProblem) as caught:
        numbers("s3://key:pass@bucket/rows.jsonl?sig=1")
    assert "pass" not in str(caught.value)
    assert "sig" not in str(caught.value)


@pytest.mark.parametrize("kind", ["fifo", "zero", "null"])
def test_pipes_and_devices_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows.jsonl"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(f"/dev/{kind}")
    with pytest.raises(UserError, match=r"a pipe or device, not a file - mine: .*rows\.jsonl"):
        numbers(path)
    with pytest.raises(UserError, match="holds no readable data file"):
        numbers(tmp_path)


def calling(content: str | None, name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [{"function": {"name": name, "arguments": arguments}}],
    }


NESTED = [
    {"messages": [{"role": "user", "content": "q", "tool_calls": None}, calling(None, "f", a=1)],
     "tools": [{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}], "list": [1, None]},
    {"messages": [calling("x", "g", b="y")],
     "tools": [{"name": "g", "parameters": {"properties": {"b": {"type": "string", "enum": ["y"]}}}}], "list": None},
]  # fmt: skip


@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_nulls_of_typed_tables_are_left_out(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("rows.parquet" if form == "parquet" else "rows")
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(NESTED), path)
    else:
        from datasets import Dataset

        Dataset.from_list(NESTED).save_to_disk(str(path))
    rows = list(read_rows(resolve_source(SourceSection(path=str(path)), tmp_path, "mine")))
    assert "None" not in repr([row.values["messages"] for row in rows])
    assert [row.values["tools"] for row in rows] == [row["tools"] for row in NESTED]
    assert [row.values["list"] for row in rows] == [[1, None], None]
    assert rows[1].values["messages"][0]["tool_calls"] == NESTED[1]["messages"][0]["tool_calls"]  # type: ignore[index]


def test_rows_that_are_broken_by_themselves_do_not_end_the_file(tmp_path: Path) -> None:
    files = {
        "a.jsonl": ('{"text": "1"}\n{"text": \n{"text": "2", "text": "3"}\n7\n{"text": "4"}\n', [1, 2, 3]),
        "b.csv": ("text\n1\n2,3\n4\n", [1]),
        "c.json": ('[{"text": "1"}, 7, {"text": "4"}]', [1]),
        "d.json": ('{"text": "1"}\n{"text": 1, "text": 2}\n{"text": "4"}\n', [1]),
    }
    for name, (content, broken) in files.items():
        (tmp_path / name).write_text(content)
        rows = list(read_each_row(resolve_source(SourceSection(path=name), tmp_path, "mine")))
        assert [number for number, row in enumerate(rows) if row.fault is not None] == broken
        assert [row.values["text"] for row in rows if row.fault is None] == ["1", "4"]
        assert [row.row_id for row in rows] == [f"row:{k}" for k in range(len(rows))]
        with pytest.raises(UserError, match=name):
            list(read_rows(resolve_source(SourceSection(path=name), tmp_path, "mine")))


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,text\n1,2\n")
    pq.write_table(
        pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["text", "text"]), tmp_path / "b.parquet"
    )
    for name in ("a.csv", "b.parquet"):
        with pytest.raises(UserError, match=rf"'text' stands twice in the header - .*{name}"):
            list(read_each_row(resolve_source(SourceSection(path=name), tmp_path, "mine")))


def test_a_saved_data_set_is_the_split_that_it_says(tmp_path: Path) -> None:
    from datasets import Dataset, NamedSplit

    rows = [json.loads(line) for line in ROWS.splitlines()]
    Dataset.from_list(rows, split=NamedSplit("validation")).save_to_disk(str(tmp_path / "valid"))
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "any"))
    assert numbers(tmp_path / "valid", "validation[:2]") == [0, 1]
    assert numbers(tmp_path / "valid") == list(range(10))
    for name, split in (("valid", "test"), ("any", "test")):
        with pytest.raises(UserError, match="there is no split 'test'"):
            numbers(tmp_path / name, split)


def test_maps_of_parquet_are_objects(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("name", pa.string()), ("arguments", pa.map_(pa.string(), pa.string()))]))
    for pairs, expected in ([[("a", "1"), ("b", None)], {"a": "1"}], [[("a", "1"), ("a", "2")], None]):
        table = pa.table({"calls": pa.array([[{"name": "f", "arguments": pairs}]], kind)})
        pq.write_table(table, tmp_path / "a.parquet")
        source = resolve_source(SourceSection(path="a.parquet"), tmp_path, "mine")
        if expected is None:
            with pytest.raises(UserError, match=r"broken parquet file: .*a\.parquet:row 1"):
                list(read_rows(source))
        else:
            assert next(read_rows(source)).values["calls"] == [{"name": "f", "arguments": expected}]


def test_several_lists_of_rows_in_one_file_are_refused(tmp_path: Path) -> None:
    for indent in (None, 1):
        (tmp_path / "a.json").write_text(json.dumps({"train": [{"text": "a"}], "test": [{"text": "b"}]}, indent=indent))
        with pytest.raises(UserError, match=r"several lists of rows: train, test - .*a\.json - write each into a file"):
            list(read_each_row(resolve_source(SourceSection(path="a.json"), tmp_path, "mine")))
    (tmp_path / "a.json").write_text(json.dumps({"messages": [{"role": "user"}], "tools": [{"name": "f"}]}))
    assert len(list(read_rows(resolve_source(SourceSection(path="a.json"), tmp_path, "mine")))) == 1


def test_an_empty_weight_in_a_table_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,loss_weight\na,0.5\nb,\n")
    rows = read_rows(resolve_source(SourceSection(path="a.csv"), tmp_path, "mine"))
    assert [row.values["loss_weight"] for row in rows] == [0.5, None]
