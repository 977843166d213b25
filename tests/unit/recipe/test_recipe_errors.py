"""Faults of a recipe: each is found, in plain words, at its place, and all at once."""

from __future__ import annotations

from typing import Any

import pytest

from sftgo_cli.errors import UserError, UserErrors

SOUND = """\
model: {name_or_path: m}
data:
  train: [{path: d}]
  eval: {h: {path: e}}
training:
  output_dir: r
"""


def lines_of(load: Any, text: str, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(text, *overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def only(load: Any, text: str, *overrides: str) -> str:
    lines = lines_of(load, text, *overrides)
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("base_model: x", "unknown key 'base_model'", "did you mean model.name_or_path?"),
        ("max_seq_length: 3", "unknown key 'max_seq_length'", "did you mean data.max_length?"),
        ("cutoff_len: 3", "unknown key 'cutoff_len'", "did you mean data.max_length?"),
        ("micro_batch_size: 3", "unknown key", "did you mean training.per_device_train_batch_size?"),
        ("learning_rate: 3", "unknown key 'learning_rate'", "did you mean training.learning_rate?"),
        ("learning-rate: 3", "unknown key 'learning-rate'", "did you mean training.learning_rate?"),
        ("learning_rat: 3", "unknown key 'learning_rat'", "did you mean training.learning_rate?"),
        ("mixing_weight: 3", "unknown key 'mixing_weight'", "did you mean objective.mixing_weight (of sft_go)?"),
        ("Grouping: {}", "unknown key 'Grouping'", "did you mean grouping?"),
        ("bf16: true", "bf16 is refused", "set model.dtype: bfloat16"),
        ("evaluaton: {}", "unknown key 'evaluaton'", "did you mean evaluation?"),
        ("zzzzqqq: 1", "unknown key 'zzzzqqq'", "choose from model, data, "),
    ],
)
def test_unknown_keys_at_the_top(load: Any, line: str, what: str, fix: str) -> None:
    error = only(load, SOUND + line + "\n")
    assert what in error
    assert "recipe.yaml:7:1 - " + fix in error


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("training.label_smoothing_factor=0.1", "the loss is exactly the objective's"),
        ("training.bf16=true", "set model.dtype: bfloat16"),
        ("training.lr=0.1", "did you mean training.learning_rate?"),
        ("training.max_length=3", "did you mean data.max_length?"),
        ("model.load_in_4bit=true", "did you mean model.quantization: nf4?"),
        ("data.train.0.weigth=3", "did you mean weight?"),
        ("data.eval.h.fration=0.3", "did you mean fraction?"),
        ("tuning.lora_r=3", "did you mean tuning.r?"),
        ("tuning.rr=3", "did you mean"),
        ("objective.mixing_wieght=0.3", "did you mean mixing_weight?"),
    ],
)
def test_unknown_keys_in_sections(load: Any, override: str, fix: str) -> None:
    assert fix in only(load, SOUND, override)


def test_an_option_of_another_method_of_the_section(load: Any) -> None:
    error = only(load, SOUND + "objective: {name: cross_entropy, mixing_weight: 0.5}\n")
    assert (
        "recipe.yaml:7:34 - objective.mixing_weight (of sft_go) is there, but objective is cross_entropy here" in error
    )


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("training.learning_rate=abc", "training.learning_rate: expected a number, found the text 'abc'"),
        ("training.learning_rate=true", "expected a number, found true"),
        ("training.learning_rate=[1]", "expected a number, found a list"),
        ("training.learning_rate={a: 1}", "expected a number, found keys with values"),
        ("training.weight_decay=", "expected a number, found nothing"),
        ("training.seed=1.5", "expected a whole number, found the number 1.5"),
        ("training.seed=4294967296", "must be less than 4.29497e+09"),
        ("training.max_steps=1e3", "found the number 1e3 - command line: training.max_steps=1e3 - write 1000"),
        ("training.seed='42'", "found the text '42' - command line: training.seed='42' - remove the quotes"),
        ("data.packing=yes", "data.packing: expected true or false, found the text 'yes'"),
        ("data.packing=1", "expected true or false, found the number 1"),
        ("model.revision=true", "model.revision: expected a text, found true"),
        ("training.report_to=true", "training.report_to: expected a text or a list, found true"),
        ("data.eval.h=[1]", "data.eval.h: expected keys with values, found a list"),
        ("data.on_overlong=truncat", "expected one of truncate, drop, error, found the text 'truncat'"),
        ("training.warmup_ratio=1.5", "training.warmup_ratio: must be at most 1, found the number 1.5"),
        ("training.num_train_epochs=0", "must be greater than 0"),
        ("training.num_train_epochs=.inf", "must be a finite number"),
        ("data.max_length=1", "must be at least 2"),
        ("data.max_length=99999999999999999999", "the number is too large"),
        ("objective.mixing_weight=1.1", "objective.mixing_weight: must be at most 1"),
        ("objective.name=3", "objective.name: no such method, found the number 3"),
        ("objective=[1]", "expected a method's name or keys with values, found a list"),
        ("curation.0={judge: {}}", "curation.0.name is missing"),
        ("curation.0={name: s3ft}", "curation.0.judge is missing"),
        ("curation.0={name: s3ft, judge: {timeot: 3}}", "unknown key 'timeot' in curation.0.judge"),
        ("training.output_dir=", "training.output_dir: expected a text, found nothing"),
        ("training.output_dir=' '", "training.output_dir: ' ' must not be empty"),
        ("training.run_name=../x", "training.run_name: '../x' is no safe name"),
        ("data.eval.h.path=''", "must not be empty"),
        ("data.train=[]", "data.train: needs at least 1 entry"),
        ("data={train: d, eval: {../../x: e}}", "the name '../../x' is no safe name"),
        ("data={train: d, eval: {.h: e}}", "the name '.h' is no safe name"),
        ("data={train: d, eval: {a/b: e}}", "the name 'a/b' is no safe name"),
        ("data={train: d, eval: {'': e}}", "the name '' is no safe name"),
        ("grouping={segments: {num_groups: 0}}", "grouping.segments.num_groups: must be at least 1"),
        ("grouping={column: {name: g, num_groups: 128}}", "grouping.column.num_groups: must be at most 127"),
        ("grouping={column: {name: g}}", "grouping.column.num_groups is missing"),
        ("grouping={column: {name: g, num_groups: 2, nam: h}}", "unknown key 'nam' in grouping.column"),
        ("grouping={roles: [[asistant]]}", "did you mean assistant?"),
        ("grouping={quantiles: [1.0]}", "grouping.quantiles.0: must be less than 1"),
        ("grouping={thresholds: [.inf]}", "grouping.thresholds.0: must be a finite number"),
    ],
)
def test_wrong_values(load: Any, override: str, what: str) -> None:
    assert what in only(load, SOUND, override)


def test_one_nearest_choice_is_suggested(load: Any) -> None:
    assert "did you mean truncate?" in only(load, SOUND, "data.on_overlong=truncat")


def test_missing_keys_stand_at_their_section(load: Any) -> None:
    lines = lines_of(load, "model: {dtype: float32}\ndata: {eval: {}}\n")
    assert [line.split(" - ")[0] for line in lines] == [
        "model.name_or_path is missing",
        "training is missing",
        "data.train is missing",
    ]
    assert all("recipe.yaml:1:1" in line for line in lines[:2])
    assert "recipe.yaml:2:1" in lines[2]


EVALUATED = "training.eval_strategy=steps"
CONTRADICTIONS = [
    (["grouping={boundaries: [0.2], important_fraction: 0.3}"], "exclude each other"),
    (["grouping={boundaries: [0.5, 0.5]}"], "must increase strictly"),
    (["grouping={boundaries: [0.5, 0.2]}"], "must increase strictly"),
    (["grouping={boundaries: []}"], "boundaries is empty"),
    (["grouping={boundaries: [0.2], quantiles: [0.2]}"], "quantiles and grouping.boundaries exclude each other"),
    (["grouping={thresholds: [0.2], important_fraction: 0.2}"], "exclude each other"),
    (["grouping={roles: [[assistant]], segments: {}}"], "segments and grouping.roles exclude each other"),
    (["grouping={quantiles: [0.5, 0.2]}"], "quantiles must increase strictly"),
    (["grouping={thresholds: [1, 0.5]}"], "thresholds must increase strictly"),
    (
        ["grouping={thresholds: []}"],
        "thresholds is empty - command line: grouping={thresholds: []} - give at least one s",
    ),
    ([f"grouping={{thresholds: {list(range(127))}}}"], "makes more than 127 groups"),
    (["grouping={roles: []}"], "roles is empty"),
    (["grouping={roles: [[assistant], []]}"], "grouping.roles.1 is empty"),
    (["grouping={roles: [[user], [assistant, user]]}", "data.train_on=all"], "names 'user' twice"),
    (["grouping={roles: [[user], [assistant]]}"], "no token is in grouping.roles.0"),
    (["grouping={segments: {num_groups: 3}, invert: true}"], "grouping.invert has no effect"),
    (["grouping={column: {name: g, num_groups: 3}, special_tokens: scored}"], "special_tokens has no effect"),
    (["data={eval: {h: {path: x, fraction: 0.1}}}"], "both path and fraction"),
    (["data={eval: {g: {}}}"], "neither path nor fraction"),
    (["data={eval: {g: {fraction: 0.1, split: test}}}"], "split has no effect"),
    (["data={eval: {f: {fraction: 0.5}, g: {fraction: 0.5}}}"], "sum to 1"),
    (["evaluation.sets=[hh]"], "unknown set 'hh'"),
    (["evaluation.tasks=[mmlu, arc_challenge]"], "tasks cannot be run here (mmlu, arc_challenge)"),
    (["evaluation.sets=[h, h]"], "'h' twice"),
    (["data.eval=null", "training.eval_strategy=epoch"], "needs an evaluation set"),
    (["data.eval=null", "training.early_stopping_patience=2"], "needs an evaluation set"),
    (["data.eval=null", "training.load_best_model_at_end=true"], "needs an evaluation set"),
    (["data.eval=null", "training.eval_on_start=true"], "needs an evaluation set"),
    (["training.early_stopping_patience=2", "training.eval_strategy=no"], "needs evaluation during training"),
    (["training.load_best_model_at_end=true", EVALUATED], "evaluation is by 'steps' but saving by 'epoch'"),
    (["training.load_best_model_at_end=true", "training.save_strategy=steps"], "evaluation is by 'epoch'"),
    (
        [
            "training.load_best_model_at_end=true",
            EVALUATED,
            "training.save_strategy=steps",
            "training.save_steps=50",
            "training.eval_steps=20",
        ],
        "save_steps 50 is no multiple of eval_steps 20",
    ),
    (["training={warmup_ratio: 0.1, warmup_steps: 3}"], "exclude each other"),
    (["training.max_steps=0"], "trains nothing"),
    (["training.train_sampling_strategy=group_by_length"], "has no effect"),
    (["training.dataloader_prefetch_factor=2"], "needs data workers"),
    (["training.dataloader_persistent_workers=true"], "needs data workers"),
    (["training.metric_for_best_model=eval_loss"], "is no metric of a set"),
]


@pytest.mark.parametrize(("overrides", "what"), CONTRADICTIONS)
def test_contradictions(load: Any, overrides: list[str], what: str) -> None:
    error = only(load, SOUND, *overrides)
    assert what in error
    assert "command line: " in error


@pytest.mark.parametrize(
    "overrides",
    [
        ["grouping={boundaries: [0.2, 0.5]}"],
        ["grouping={quantiles: [0.2, 0.5], invert: true, special_tokens: scored}"],
        ["grouping={thresholds: [-1, 0, 2.5], special_tokens: unimportant}"],
        [f"grouping={{thresholds: {list(range(126))}}}"],
        ["grouping={roles: [[system, user], [assistant]]}", "data.train_on=all"],
        ["grouping={roles: [[assistant, user]]}"],
        ["grouping={segments: {}}"],
        ["grouping={column: {name: g, num_groups: 127}, special_tokens: important, invert: false}"],
        ["data={eval: {f: {fraction: 0.5}, g: {fraction: 0.4}}}"],
        ["training.load_best_model_at_end=true"],
        ["training.load_best_model_at_end=true", EVALUATED, "training.save_strategy=steps", "training.eval_steps=250"],
        ["training.train_sampling_strategy=group_by_length", "data.packing=false"],
        ["training.dataloader_prefetch_factor=2", "training.dataloader_num_workers=1"],
        ["training.metric_for_best_model=eval_h_loss", "evaluation.sets=[h]"],
        ["data.eval=null", "training.eval_strategy=no"],
        ["training.max_steps=-1", "training.warmup_steps=0"],
    ],
)
def test_what_looks_similar_and_is_fine(load: Any, overrides: list[str]) -> None:
    assert load(SOUND, *overrides).recipe.training.output_dir == "r"


def test_everything_is_reported_at_once_in_order(load: Any) -> None:
    text = """\
modle: x
model: {name_or_path: m, torch_dtype: bf16}
data:
  train: [{path: d, weigth: 2}]
  max_length: "5"
  train: [e]
objective: {name: sft_goo}
scoring: {unit: letters}
grouping: {boundaries: [0.5, 0.3]}
training:
  warmup_ratio: 0.1
  warmup_steps: 5
  seed: abc
"""
    with pytest.raises(UserErrors) as caught:
        load(text, "training.x=1")
    errors = caught.value.errors
    assert all(error.what and error.where and error.fix for error in errors)
    assert [error.where.rpartition("recipe.yaml:")[2] for error in errors] == [
        "1:1",
        "2:26",
        "4:21",
        "5:15",
        "6:3",
        "7:19",
        "8:17",
        "9:12",
        "10:1",
        "12:3",
        "13:9",
        "command line: training.x=1",
    ]


def test_a_faulty_value_makes_no_second_fault(load: Any) -> None:
    assert "fraction" in only(load, SOUND, "data.eval.g={fraction: abc}")
    assert "save_strategy" in only(load, SOUND, "training.load_best_model_at_end=true", "training.save_strategy=stepz")


def test_yaml_faults_and_schema_faults_come_together(load: Any) -> None:
    lines = lines_of(load, SOUND + "sede: 1\nmodel: {name_or_path: n}\n", "oops")
    assert [line.split(" - ")[0] for line in lines] == [
        "unknown key 'sede'",
        "the key 'model' stands twice",
        "an override reads key=value",
    ]
