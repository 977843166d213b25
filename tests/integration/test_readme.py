"""README and docs do what they say: every shown command is run in a shrunk form, in order, in one working folder.

The folder holds `recipes/` and `configs/` as in a clone, README's own recipe as `my.yaml` and its own rows as
`data/mine.jsonl`. Commands on a recipe whose model is not here are only loaded; several processes are only planned
(tests/equivalence/ trains with two). A command that this file does not know how to run fails: README cannot drift.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sftgo_cli import pipeline, scoring
from sftgo_cli.cli.main import VERBS, main
from sftgo_cli.training.launch import plan_launch

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
SMALL = [
    "training.max_steps=2",
    "training.per_device_train_batch_size=2",
    "training.logging_steps=1",
    "training.use_cpu=true",
    "model.dtype=float32",
]
RECIPE_VERBS = ("validate", "curate", "score", "inspect", "train", "eval")
AS_SHOWN = ("init", "compare", "generate", "merge", "schema", "methods", "cache", "doctor")


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language."""
    return [body for name, body in BLOCK.findall(text) if name == language]


def shown_commands() -> list[str]:
    """Every command of README in order, without comments: lines of bash blocks, `$ ` lines of console blocks."""
    found = []
    for language, body in BLOCK.findall(README):
        lines = body.splitlines()
        if language == "bash":
            found += [line for line in lines if line.strip() and not line.startswith("#")]
        elif language == "console":
            found += [line[2:] for line in lines if line.startswith("$ ")]
    return [re.sub(r"\s+#\s.*$", "", line).strip() for line in found]


def shown_output(command: str) -> list[str]:
    """The lines that README prints under `$ command`, without those that stand for left-out ones."""
    for body in blocks(README, "console"):
        parts = re.split(r"^\$ (.*)$", body, flags=re.M)
        for shown, output in zip(parts[1::2], parts[2::2], strict=True):
            if shown == command:
                return [line for line in output.splitlines() if line.strip() and line != "..."]
    raise AssertionError(f"README shows no output of {command!r}")


def squeezed(text: str) -> str:
    """The text with runs of white space as one space."""
    return " ".join(text.split())


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as README assumes it."""
    for name in ("recipes", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()
    recipe = next(body for body in blocks(README, "yaml") if body.startswith("# my.yaml"))
    (tmp_path / "my.yaml").write_text(recipe, encoding="utf-8")
    (tmp_path / "data" / "mine.jsonl").write_text(blocks(README, "json")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments: list[str]) -> str:
    """What `sftgo ARGUMENTS` prints to standard output; it must succeed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    assert code == 0, f"sftgo {shlex.join(arguments)} exited with {code}: {err.getvalue()}"
    return out.getvalue()


def run_shown(command: str) -> None:
    """Run one `sftgo ...` line of README, shrunk; fails when it is of no known kind."""
    line, _, redirected = command.partition(" > ")
    words = shlex.split(line)[1:]
    verb = words[0]
    if verb in AS_SHOWN:
        printed = run(words)
        if redirected:
            Path(redirected).write_text(printed, encoding="utf-8")
        return
    assert verb in RECIPE_VERBS, f"README shows {command!r}, which this test does not know how to run"
    assert not redirected, f"README redirects {command!r}, which this test does not know how to run"
    if Path(words[1]).is_dir():
        run(words)  # a run of this test, small already
        return
    flags = words[words.index("--") + 1 :] if "--" in words else []
    words = words[: words.index("--")] if flags else words
    loaded = pipeline.load(Path(words[1]), [word for word in words[2:] if re.match(r"[a-z][\w.]*=", word)])
    recipe = loaded.recipe
    if "-n" in words:
        number = int(words[words.index("-n") + 1])
        planned = plan_launch(number, flags, recipe.training.use_cpu)
        assert planned is not None
        assert planned.expected["world_size"] == number
    elif recipe.model.name_or_path.startswith("builtin:"):
        small = [*SMALL, "data.train.0.max_samples=24"]
        small += [f"data.eval.{name}.max_samples=8" for name, source in recipe.data.eval.items() if source.path]
        run([*words, *small])
    else:
        assert verb == "train", f"README shows {command!r} on a model that is not here"


def test_every_command_of_the_readme_works(clone: Path) -> None:
    commands = shown_commands()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), command
        else:
            assert words[0] == "sftgo", f"README shows {command!r}, which this test does not know how to run"
            run_shown(command)
    assert {"make quickstart", "make test"} <= set(commands)
    for name in ("quickstart", "quickstart-sft", "quickstart-lora", "mine"):
        assert (clone / "runs" / name / "metrics.jsonl").is_file(), name
    assert (clone / "merged" / "model.safetensors").is_file()
    assert (clone / "tokens.html").stat().st_size > 5000
    assert "properties" in json.loads((clone / "recipe.schema.json").read_text(encoding="utf-8"))


def test_the_scores_and_rows_in_the_readme_are_the_real_ones(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("score recipes/quickstart.yaml", "inspect recipes/quickstart.yaml --rows 3"):
        shown = shown_output(f"sftgo {command}")
        assert len(shown) >= 3
        printed = [squeezed(line) for line in run(shlex.split(command)).splitlines()]
        for line in shown:
            assert squeezed(line) in printed, f"sftgo {command} does not print {line!r}"


def test_the_quickstart_runs_the_commands_that_the_readme_shows() -> None:
    script = (ROOT / "recipes" / "quickstart.sh").read_text(encoding="utf-8")
    steps = [line.removeprefix("step ").replace('"', "") for line in script.splitlines() if line.startswith("step ")]
    steps = [step.replace("$recipe", "recipes/quickstart.yaml").replace("$runs", "runs") for step in steps]
    shown = [line[2:] for body in blocks(README, "console") for line in body.splitlines() if line.startswith("$ ")]
    assert [command.removeprefix("sftgo ") for command in shown] == [
        step for step in steps if f"sftgo {step}" in shown
    ], "the commands that README shows are not those of recipes/quickstart.sh, in this order"
    assert len(shown) >= 5


def test_make_targets_named_in_the_readme_exist() -> None:
    for target in sorted(set(re.findall(r"\bmake ([a-z][a-z-]+)`", README)) | {"quickstart", "test"}):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"make {target}: {done.stderr}"


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_and_verbs_exist(page: str) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (path.parent / target).exists(), f"{page} links to {target}"
    for verb in re.findall(r"`sftgo ([a-z]+)\b", BLOCK.sub("", text)):
        assert verb in VERBS or verb == "report", f"{page} names the verb {verb}"  # report: under "Not there yet"


def test_the_scorer_of_the_extension_guide_works(tmp_path: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "characters"
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / f"{name}.py").write_text(blocks(EXTENDING, "python")[0], encoding="utf-8")
    monkeypatch.setattr(scoring, "__path__", [*scoring.__path__, str(tmp_path / "methods")])
    monkeypatch.setitem(scoring.METHODS, name, "longer tokens are important")
    importlib.invalidate_caches()
    command = re.search(r"`sftgo (score [^`]*scoring=characters[^`]*)`", EXTENDING)
    assert command is not None
    try:
        assert name in run(["methods", "scoring"])
        run([*shlex.split(command[1]), "data.train.0.max_samples=20", "--output", "columns"])
    finally:
        sys.modules.pop(f"sftgo_cli.scoring.{name}", None)
        scoring.__dict__.pop(name, None)
    from datasets import load_from_disk

    cap = int(command[1].rpartition("scoring.at_most=")[2])
    rows = load_from_disk("columns")
    assert len(rows) == 20
    for row in rows:
        cells = zip(row["labels"], row["token_scores"], row["offsets"], strict=True)
        for label, token_score, (start, end) in cells:
            if label == -100:
                assert token_score != token_score  # NaN
            else:
                assert token_score == min(len(row["text"][start:end]), cap)
        ranked = [
            (token_score, group)
            for token_score, group, pinned in zip(row["token_scores"], row["group_ids"], row["pinned"], strict=True)
            if group >= 0 and not pinned
        ]
        assert min(value for value, group in ranked if group == 1) > max(
            (value for value, group in ranked if group == 0), default=-1
        )
