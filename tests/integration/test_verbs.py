"""Every verb on real small runs: what it prints, writes and refuses."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sftgo_cli import methods, pipeline
from sftgo_cli.builtin import model_folder
from sftgo_cli.cli.main import VERBS, main
from sftgo_cli.report.cache_list import short_path
from sftgo_cli.run_dir import RESOLVED


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """Standard output and error of one command that must exit with `code`."""
    capsys.readouterr()
    assert main(list(arguments)) == code, capsys.readouterr().err
    result = capsys.readouterr()
    return result.out, result.err


def test_root_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, "--help")
    assert all(re.search(rf"^  {verb} ", out, re.M) for verb in VERBS)
    assert printed(capsys, "--version")[0].startswith("sftgo ")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_imports_nothing_heavy(verb: str) -> None:
    code = (
        f"import sys; from sftgo_cli.cli.main import main; code = main([{verb!r}, '--help']); "
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules); "
        "sys.exit(code or (9 if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert f"sftgo {verb}" in done.stdout


def test_help_answers_at_once() -> None:
    """What takes time is what is imported; `benchmarks/startup.py` measures the seconds."""
    code = "import sys; from sftgo_cli.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    for verb in (["--help"], ["train", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *verb], capture_output=True, text=True, check=True)
        assert not {"torch", "transformers", "datasets", "numpy", "pyarrow", "peft"} & set(done.stderr.split())


def test_unknown_verbs_and_options_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean train?" in printed(capsys, "trian", code=2)[1]
    _, err = printed(capsys, "train", "--nope", code=2)
    assert err.count("\n") == 1
    assert "--nope" in err
    assert "Missing argument" in printed(capsys, "train", code=2)[1]


def test_validate_checks_and_estimates(recipe: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, _ = printed(capsys, "validate", str(recipe), f"training.output_dir={tmp_path / 'new'}")
    assert "rows kept" in out
    assert "steps: 6" in out
    assert "parameters: 1,098,880, trainable 1,098,880" in out
    assert "valid" in out
    assert not (tmp_path / "new").exists()
    dry, _ = printed(
        capsys, "train", str(recipe), "--dry-run", "tuning=lora", f"training.output_dir={tmp_path / 'new'}"
    )
    trainable = re.search(r"trainable ([\d,]+)", dry)
    assert trainable is not None
    # all-linear at r 16: r (inputs + outputs) of q, k, v, o, gate, up and down, in every layer.
    config = AutoConfig.from_pretrained(model_folder("tiny"))
    hidden, inner = config.hidden_size, config.intermediate_size
    key_value = config.num_key_value_heads * config.head_dim
    sizes = [(hidden, hidden)] * 2 + [(hidden, key_value)] * 2 + [(hidden, inner)] * 3
    expected = config.num_hidden_layers * sum(16 * (one + other) for one, other in sizes)
    assert int(trainable[1].replace(",", "")) == expected


def test_score_prints_groups_and_writes_columns(
    recipe: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from datasets import load_from_disk

    out, _ = printed(capsys, "score", str(recipe), "--output", str(tmp_path / "columns"))
    assert "most important" in out
    assert out.count("rows kept") == out.count("most typical tokens") == 1
    dataset = load_from_disk(str(tmp_path / "columns"))
    assert len(dataset) == 48
    types = {name: str(feature) for name, feature in dataset.features.items()}
    assert types["input_ids"] == types["labels"] == "List(Value('int32'))"
    assert types["token_scores"] == "List(Value('float32'))"
    assert types["group_ids"] == "List(Value('int8'))"
    for row in dataset:
        assert row["labels"][0] == -100
        for label, token, group, score in zip(
            row["labels"], row["input_ids"], row["group_ids"], row["token_scores"], strict=True
        ):
            assert label in (-100, token)
            assert (label == -100) == (group == -1) == math.isnan(score)
    assert "not empty" in printed(capsys, "score", str(recipe), "--output", str(tmp_path / "columns"), code=2)[1]


def test_changing_the_fraction_never_rescores(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, first = printed(capsys, "score", str(recipe), "scoring=random", "scoring.seed=77")
    assert "scoring 48 rows with random" in first
    _, second = printed(
        capsys, "score", str(recipe), "scoring=random", "scoring.seed=77", "grouping.important_fraction=0.5"
    )
    assert "scoring" not in second


def test_inspect_shows_rows_and_writes_a_page(recipe: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, _ = printed(capsys, "inspect", str(recipe), "--rows", "2")
    assert "«" in out  # the most important words, marked where there is no color
    page = tmp_path / "tokens.html"
    printed(capsys, "inspect", str(recipe), "--html", str(page))
    text = page.read_text()
    assert "<html" in text
    assert "prefers-color-scheme" in text
    assert not re.search(r"(src|href)=[\"']https?://", text)
    assert "there is no row" in printed(capsys, "inspect", str(recipe), "--row", "nope", code=2)[1]
    assert "did you mean heldout?" in printed(capsys, "inspect", str(recipe), "--set", "helout", code=2)[1]


def test_a_finished_run_run_again_does_nothing(recipe: Path, runs: dict[str, Path], capsys: Any) -> None:
    before = (runs["full"] / "metrics.jsonl").read_text()
    _, err = printed(capsys, "train", str(recipe), f"training.output_dir={runs['full']}")
    assert "nothing to do" in err
    assert (runs["full"] / "metrics.jsonl").read_text() == before


def test_metrics_have_every_key(runs: dict[str, Path]) -> None:
    lines = [json.loads(line) for line in (runs["full"] / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["event"] == "train"]
    evaluations = [line for line in lines if line["event"] == "eval"]
    wanted = (
        "loss ce_loss worst_group_loss worst_group_share/0 worst_group_share/1 tied_share group_loss/0 group_loss/1 "
        "group_tokens/0 group_tokens/1 mixing_weight learning_rate grad_norm tokens_per_second epoch step samples_seen "
        "tokens_seen event"
    )
    assert all(set(line) == set(wanted.split()) for line in train)
    assert [line["step"] for line in train] == [1, 2, 4, 6]
    per_set = "loss perplexity token_accuracy num_tokens num_rows worst_group_loss".split()
    groups = [f"{name}/{group}" for name in ("group_loss", "group_tokens") for group in (0, 1)]
    keys = {f"eval_heldout_{name}" for name in [*per_set, *groups]} | {"event", "epoch", "step"}
    assert all(set(line) == keys for line in evaluations)
    for line in train:
        mixed = 0.1 * line["ce_loss"] + 0.9 * line["worst_group_loss"]
        assert line["loss"] == pytest.approx(mixed, rel=1e-12)
        assert line["worst_group_share/0"] + line["worst_group_share/1"] == pytest.approx(1.0)
    assert evaluations[-1]["eval_heldout_loss"] < evaluations[0]["eval_heldout_loss"]


def test_run_folder_loads_with_transformers_alone(runs: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(runs["full"])
    tokenizer = AutoTokenizer.from_pretrained(runs["full"])
    assert tokenizer.chat_template
    assert model.num_parameters() == 1_098_880
    names = {path.name for path in runs["full"].rglob("*")}
    assert names >= {"recipe.yaml", "recipe.resolved.yaml", "environment.json", "stages.json", "README.md"}
    assert not any(path.suffix in (".bin", ".pt", ".pth", ".pkl") for path in runs["full"].rglob("*"))
    assert str(runs["full"].parent) not in (runs["full"] / "README.md").read_text()


@pytest.mark.parametrize("name", ["full", "lora"])
def test_eval_equals_cross_entropy_by_transformers(name: str, runs: dict[str, Path], capsys: Any) -> None:
    out, _ = printed(capsys, "eval", str(runs[name]), "--json")
    result = json.loads(out)["heldout"]
    assert json.loads((runs[name] / "evaluation" / "heldout.json").read_text()) == result
    logged = [json.loads(line) for line in (runs[name] / "metrics.jsonl").read_text().splitlines()][-1]
    assert result["loss"] == pytest.approx(logged["eval_heldout_loss"], rel=1e-6)
    loaded = pipeline.load(runs[name] / RESOLVED, [])
    rows = pipeline.prepare(loaded, lambda line: None).evaluation["heldout"].datasets[0]
    if name == "full":
        model = AutoModelForCausalLM.from_pretrained(runs[name])
    else:
        from peft import AutoPeftModelForCausalLM

        model = AutoPeftModelForCausalLM.from_pretrained(runs[name])
    total, count, correct = 0.0, 0, 0
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
            labels = torch.tensor(row["labels"])[1:]
            total += functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum").item()
            count += int((labels != -100).sum())
            correct += int((logits.argmax(-1) == labels).sum())
    assert result["num_tokens"] == count
    assert result["num_rows"] == len(rows)
    assert result["loss"] == pytest.approx(total / count, rel=1e-5)
    assert result["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert result["token_accuracy"] == pytest.approx(correct / count)
    split = sum(result[f"group_loss/{g}"] * result[f"group_tokens/{g}"] for g in (0, 1))
    assert split / count == pytest.approx(result["loss"], rel=1e-12)


def test_eval_does_not_depend_on_the_batch_size(runs: dict[str, Path], capsys: Any) -> None:
    one = json.loads(printed(capsys, "eval", str(runs["full"]), "--json", "training.per_device_eval_batch_size=1")[0])
    many = json.loads(printed(capsys, "eval", str(runs["full"]), "--json", "training.per_device_eval_batch_size=7")[0])
    for key, value in one["heldout"].items():
        if isinstance(value, float):
            assert value == pytest.approx(many["heldout"][key], rel=1e-6), key


def test_eval_of_a_recipe_means_its_run_or_the_base(recipe: Path, runs: dict[str, Path], capsys: Any) -> None:
    folder = f"training.output_dir={runs['full']}"
    trained = json.loads(printed(capsys, "eval", str(recipe), folder, "--json")[0])["heldout"]
    base = json.loads(printed(capsys, "eval", str(recipe), folder, "--base", "--json")[0])["heldout"]
    first = json.loads((runs["full"] / "metrics.jsonl").read_text().splitlines()[0])
    assert base["loss"] == pytest.approx(first["eval_heldout_loss"], rel=1e-6)
    assert trained["loss"] < base["loss"]


def test_compare_puts_runs_side_by_side(runs: dict[str, Path], capsys: Any) -> None:
    out, _ = printed(capsys, "compare", str(runs["lora"]), str(runs["full"]))
    for word in ("before training", "cross_entropy", "sft_go", "worst group", "One run per setting"):
        assert word in out
    assert "give two or more" in printed(capsys, "compare", str(runs["lora"]), code=2)[1]
    assert "not a run folder" in printed(capsys, "compare", str(runs["lora"]), "/", code=2)[1]


def test_generate_answers_a_prompt_and_a_file(runs: dict[str, Path], capsys: Any, tmp_path: Path) -> None:
    out, _ = printed(capsys, "generate", str(runs["full"]), "-p", "What is 3 plus 4?", "--max-new-tokens", "12")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": n, "prompt": f"What is {n} plus 4?"}) + "\n" for n in range(3, 8)))
    written = tmp_path / "answers.jsonl"
    arguments = [
        "generate",
        str(runs["full"]),
        "--input",
        str(prompts),
        "--output",
        str(written),
        "--max-new-tokens",
        "12",
    ]
    printed(capsys, *arguments, "--batch-size", "3")
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert [row["id"] for row in rows] == [3, 4, 5, 6, 7]
    assert rows[0]["completion"] == out.strip()  # batching and padding change nothing
    assert "give a prompt" in printed(capsys, "generate", str(runs["full"]), code=2)[1]
    assert "no text in column 'question'" in printed(capsys, *arguments, "--column", "question", code=2)[1]


def test_merge_gives_the_adapters_model(runs: dict[str, Path], capsys: Any, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    printed(capsys, "merge", str(runs["lora"]), "--output", str(tmp_path / "merged"))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    adapter = AutoPeftModelForCausalLM.from_pretrained(runs["lora"]).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, adapter(ids).logits, atol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template
    assert "no adapter" in printed(capsys, "merge", str(runs["full"]), "--output", str(tmp_path / "two"), code=2)[1]
    assert not (tmp_path / "two").exists()


def test_schema_methods_doctor_and_cache(recipe: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # a process of several test workers has it, and tables fold then
    schema = json.loads(printed(capsys, "schema")[0])
    assert {"model", "data", "objective"} <= set(schema["properties"])
    listed, _ = printed(capsys, "methods")
    assert all(word in listed for word in ("tfidf", "random", "column", "sft_go", "cross_entropy", "full", "lora"))
    assert "mixing_weight: 0.9" in printed(capsys, "methods", "objective")[0]
    one = printed(capsys, "methods", "lora")[0]
    assert re.search(r"modules_to_save: null +Modules trained whole", one)
    assert "use_dora: false" in one
    everything = "".join(printed(capsys, "methods", section)[0] for section in methods.PACKAGES)
    assert not re.search(r"PydanticUndefined|\bNone\b|: True|: False|…", everything)
    assert "did you mean scoring?" in printed(capsys, "methods", "scorin", code=2)[1]
    assert "nothing is missing" in printed(capsys, "doctor", str(recipe))[0]
    printed(capsys, "score", str(recipe), "scoring=random", "scoring.seed=4711")
    listed = json.loads(printed(capsys, "cache", "ls", "--json")[0])["entries"]
    keys = [entry["key"] for entry in listed if entry["stage"] == "score"]
    assert str(recipe) in {entry["recipe"] for entry in listed}
    lines = printed(capsys, "cache", "ls")[0]
    assert all(f" {key[:12]} " in lines for key in keys)
    assert short_path(str(recipe)) in lines  # relative, where the tests run in a folder above it
    reasons = [json.loads(printed(capsys, "cache", "why", key)[0]) for key in keys]
    mine = next(
        key
        for key, reason in zip(keys, reasons, strict=True)
        if reason["ingredients"]["options"] == {"seed": 4711} and len(reason["ingredients"]["rows"]) == 1
    )
    printed(capsys, "cache", "rm", mine)
    assert mine[:12] not in printed(capsys, "cache", "ls")[0]
    assert "no cached result" in printed(capsys, "cache", "why", mine, code=2)[1]


def test_init_writes_a_recipe_that_validates(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed(capsys, "init", "recipe.yaml")
    assert pipeline.load(Path("recipe.yaml"), []).recipe.objective.name == "sft_go"
    printed(capsys, "validate", "recipe.yaml", "data.train.0.max_samples=20")
    assert "the file exists" in printed(capsys, "init", "recipe.yaml", code=2)[1]
    assert "objective:" in printed(capsys, "init", "--from", "quickstart")[0]
    assert "did you mean quickstart?" in printed(capsys, "init", "--from", "quikstart", code=2)[1]
