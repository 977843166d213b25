"""What every verb has: -h, -V, --quiet and --json, plain texts without markup, and output that nothing cuts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.cli.heartbeat import FIRST_SECONDS, Heartbeat, beating
from sftgo_cli.cli.main import EVERYWHERE, VERBS, main
from sftgo_cli.cli.output import MANNER

COMMANDS = {verb: [verb] for verb in VERBS} | {f"cache {name}": ["cache", name] for name in ("ls", "why", "rm")}


def run(capsys: Any, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Standard output and error of one command that must exit with `code`."""
    capsys.readouterr()
    assert main(list(arguments)) == code, capsys.readouterr().err
    result = capsys.readouterr()
    return result.out, result.err


@pytest.mark.parametrize("command", COMMANDS)
def test_short_help_version_and_flags(command: str, capsys: Any) -> None:
    arguments = COMMANDS[command]
    short, long = run(capsys, *arguments, "-h")[0], run(capsys, *arguments, "--help")[0]
    assert short == long
    assert short.startswith(f"Usage: sftgo {command}")
    words = " ".join(short.split())
    assert all(flag in words for flags in EVERYWHERE.values() for flag in flags)
    assert run(capsys, *arguments, "-V")[0].startswith("sftgo ")
    assert MANNER not in os.environ


def test_help_fits_80_columns(capsys: Any) -> None:
    assert max(map(len, run(capsys, "--help")[0].splitlines())) <= 80


@pytest.fixture(scope="module")
def called(recipe: Path, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """A small real call of every verb."""
    folder = tmp_path_factory.mktemp("called")
    own, one = str(recipe), str(runs["full"])
    return {
        "init": ["init", "-"],
        "validate": ["validate", own],
        "curate": ["curate", own, "curation.0={name: s3ft, judge: numeric}", "data.train.0.max_samples=2"],
        "score": ["score", own],
        "inspect": ["inspect", own, "--rows", "1"],
        "train": ["train", own, f"training.output_dir={runs['full']}"],
        "eval": ["eval", one],
        "compare": ["compare", one, str(runs["lora"])],
        "generate": ["generate", one, "-p", "Hello", "--max-new-tokens", "2"],
        "merge": ["merge", str(runs["lora"]), "--output", str(folder / "merged")],
        "schema": ["schema"],
        "methods": ["methods"],
        "cache": ["cache", "ls"],
        "doctor": ["doctor", own, "training.max_steps=3"],
    }


# What the JSON of each verb must hold; the keys are promised to programs.
TYPED = {
    "init": {"recipe": str, "files": list},
    "validate": {"recipe": str, "valid": bool, "num_rows": int, "evaluation_rows": dict, "sources": list},
    "curate": {"targets": dict, "folders": dict},
    "score": {"num_rows": int, "groups": list, "sources": list},
    "inspect": {"rows": list},
    "train": {"output_dir": str, "finished_steps": int, "last": dict},
    "eval": {"heldout": dict},
    "compare": {"runs": list, "sentences": list},
    "generate": {"completions": list},
    "merge": {"run": str, "output": str},
    "schema": {"properties": dict},
    "methods": {"methods": list},
    "cache": {"root": str, "entries": list},
    "doctor": {"python": str, "missing": list, "cache": str},
}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "merge"] + ["merge"])
def test_json_is_one_typed_value_and_quiet_is_quiet(verb: str, called: dict[str, list[str]], capsys: Any) -> None:
    out, _ = run(capsys, *called[verb], "--json")
    value = json.loads(out)
    for key, kind in TYPED[verb].items():
        assert isinstance(value[key], kind), key
    if verb == "merge":  # its folder must be new
        called[verb][-1] += "-again"
    out, err = run(capsys, *called[verb], "--quiet")
    assert err == ""
    if verb in ("validate", "train", "merge"):
        assert out == ""
    else:
        assert out.strip()


@pytest.mark.parametrize("verb", VERBS)
def test_errors_are_json_too(verb: str, capsys: Any) -> None:
    out, err = run(capsys, verb, "--no-such-option", "--json", code=2)
    found = json.loads(out)
    assert found["exit_code"] == 2
    assert err == f"error: {found['errors'][0]}\n"


def test_names_keep_their_brackets(recipe: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "[bold]odd [red][dim].yaml"
    odd.write_text(recipe.read_text() + "evaluation: {sets: [heldout]}\n")
    assert f"{odd}: valid" in run(capsys, "validate", str(odd))[0]
    assert f"{odd}: nothing is missing" in run(capsys, "doctor", str(odd))[0]
    monkeypatch.setattr("importlib.metadata.version", lambda name: _no_package(name))
    out, _ = run(capsys, "doctor", str(odd), "model.quantization=nf4", code=3)
    assert "pip install 'sftgo[quantization]'" in out
    listed = run(capsys, "cache", "ls")[0]
    assert "recipe" in listed


def _no_package(name: str) -> str:
    import importlib.metadata

    raise importlib.metadata.PackageNotFoundError(name)


def test_a_pipe_is_never_cut_at_80(recipe: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    for command in (["methods"], ["score", str(recipe)], ["cache", "ls"], ["doctor"]):
        out, _ = run(capsys, *command)
        assert "…" not in out


def complete(words: str, shell: str = "bash") -> list[str]:
    """What the shell is told for an unfinished command line."""
    asked = {"_SFTGO_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "sftgo_cli"], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_the_shell_completes_verbs_keys_and_methods() -> None:
    assert {"validate"} == set(complete("sftgo val"))
    assert {"score", "schema"} == set(complete("sftgo sc"))
    assert "training.learning_rate=" in complete("sftgo train recipe.yaml training.learn")
    assert "tfidf" in complete("sftgo methods tf")


def test_the_completion_script_is_shown() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sftgo_cli", "--show-completion", "bash"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "_SFTGO_COMPLETE" in done.stdout


def test_a_line_comes_within_two_seconds_and_whenever_it_is_silent() -> None:
    beat = Heartbeat("loading the libraries", 0.0)
    assert beat.tick(1.0) is None
    assert beat.tick(1.75) == "loading the libraries ..."
    assert beat.tick(6.0) is None
    assert beat.tick(6.75) == "still loading the libraries (7 s)"
    assert beat.tick(12.0) is None  # ever more rarely
    beat.heard("tokenizing train.0", 13.0)
    assert [beat.tick(now) for now in (15.0, 17.9)] == [None, None]
    assert beat.tick(18.0) == "still tokenizing train.0 (5 s)"
    beat.heard(None, 20.0)  # a progress bar
    assert beat.tick(25.5) is None
    assert beat.tick(30.0) == "still working (10 s)"


def test_the_first_line_comes_while_a_verb_still_loads(capsys: Any) -> None:
    with beating("loading the libraries", silent=False):
        time.sleep(FIRST_SECONDS + 0.4)
    assert capsys.readouterr().err == "loading the libraries ...\n"
    with beating("loading the libraries", silent=True):
        time.sleep(FIRST_SECONDS + 0.4)
    assert capsys.readouterr().err == ""


def test_progress_lines_have_no_markup() -> None:
    """Whatever is printed goes through the verbs' console, which reads no markup: no other file makes one that does."""
    package = Path(__file__).parents[2] / "sftgo_cli"
    makers = [path for path in package.rglob("*.py") if re.search(r"\b(Console|Listened)\([a-z]", path.read_text())]
    assert [path.name for path in makers] == ["output.py"]
    assert "markup=False" in (package / "cli" / "output.py").read_text()
    for path in package.rglob("*.py"):
        assert "from_markup" not in path.read_text(), path
        assert "markup=True" not in path.read_text(), path


@pytest.mark.parametrize("command", [["methods"], ["schema"], ["init"], ["validate", "/nowhere.yaml"]])
def test_what_answers_at_once_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        f"import sys; from sftgo_cli.cli.main import main; main({command!r}); "
        "print(sorted({'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr.splitlines()[-1] == "[]"
