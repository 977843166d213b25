"""YAML reading: scalars as a person means them, positions, and hostile files."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.dump import to_yaml
from sftgo_cli.recipe.faults import Fault
from sftgo_cli.recipe.node import Node, Position, places, plain
from sftgo_cli.recipe.yaml_positions import MAX_BYTES, MAX_NODES, parse_mapping, read_text


def parse(text: str) -> Node:
    faults: list[Fault] = []
    node = parse_mapping(text, "r.yaml", Path(), faults)
    assert not faults
    return node


def values(text: str) -> Any:
    return plain(parse(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("5.0e-6", 5e-6),
        ("2E3", 2000.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("-7", -7),
        ("+7", 7),
        ("007", 7),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("1.2.3", "1.2.3"),
        ("1_", "1_"),
        ("e5", "e5"),
        (".", "."),
        ("inf", "inf"),
        ("'1e-5'", "1e-5"),
        ('"true"', "true"),
        ("org/name", "org/name"),
    ],
)
def test_scalars_mean_what_a_person_means(text: str, value: object) -> None:
    read = values(f"k: {text}")["k"]
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(values("k: .nan")["k"])


def test_keys_are_texts() -> None:
    assert values("{1: a, true: b, 2024-01-01: c}") == {"1": "a", "true": "b", "2024-01-01": "c"}


def test_positions_of_keys_and_values() -> None:
    where = places(parse("a:\n  bb: [1, {c: 2}]\n"))
    assert where[("a",)].key == Position("r.yaml", 1, 1)
    assert where[("a", "bb")].key == Position("r.yaml", 2, 3)
    assert where[("a", "bb")].value == Position("r.yaml", 2, 7)
    assert where[("a", "bb", 1, "c")].key == Position("r.yaml", 2, 12)
    assert where[("a", "bb", 1, "c")].value == Position("r.yaml", 2, 15)
    assert where[("a", "bb", 0)].text == "1"


def test_an_alias_copies_its_value_and_has_its_own_position() -> None:
    node = parse("a: &x {k: 1}\nb: *x\n")
    assert plain(node) == {"a": {"k": 1}, "b": {"k": 1}}
    assert places(node)[("b",)].key == Position("r.yaml", 2, 1)


def test_duplicate_keys_name_both_positions_and_all_are_found() -> None:
    faults: list[Fault] = []
    parse_mapping("a: 1\nb: {c: 1, c: 2}\na: 3\n", "r.yaml", Path(), faults)
    assert [(fault.what, str(fault.at), fault.fix) for fault in faults] == [
        ("the key 'c' stands twice", "r.yaml:2:11", "remove it here or at r.yaml:2:5"),
        ("the key 'a' stands twice", "r.yaml:3:1", "remove it here or at r.yaml:1:1"),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert values(read_text(path)) == {"a": 1, "b": 2}


_BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
_DEEP_ALIASES = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [[[*a{i - 1}]]]\n" for i in range(1, 60))

HOSTILE = {
    "alias bomb": (_BOMB, "more than"),
    "aliases nested deeper than brackets may be": (_DEEP_ALIASES, "nested deeper"),
    "self reference": ("a: &a [*a]\n", "refers to itself"),
    "self reference in a mapping": ("&a a: &b {c: *b}\n", "refers to itself"),
    "unknown alias": ("a: *b\n", "unknown alias"),
    "alias as key": ("a: &x y\n*x : 1\n", "key must be a plain text"),
    "python tag": ("a: !!python/object/apply:os.system ['true']\n", "tags"),
    "own tag": ("a: !mine 3\n", "tags"),
    "tagged top level": ("!!map {a: 1}\n", "tags"),
    "2,000 brackets": ("a: " + "[" * 2000, "nested deeper"),
    "2,000 closed brackets": ("a: " + "[" * 2000 + "]" * 2000, "nested deeper"),
    "2,000 braces": ("{" * 2000, "nested deeper"),
    "2,000 dashes": ("a:\n" + "- " * 2000, "nested deeper"),
    "2,000 question marks": ("? " * 2000, "key must be a plain text"),
    "indented 2,000 times": ("".join(" " * i + "a:\n" for i in range(700)), "nested deeper"),
    "two documents": ("a: 1\n---\nb: 2\n", "more than one document"),
    "a list": ("- a\n", "top level"),
    "a text": ("hello\n", "top level"),
    "nothing": ("", "empty"),
    "a comment": ("# nothing\n", "empty"),
    "tab": ("a:\n\tb: 1\n", "a tab"),
    "escaped NUL": ('a: "x\\0y"\n', "control character"),
    "escaped surrogate": ('a: "\\ud800"\n', "control character"),
    "escape beyond Unicode": ('a: "\\UFFFFFFFF"\n', "not valid YAML"),
    "unclosed quote": ('a: "x\n', "not valid YAML"),
    "list as key": ("[a, b]: 1\n", "key must be a plain text"),
    "no key": ("a: {? : 1}\n", "key is missing"),
    "colon in text": ("a: b: c\n", "not valid YAML"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_refused_quickly_in_one_line(name: str) -> None:
    text, reason = HOSTILE[name]
    start = time.perf_counter()
    with pytest.raises(UserError, match=reason) as caught:
        parse(text)
    # 0.1 s is the promise on a free core; the bound leaves room for a busy one
    assert time.perf_counter() - start < 0.4
    assert "\n" not in str(caught.value)
    assert "r.yaml" in caught.value.where
    assert caught.value.fix


def test_merge_keys_are_refused_with_the_alternative() -> None:
    faults: list[Fault] = []
    parse_mapping("a: &x {k: 1}\nb:\n  <<: *x\n", "r.yaml", Path(), faults)
    assert [(fault.what, str(fault.at)) for fault in faults] == [("merge keys (<<) are not supported", "r.yaml:3:3")]


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b"a: 1\nb: \xff\n", "recipe.yaml:2:4"),
        ("a: 1\n".encode("utf-16"), "recipe.yaml:1:1"),
        (b"a: 1\nb: \x00\n", "recipe.yaml:2:4"),
        (b"PK\x03\x04" + bytes(range(256)), "recipe.yaml:2:118"),
    ],
)
def test_binary_files_are_refused_at_the_first_wrong_byte(tmp_path: Path, raw: bytes, where: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read_text(path)
    assert where in caught.value.where


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    with path.open("wb") as file:
        file.truncate(10 * MAX_BYTES)
    start = time.perf_counter()
    with pytest.raises(UserError, match="655360 bytes"):
        read_text(path)
    assert time.perf_counter() - start < 0.1


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("a: 1")
    with pytest.raises(UserError, match="folder"):
        read_text(tmp_path)
    with pytest.raises(UserError, match=r"did you mean .*quickstart\.yaml"):
        read_text(tmp_path / "quikstart.yaml")
    with pytest.raises(UserError, match="not a regular file"):
        read_text(Path("/dev/null"))


def test_the_limit_on_values_counts_aliases_once_per_use() -> None:
    items = ",".join(["x"] * 98)
    lines = "".join(f"k{i}: *a\n" for i in range(MAX_NODES // 99 - 2))
    assert len(values(f"a: &a [{items}]\n{lines}")) == MAX_NODES // 99 - 1
    with pytest.raises(UserError, match="more than"):
        parse(f"a: &a [{items}]\n{lines}b: *a\nc: *a\nd: *a\n")


def test_what_is_written_loads_again() -> None:
    texts = [
        "1e-5",
        "0o17",
        "no",
        "true",
        "~",
        "",
        "2024-01-01",
        "a: b",
        "# c",
        "<<",
        "=",
        "- x",
        "{{ j }}\n{% if %}\n",
    ]
    texts += [
        "  two ",
        "tab\tin",
        "é 漢 🙂",
        "'",
        '"',
        "1_0",
        "*a",
        "&a",
        "!t",
        "%",
        "@",
        "line\n\n\nlines\n\n",
        "x" * 300,
    ]
    texts += ["word " * 60, "\u2028", "a\n\u2029b", "a\r\nb"]
    data = {"texts": texts, "numbers": [1e-5, 1e16, 3, -0.5, math.inf, 1e300], "others": [True, None, [], {}]}
    shared = {"k": [1]}
    data["twice"] = [shared, shared]
    assert values(to_yaml(data)) == data
