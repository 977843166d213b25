"""Loading: defaults, short forms, extends, overrides, input paths, and what `resolved` promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sftgo_cli.errors import UserError
from sftgo_cli.recipe.dump import to_yaml
from sftgo_cli.recipe.load import LoadedRecipe, load_recipe

BASE = "model: m\ndata: d.jsonl\ntraining: {output_dir: runs/x}\n"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def load_file(path: Path, methods: Any, *overrides: str) -> LoadedRecipe:
    return load_recipe(path, overrides, methods)


def fails(caught: pytest.ExceptionInfo[UserError], *parts: str) -> None:
    for part in parts:
        assert part in str(caught.value)


def test_three_lines_are_a_recipe(load: Any, tmp_path: Path) -> None:
    loaded = load(BASE)
    recipe = loaded.recipe
    assert recipe.model.name_or_path == "m"
    assert [source.path for source in recipe.data.train] == ["d.jsonl"]
    assert (recipe.scoring.name, recipe.objective.name, recipe.tuning.name) == ("tfidf", "sft_go", "lora")
    assert recipe.objective.options.mixing_weight == 0.9
    assert recipe.curation == []
    assert loaded.source_dir == tmp_path
    assert loaded.text == BASE
    assert loaded.positions[("training", "output_dir")].key.column == 12


@pytest.mark.parametrize(
    ("train", "paths"),
    [
        ("x.jsonl", ["x.jsonl"]),
        ("{path: x, weight: 2}", ["x"]),
        ("[x, {path: y}]", ["x", "y"]),
        ("[{path: x}]", ["x"]),
    ],
)
def test_short_forms_of_train(load: Any, train: str, paths: list[str]) -> None:
    recipe = load(f"model: m\ndata: {{train: {train}}}\ntraining: {{output_dir: r}}\n").recipe
    assert [source.path for source in recipe.data.train] == paths


def test_short_forms_of_methods_and_sets(load: Any) -> None:
    text = BASE.replace("data: d.jsonl", "data: {train: d, eval: {h: h.jsonl}}")
    recipe = load(text + "objective: cross_entropy\ncuration: [{name: s3ft, judge: {name: tests}}]\n").recipe
    assert recipe.data.eval["h"].path == "h.jsonl"
    assert recipe.objective.name == "cross_entropy"
    assert recipe.curation[0].options.judge.name == "tests"


def test_empty_sections_are_omitted_ones(load: Any) -> None:
    recipe = load(BASE + "scoring:\ngrouping:\nevaluation: ~\ncuration:\n").recipe
    assert recipe.scoring.name == "tfidf"
    assert recipe.grouping.cuts() == [0.3]


def test_whole_numbers_are_numbers_and_numbers_are_texts_where_a_text_is_meant(load: Any) -> None:
    recipe = load(
        BASE.replace("model: m", "model: {name_or_path: m, revision: 0123456}"), "training.num_train_epochs=2"
    )
    assert recipe.recipe.model.revision == "0123456"
    assert recipe.recipe.training.num_train_epochs == 2.0
    assert load(BASE, "model.revision=1e10").recipe.model.revision == "1e10"
    assert load(BASE, "tuning.target_modules=[q, 1]").recipe.tuning.options.target_modules == ["q", "1"]


def test_lists_fit_tuple_options(load: Any) -> None:
    recipe = load(BASE + "scoring: {name: reference, layers: [3, 4]}\n").recipe
    assert recipe.scoring.options.layers == (3, 4)


def test_resolved_loads_again_to_the_same_recipe(load: Any) -> None:
    text = """
model: {name_or_path: m, revision: 1e10}
data:
  train: [a, {path: b, columns: {prompt: "1"}, max_samples: 3}]
  eval: {h: {fraction: 0.1}, g: g.jsonl}
  chat_template: "{{ x }}\\n{% if y %}: #\\n"
curation: [{name: s3ft, judge: {name: tests}}]
scoring: {name: reference, reference: "no"}
training: {output_dir: r, learning_rate: 5e-6, report_to: [wandb], lr_scheduler_kwargs: {a: [1, .5, x]}}
"""
    first = load(text)
    dumped = to_yaml(first.resolved)
    second = load(dumped)
    assert second.recipe == first.recipe
    assert second.resolved == first.resolved
    assert first.resolved["scoring"] == {"name": "reference", "reference": "no", "layers": [1, 2]}
    assert yaml.safe_load(dumped)["training"]["learning_rate"] == 5e-6  # other YAML readers see a number too


# -- extends ------------------------------------------------------------------------------------------------------------


def test_extends_merges_mappings_and_replaces_lists(tmp_path: Path, methods: Any) -> None:
    write(
        tmp_path, a="training: {output_dir: a, seed: 1, max_steps: 5}\ndata: {train: [x, y], max_length: 9}\nmodel: m\n"
    )
    write(tmp_path, b="extends: a.yaml\ntraining: {seed: 2}\n", c="extends: b.yaml\ndata: {train: [z]}\n")
    loaded = load_file(tmp_path / "c.yaml", methods)
    recipe = loaded.recipe
    assert (recipe.training.output_dir, recipe.training.seed, recipe.training.max_steps) == ("a", 2, 5)
    assert [source.path for source in recipe.data.train] == ["z"]
    assert recipe.data.max_length == 9
    assert loaded.files == tuple(tmp_path / f"{name}.yaml" for name in "cba")
    assert loaded.positions[("training", "seed")].value.file == str(tmp_path / "b.yaml")
    assert "extends" not in loaded.resolved


def test_another_method_drops_inherited_options(tmp_path: Path, methods: Any) -> None:
    write(tmp_path, a=BASE + "objective: {name: sft_go, mixing_weight: 0.5}\nscoring: {unit: word}\n")
    write(tmp_path, b="extends: a.yaml\nobjective: {name: cross_entropy}\nscoring: reference\n")
    write(tmp_path, c="extends: a.yaml\nobjective: {schedule: linear}\nscoring: tfidf\n")
    other = load_file(tmp_path / "b.yaml", methods).recipe
    assert (other.objective.name, other.scoring.name) == ("cross_entropy", "reference")
    same = load_file(tmp_path / "c.yaml", methods).recipe
    assert (same.objective.options.mixing_weight, same.objective.options.schedule) == (0.5, "linear")
    assert same.scoring.options.unit == "word"


def test_a_later_layer_decides_between_keys_that_exclude_each_other(tmp_path: Path, methods: Any) -> None:
    write(tmp_path, a=BASE.replace("runs/x", "r, warmup_ratio: 0.1") + "grouping: {important_fraction: 0.2}\n")
    write(tmp_path, b="extends: a.yaml\ngrouping: {boundaries: [0.1, 0.4]}\n")
    recipe = load_file(tmp_path / "b.yaml", methods, "training.warmup_steps=3").recipe
    assert recipe.grouping.cuts() == [0.1, 0.4]
    assert (recipe.training.warmup_ratio, recipe.training.warmup_steps) == (None, 3)


@pytest.mark.parametrize(
    ("written", "num_groups", "cuts"),
    [
        ("{}", 2, [0.3]),
        ("{important_fraction: 0.2}", 2, [0.2]),
        ("{boundaries: [0.1, 0.4]}", 3, [0.1, 0.4]),
        ("{quantiles: [0.1, 0.4, 0.5]}", 4, [0.1, 0.4, 0.5]),
        ("{thresholds: [0, 1.5]}", 3, None),
        ("{column: {name: g, num_groups: 5}}", 5, None),
        ("{roles: [[assistant]]}", 1, None),
        ("{segments: {}}", 2, None),
    ],
)
def test_one_key_decides_the_groups_and_the_last_layer_which(
    tmp_path: Path, methods: Any, written: str, num_groups: int, cuts: list[float] | None
) -> None:
    write(tmp_path, a=BASE + "grouping: {boundaries: [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}\n")
    start = "" if written == "{}" else "extends: a.yaml\n"
    write(tmp_path, b=f"{start or BASE}grouping: {written}\n")
    loaded = load_file(tmp_path / "b.yaml", methods)
    assert (loaded.recipe.grouping.num_groups(), loaded.recipe.grouping.cuts()) == (num_groups, cuts)
    again = load_recipe(tmp_path / "b.yaml", [f"grouping={written}"], methods).recipe
    assert again.grouping == loaded.recipe.grouping


def test_errors_point_into_the_file_a_value_came_from(tmp_path: Path, methods: Any) -> None:
    write(tmp_path / "base", a="model: m\ntraining:\n  output_dir: r\n  sede: 3\n")
    write(tmp_path, b="extends: base/a.yaml\ndata: {train: d, max_length: x}\n")
    with pytest.raises(UserError) as caught:
        load_file(tmp_path / "b.yaml", methods)
    fails(caught, f"{tmp_path}/base/a.yaml:4:3 - did you mean seed?", f"{tmp_path}/b.yaml:2:30")


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"r": "x: 1\nextends: nope.yaml\n"}, ["cannot read the recipe", "r.yaml:2:10"]),
        ({"r": "extends: r.yaml\n"}, ["extends itself", "r.yaml:1:10"]),
        ({"r": "extends: q.yaml\n", "q": "a: 1\nextends: r.yaml\n"}, ["extends itself", "q.yaml:2:10"]),
        ({"r": "extends: [q.yaml]\n"}, ["expected the path of a recipe", "r.yaml:1:10"]),
        ({"r": "extends: .\n"}, ["found a folder", "r.yaml:1:10"]),
        ({"r": "a: 1\na: 2\nextends: nope.yaml\n"}, ["stands twice", "r.yaml:2:1", "r.yaml:3:10"]),
        ({"r": "extends: q.yaml\n", "q": "- 1\n"}, ["top level", "q.yaml:1:1"]),
    ],
)
def test_wrong_parents(tmp_path: Path, methods: Any, files: dict[str, str], parts: list[str]) -> None:
    write(tmp_path, **files)
    with pytest.raises(UserError) as caught:
        load_file(tmp_path / "r.yaml", methods)
    fails(caught, *parts)


def test_input_paths_of_a_parent_stay_relative_to_its_folder(tmp_path: Path, methods: Any) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("d.jsonl", "t.jinja", "ref.txt"):
        (base / name).write_text("")
    (base / "org").mkdir()
    (base / "org" / "here").mkdir()
    data = "{train: [d.jsonl, org/elsewhere, ./later.jsonl, 'builtin:x'], eval: {h: d.jsonl}, chat_template: t.jinja}"
    text = f"model: org/here\ndata: {data}\nscoring: {{name: reference, reference: ../base/ref.txt}}\n"
    write(base, a=text + "training: {output_dir: ./runs}\n")
    write(tmp_path / "mine", b="extends: ../base/a.yaml\n")
    recipe = load_file(tmp_path / "mine" / "b.yaml", methods).recipe
    assert recipe.model.name_or_path == "../base/org/here"
    paths = [source.path for source in recipe.data.train]
    assert paths == ["../base/d.jsonl", "org/elsewhere", "../base/later.jsonl", "builtin:x"]
    assert recipe.data.eval["h"].path == "../base/d.jsonl"
    assert recipe.data.chat_template == "../base/t.jinja"
    assert recipe.scoring.options.reference == "../base/ref.txt"
    assert recipe.training.output_dir == "./runs"  # relative to the working directory, not an input


def test_command_line_paths_are_relative_to_the_working_directory(
    tmp_path: Path, methods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "recipes", r=BASE)
    (tmp_path / "mine.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    assert load_file(Path("recipes/r.yaml"), methods, "data=mine.jsonl").recipe.data.train[0].path == "../mine.jsonl"
    assert load_file(Path("recipes/r.yaml"), methods, "data=org/name").recipe.data.train[0].path == "org/name"


def test_resolved_can_be_written_into_another_folder(tmp_path: Path, methods: Any) -> None:
    write(tmp_path / "recipes", r=BASE)
    (tmp_path / "recipes" / "d.jsonl").write_text("")
    run = tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    moved = load_file(tmp_path / "recipes" / "r.yaml", methods).resolved_in(run)
    assert moved["data"]["train"][0]["path"] == "../../recipes/d.jsonl"
    assert moved["model"]["name_or_path"] == "m"


# -- overrides ----------------------------------------------------------------------------------------------------------


def test_overrides_are_typed_like_a_recipe(load: Any) -> None:
    recipe = load(
        BASE,
        "training.learning_rate=1e-5",
        "training.report_to=none",
        "training.eval_strategy=no",
        "data.packing=false",
        "model.revision=",
        "data.eval={h: {fraction: .5}}",
        "training.optim_args='1'",
    ).recipe
    assert recipe.training.learning_rate == 1e-5
    assert recipe.training.report_to == "none"
    assert recipe.training.eval_strategy == "no"
    assert recipe.data.packing is False
    assert recipe.model.revision is None
    assert recipe.data.eval["h"].fraction == 0.5
    assert recipe.training.optim_args == "1"


@pytest.mark.parametrize("text", ["*.jsonl", "a: b", "@x", "x # y", "&a", "a=b", "%x", "!x"])
def test_an_override_needs_no_quoting_for_yaml(load: Any, text: str) -> None:
    assert load(BASE, f"data.train.0.path={text}").recipe.data.train[0].path == text


def test_inline_templates_are_texts(load: Any) -> None:
    assert load(BASE, "data.chat_template={{ messages }}").recipe.data.chat_template == "{{ messages }}"


def test_overrides_address_list_entries(load: Any) -> None:
    text = BASE.replace("data: d.jsonl", "data: {train: [{path: a, weight: 2}, b]}")
    recipe = load(text, "data.train.0.path=x", "data.train.2=c", "data.train.1.split=test").recipe
    assert [(s.path, s.weight, s.split) for s in recipe.data.train] == [
        ("x", 2.0, "train"),
        ("b", 1.0, "test"),
        ("c", 1.0, "train"),
    ]
    assert [s.path for s in load(text, "data.train=z").recipe.data.train] == ["z"]
    assert load(text, "curation.0={name: s3ft, judge: {}}").recipe.curation[0].name == "s3ft"


def test_overrides_of_methods(load: Any) -> None:
    text = BASE + "objective: {name: sft_go, mixing_weight: 0.5}\n"
    assert load(text, "objective=cross_entropy").recipe.objective.name == "cross_entropy"
    assert load(text, "objective.name=cross_entropy").recipe.objective.name == "cross_entropy"
    assert load(text, "objective=sft_go").recipe.objective.options.mixing_weight == 0.5
    assert load(text, "objective.mixing_weight=0").recipe.objective.options.mixing_weight == 0.0


def test_names_with_dots_are_found_in_overrides(load: Any) -> None:
    text = BASE.replace("data: d.jsonl", "data: {train: a, eval: {v1.0: b}}")
    assert load(text, "data.eval.v1.0.path=c").recipe.data.eval["v1.0"].path == "c"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.learning_rat=1", ["unknown key 'learning_rat' in training", "did you mean learning_rate?"]),
        ("traning.seed=1", ["unknown key 'traning'", "did you mean training?"]),
        ("training.seed=x", ["expected a whole number, found the text 'x'"]),
        ("data.train.3.path=x", ["data.train has no entry 3", "from 0 to 1"]),
        ("data.train.path=x", ["data.train is a list", "data.train.0.path="]),
        ("data.train.-1.path=x", ["data.train is a list"]),
        ("seed", ["key=value"]),
        ("=3", ["key=value"]),
        ("training..seed=3", ["key=value"]),
        ("extends=x.yaml", ["extends cannot be overridden"]),
        ("data=[", ["not valid YAML"]),
        ("data={a: 1, a: 2}", ["stands twice"]),
        ("objective=cross_entrop", ["did you mean cross_entropy?"]),
        ("training=3", ["training: expected keys with values, found the number 3"]),
        ("model=null", ["model is missing"]),
    ],
)
def test_wrong_overrides(load: Any, override: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load(BASE, override)
    fails(caught, *parts)
    if override != "model=null":
        assert f"command line: {override}" in str(caught.value)


def test_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(BASE)
    code = f"""
import sys
from pathlib import Path
from sftgo_cli.recipe.load import load_recipe
from sftgo_cli.errors import UserError
class Tables:
    def names(self, section): return []
    def options_of(self, section, name): return None
try:
    load_recipe(Path({str(tmp_path / "r.yaml")!r}), [], Tables())
except UserError:
    pass
print(sorted({{"torch", "transformers", "datasets", "numpy", "pyarrow"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_deepest_allowed_values_load_and_dump(load: Any) -> None:
    deep = "[" * 97 + "]" * 97
    key = "training.lr_scheduler_kwargs." + ".".join("a" * 90)
    resolved = load(BASE, f"training.lr_scheduler_kwargs={{k: {deep}}}", f"{key}={deep}").resolved
    kwargs = resolved["training"]["lr_scheduler_kwargs"]
    assert set(kwargs) == {"k", "a"}
    assert to_yaml(resolved).count("[]") == to_yaml({"k": kwargs}).count("[]") + 2  # and curation, tasks


def test_overrides_that_choose_a_method_come_first(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\ndata: d.jsonl\ntuning: full\ntraining: {output_dir: runs/x}\n")
    from sftgo_cli import methods

    one = load_recipe(path, ["tuning.r=4", "tuning=lora"], methods)
    other = load_recipe(path, ["tuning=lora", "tuning.r=4"], methods)
    assert one.recipe == other.recipe
    assert one.recipe.tuning.options.r == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h.jsonl", {"heldout": ("h.jsonl", None)}),
        ("0.1", {"heldout": (None, 0.1)}),
        ("{faq: 0.2, other: o.jsonl}", {"faq": (None, 0.2), "other": ("o.jsonl", None)}),
        ("{faq: {fraction: 0.2}}", {"faq": (None, 0.2)}),
    ],
)
def test_short_forms_of_evaluation_sets(
    text: str, expected: dict[str, tuple[str | None, float | None]], load: Any
) -> None:
    for recipe in (
        load(BASE.replace("data: d.jsonl", f"data: {{train: d, eval: {text}}}")).recipe,
        load(BASE.replace("data: d.jsonl", "data: {train: d}"), f"data.eval={text}").recipe,
    ):
        assert {name: (source.path, source.fraction) for name, source in recipe.data.eval.items()} == expected


@pytest.mark.parametrize("text", ["1.5", "0", "-0.1", "true", "[a.jsonl]"])
def test_what_is_no_evaluation_set_is_refused(text: str, load: Any) -> None:
    with pytest.raises(UserError, match=r"data\.eval"):
        load(BASE.replace("data: d.jsonl", f"data: {{train: d, eval: {text}}}"))


def test_a_source_s_own_template_and_what_asks_for_answers(load: Any) -> None:
    own = "data: {train: {path: d, chat_template: chatml}, eval: {h: {path: h, chat_template: plain}}}"
    recipe = load(BASE.replace("data: d.jsonl", own)).recipe
    assert (recipe.data.train[0].chat_template, recipe.data.eval["h"].chat_template) == ("chatml", "plain")
    for more, path in {
        "curation: [ssr]\n": r"data\.train\.0\.chat_template: curation asks",
        "evaluation: {answers: {h: {judge: numeric}}}\n": r"data\.eval\.h\.chat_template: evaluation\.answers asks",
    }.items():
        with pytest.raises(UserError, match=path):
            load(BASE.replace("data: d.jsonl", own) + more)
