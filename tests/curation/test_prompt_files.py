"""Prompt files: strict reading against Python's own formatter, faults with their places, the shipped prompts."""

from __future__ import annotations

import hashlib
import random
import string
from pathlib import Path

import pytest

from sftgo_cli.curation.prompt_files import SHIPPED, fill, load_prompt, shipped_prompts
from sftgo_cli.errors import UserError

ALLOWED = ("question", "gold")


def load(folder: Path, content: str | bytes, required: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    path = folder / "mine.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_prompt("mine.txt", folder, ALLOWED, "judge.prompt", required)


def test_comments_version_and_hash(tmp_path: Path) -> None:
    content = "# about this file\n# version: 12\n\nQ: {question}\n# kept\n{{{gold}}}\n"
    prompt = load(tmp_path, content)
    assert (prompt.name, prompt.version) == ("mine.txt", 12)
    assert prompt.hash == hashlib.sha256(content.encode()).hexdigest()[:16]
    assert fill(prompt, question="1+1?", gold="2") == "Q: 1+1?\n# kept\n{2}"
    assert load(tmp_path, "{gold}").version == 0
    assert load(tmp_path, "# version: 2\r\na {gold}\r\nb\r\n").text == "a {gold}\nb"
    assert load(tmp_path, b"\xef\xbb\xbf# version: 3\n{gold}").version == 3


def test_values_are_put_in_once(tmp_path: Path) -> None:
    prompt = load(tmp_path, "{question}|{gold}|{question}")
    assert fill(prompt, question="{gold} {{x}} %s", gold="{question}") == "{gold} {{x}} %s|{question}|{gold} {{x}} %s"


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        ("{question} {answer}", ":1:12", "unknown field {answer}"),
        ("# version: 1\n\nab {questoin}", ":3:4", "did you mean {question}"),
        ("{question}\n {prediction}", ":2:2", "unknown field {prediction}"),
        ("{question.x}", ":1:1", "attribute or index in {question.x}"),
        ("{question[0]}", ":1:1", "attribute or index"),
        ("{question!r}", ":1:1", "conversion or format"),
        ("{question:>10}", ":1:1", "conversion or format"),
        ("{question} {}", ":1:12", "without a name"),
        ("{question} {0}", ":1:12", "unknown field {0}"),
        ("{question} { gold }", ":1:12", "unknown field { gold }"),
        ("{question}\nx { y", ":2:3", "a single {"),
        ("{question}\n}", ":2:1", "a single }"),
        ("{question} {gold\n}", ":1:12", "a single {"),
        ("{question} {{gold}", ":1:18", "a single }"),
        ("{question} {gold", ":1:12", "a single {"),
    ],
)
def test_faults_are_placed(tmp_path: Path, content: str, place: str, what: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, content)
    assert what in caught.value.what
    assert caught.value.where == f"{tmp_path / 'mine.txt'}{place}"
    assert "{question}, {gold}" in caught.value.fix


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("no field", "no field"),
        ("# version: two\n{gold}", "not a whole number"),
        (b"\xff{gold}", "not UTF-8"),
        (b"{gold}" + b" " * 1_000_001, "bytes"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str | bytes, what: str) -> None:
    with pytest.raises(UserError, match=what):
        load(tmp_path, content)


def test_required_fields(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"never says \{gold\}"):
        load(tmp_path, "{question}", required=("gold",))


def test_names_and_paths(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean judge_qa"):
        load_prompt("judge_qua", tmp_path, ALLOWED, "judge.prompt")
    with pytest.raises(UserError, match="choose from"):
        load_prompt("zzz", tmp_path, ALLOWED, "judge.prompt")
    for name in ("none.txt", "", "a\0b.txt", ".", "../none.txt"):
        with pytest.raises(UserError):
            load_prompt(name, tmp_path, ALLOWED, "judge.prompt")
    (tmp_path / "absolute.txt").write_text("{gold}")
    assert load_prompt(str(tmp_path / "absolute.txt"), Path("/"), ALLOWED, "judge.prompt").text == "{gold}"


def test_random_prompts_agree_with_pythons_formatter(tmp_path: Path) -> None:
    generator = random.Random(0)
    accepted = 0
    for _ in range(1500):
        pieces = generator.choices(
            ["{", "}", "{{", "}}", "{gold}", "{question}", "{gold.x}", "{x}", "a ", "!r", ":", "\n"], k=6
        )
        content = "_" + "".join(pieces)
        try:
            fields = [part[1:] for part in string.Formatter().parse(content) if part[1] is not None]
            plain = all(name in ALLOWED and not spec and not conversion for name, spec, conversion in fields)
            expected = content.format(question="Q{", gold="}G") if plain and fields else None
        except ValueError:
            expected = None
        try:
            got: str | None = fill(load(tmp_path, content), question="Q{", gold="}G")
        except UserError:
            got = None
        if expected is not None:
            assert got == expected.strip("\n"), content
            accepted += 1
        elif got is not None:  # Python reads `{gold:}` as {gold}
            raise AssertionError(content)
    assert accepted > 50


def test_shipped_prompts() -> None:
    assert shipped_prompts() == ["judge_qa", "paraphrase", "paraphrase_code", "paraphrase_math", "paraphrase_qa"]
    for name in shipped_prompts():
        fields = ("question", "gold", *(["prediction"] if name.startswith("judge") else []))
        prompt = load_prompt(name, Path("/nowhere"), fields, "here", required=fields)
        assert prompt.version == (1 if name.startswith("judge") else 2)
        assert bool(prompt.gives_away) is name.startswith("paraphrase")
        assert prompt.hash == hashlib.sha256((SHIPPED / f"{name}.txt").read_bytes()).hexdigest()[:16]
        filled = fill(prompt, **{field: f"<<{field}>>" for field in fields})
        assert all(f"<<{field}>>" in filled for field in fields)
