"""House rules as tests: imports go down only, files and functions stay short, nothing is pickled, methods are complete."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sftgo_cli import methods
from sftgo_cli.recipe.options import MethodOptions

PACKAGE = Path(__file__).parents[2] / "sftgo_cli"
FILES = sorted(PACKAGE.rglob("*.py"))

# Higher may import lower; packages of one level do not import each other, but for the pairs in ALLOWED.
LEVELS = [
    {"errors", "columns"},
    {"durable", "builtin", "cache", "metrics_log", "progress", "worker_processes"},
    {"recipe"},
    {"run_dir", "grouping", "losses", "model_errors"},
    {"model_source", "adapter_merge", "new_tokens"},
    {"base_model"},
    {"data"},
    {"reference_model", "token_nll"},
    {"curation", "objectives", "scoring", "tuning"},
    {"methods"},
    {"evaluation", "report"},
    {"training"},
    {"pipeline"},
    {"comparison", "row_choice"},
    {"explanation", "model_use"},
    {"cli"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
STAGES = [
    "pipeline.py",
    "scoring/stages.py",
    "scoring/shards.py",
    "scoring/processes.py",
    "scoring/group_stage.py",
    "curation/stage.py",
    "curation/steps.py",
    "training/trainer.py",
]
ALLOWED = {("cache", "durable"), ("metrics_log", "durable")}


def part_of(path: Path) -> str:
    """The package's part that a file belongs to: `data`, `cache`, ..."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """The parts of sftgo_cli that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "sftgo_cli":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sftgo_cli."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("sftgo_cli.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    own = part_of(path)
    if own in ("__init__", "__main__"):
        return
    for other in imported_parts(path) - {own}:
        down = LEVEL[other] < LEVEL[own] or (own, other) in ALLOWED
        assert down, f"{own} imports {other}"


@pytest.mark.parametrize("section", list(methods.PACKAGES))
def test_methods_are_complete_and_never_import_one_another(section: str) -> None:
    package = methods.PACKAGES[section][0]
    for name in methods.names(section):
        module = methods.module(section, name)
        assert issubclass(module.Options, MethodOptions)
        assert module.Options.__name__ == "Options"
        assert module.SOURCE
        assert all(field.description for field in module.Options.model_fields.values())
        text = Path(str(module.__file__)).read_text()
        others = set(methods.names(section)) - {name}
        assert not any(f"{package}.{other}" in text for other in others)
        if section not in ("objective", "tuning"):
            assert isinstance(module.VERSION, int)


def test_no_stage_names_a_method() -> None:
    for name in STAGES:
        path = PACKAGE / name
        text = path.read_text()
        for section in methods.PACKAGES:
            for method in methods.names(section):
                assert f'"{method}"' not in text, f"{path.name} names {method}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_documented_and_pickle_nothing(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "every file opens with what it is for"
    assert text.count("\n") <= 350
    assert path.stem not in ("utils", "misc", "helpers", "common")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
    for forbidden in ("import pickle", "torch.save(", "torch.load(", "eval(", "requests", "telemetry"):
        assert forbidden not in text.replace("model.eval()", "").replace(".eval()", ""), forbidden
