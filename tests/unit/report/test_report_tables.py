"""Data, score, evaluation and comparison tables hold the right numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from sftgo_cli.data.holdout import Leakage
from sftgo_cli.data.preparation_report import DroppedRows, LostContent, PreparationReport
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.grouping_section import GroupingSection
from sftgo_cli.report.data_notes import data_notes
from sftgo_cli.report.data_table import data_table
from sftgo_cli.report.group_names import group_labels, grouping_text
from sftgo_cli.report.run_tables import RunSummary, comparison_table, evaluation_table, in_pieces
from sftgo_cli.report.score_table import GroupSummary, asked_shares, score_statistics, score_table
from sftgo_cli.report.visible_text import readable_token

FIRST = PreparationReport(
    source="train.0",
    format="alpaca",
    rows_in=1010,
    rows_kept=1000,
    dropped={"empty_answer": DroppedRows(7, ["a:1", "a:2"]), "answer_cut": DroppedRows(3, ["a:5", "a:6", "a:9"])},
    rows_truncated=4,
    tokens=200_000,
    supervised_tokens=50_000,
    tokens_cut=321,
    supervised_cut=123,
    length_min=3,
    length_p50=180.0,
    length_p95=400.0,
    length_max=512,
    ignored_columns=["category", "[bold]"],
    left_out={"tool descriptions": LostContent(2, 2, ["b.jsonl:1", "b.jsonl:2"], False)},
    notes=["The prompt differs."],
)
SECOND = replace(FIRST, source="[red]x", dropped={}, rows_in=1000, supervised_tokens=25_000, left_out={})


def text_of(table: Any, width: int = 200) -> list[list[str]]:
    """The table as printed, every line split into cells at two or more spaces."""
    out = Console(file=StringIO(), width=width)
    out.print(table)
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines if line.strip()]


def test_data_table_side_by_side() -> None:
    rows = {cells[0]: cells[1:] for cells in text_of(data_table([FIRST, SECOND]))}
    assert ["train.0", "[red]x"] in text_of(data_table([FIRST, SECOND]))
    assert rows["rows in"] == ["1,010", "1,000"]
    assert rows["rows kept"] == ["1,000", "1,000"]
    assert rows["rows dropped"] == ["10", "0"]
    assert rows["empty answer"] == ["7", "0"]
    assert rows["answer cut"] == ["3", "0"]
    assert rows["supervised tokens"] == ["50,000", "25,000"]
    assert rows["share of tokens"] == ["25.0%", "12.5%"]
    assert rows["tokens cut"] == ["321", "321"]
    assert [rows[f"length {name}"][0] for name in ("min", "p50", "p95", "max")] == ["3", "180", "400", "512"]


def test_many_sources_go_below_each_other() -> None:
    reports = [replace(FIRST, source=f"train.{k}", rows_in=1010 + k) for k in range(6)]
    lines = {cells[0]: cells for cells in text_of(data_table(reports))}
    assert [lines[f"train.{k}"][1] for k in range(6)] == [f"{1010 + k:,}" for k in range(6)]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("width", [80, 60])
def test_no_number_of_the_data_table_is_ever_cut(number: int, width: int) -> None:
    names = [f"train.{k}" for k in range(number - 1)] + ["a-very-long-name-of-an-evaluation-set"]
    large = {
        "rows_in": 123_456_789,
        "rows_kept": 123_456_779,
        "tokens": 98_765_432_101,
        "supervised_tokens": 4_321_098_765,
    }
    reports = [replace(FIRST, source=name, **large) for name in names]
    leaks = {names[-1]: Leakage(1000, 77_345, 66_889, ("r1",))}
    out = Console(file=StringIO(), width=width)
    out.print(data_table(reports, leaks))
    printed = out.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in printed.splitlines()) <= width
    assert "…" not in printed
    for text in ("123,456,789", "98,765,432,101", "4,321,098,765"):
        assert printed.count(text) == number
    assert (printed.count("77,345"), printed.count("66,889")) == (1, 1)
    assert all(f"train.{k}" in printed for k in range(number - 1))


def test_every_sentence_about_the_data() -> None:
    reports = [
        replace(
            FIRST,
            dropped={},
            left_out={},
            notes=[],
            ignored_columns=[],
            unknown_keys=["mood"],
            faults={"unknown role ...": DroppedRows(3, ["a:1 messages[0].role"])},
            noticed={
                "message_trained": DroppedRows(2, ["a:1", "a:2"]),
                "text_cut": DroppedRows(1, ["a:3"]),
                "special_tokens_kept": DroppedRows(7, ["a:4"]),
            },
            special_tokens={"<s>": 12, "</s>": 1},
            rows_truncated=50,
            fits_99=700,
        )
    ]
    notes = data_notes(reports, None, {"heldout": Leakage(100, 12, 3, ("a:7",)), "clean": Leakage(100, 0, 0, ())})
    assert notes == [
        "Message keys that neither sftgo nor the chat template reads of train.0: mood.",
        "Bad rows of train.0, unknown role ... (3): a:1 messages[0].role, ...",
        "2 rows of train.0 say `train: true` in messages that are not the assistant's, which only data.train_on: all "
        "trains: a:1, a:2.",
        "1 rows of train.0 are so long that their text was cut before it was tokenized: a:3.",
        "Special tokens in the own text of 7 rows of train.0 (<s> 12x, </s> 1x): they are special tokens there too; "
        "data.special_tokens_in_text: escape makes them plain text: a:4, ...",
        "data.max_length cuts 50 rows of train.0; 700 tokens fit 99% of the rows.",
        "Of the 100 rows of heldout, 12 are trained on too, and 3 more have a prompt that is trained on: its measures "
        "will look too good. First: a:7, ...",
    ]


def test_data_table_without_rows() -> None:
    empty = replace(SECOND, rows_in=0, rows_kept=0, tokens=0, supervised_tokens=0)
    assert ["share of tokens", "–"] in text_of(data_table([empty]))


def test_data_notes() -> None:
    notes = data_notes([FIRST, SECOND], {"train.0": 1.0, "[red]x": 2.0})
    assert notes == [
        "Ignored columns of train.0, [red]x: category, [bold].",
        "Dropped from train.0, empty answer (7): a:1, a:2, ...",
        "Dropped from train.0, answer cut (3): a:5, a:6, a:9.",
        "The chat template leaves out tool descriptions: 2 in 2 rows of train.0 (b.jsonl:1, b.jsonl:2).",
        "The prompt differs.",
        "Share of the supervised tokens per epoch: train.0 50.0%, [red]x 50.0%.",
    ]
    assert data_notes([FIRST, SECOND])[-1] == "Share of the supervised tokens: train.0 66.7%, [red]x 33.3%."
    assert not any("Share" in note for note in data_notes([FIRST, SECOND], {"train.0": 1.0}))


def slow_statistics(rows: list[dict[str, Any]], num_groups: int) -> list[tuple[int, float, list[int]]]:
    """Tokens, mean score and typical ids of each group, token by token from the formula in the documentation."""
    counts = [Counter[int]() for _ in range(num_groups)]
    scores: list[list[float]] = [[] for _ in range(num_groups)]
    for row in rows:
        columns = (row["input_ids"], row["labels"], row["group_ids"], row["token_scores"])
        for token, label, group, score in zip(*columns, strict=True):
            if label != -100:
                counts[group][token] += 1
                scores[group].append(score)
    everything = sum(counts, Counter())
    total, prior = sum(everything.values()), len(everything)
    found = []
    for group in range(num_groups):
        own_total = sum(counts[group].values())
        z = {}
        for token, own in counts[group].items():
            share = prior * everything[token] / total
            rest = everything[token] - own
            ratio = math.log((own + share) / (own_total + prior))
            ratio -= math.log((rest + share) / (total - own_total + prior))
            z[token] = ratio / math.sqrt(1 / (own + share) + 1 / (rest + share))
        typical = sorted((token for token in z if z[token] > 0), key=lambda token: (-round(z[token], 9), token))
        found.append((own_total, sum(scores[group]) / own_total, typical))
    return found


@pytest.mark.parametrize("num_groups", [2, 3])
def test_statistics_equal_a_slow_count(make_row: Any, make_dataset: Any, bpe: Any, num_groups: int) -> None:
    answers = [" the cat sat on the mat", " Naïve 😀\n", " mat mat cat the", " the the the"]
    rows = [make_row("Q ", answer, row_id=str(k), num_groups=num_groups) for k, answer in enumerate(answers)]
    summaries = score_statistics([make_dataset(rows[:1]), make_dataset(rows[1:])], bpe, num_groups, top=200)
    expected = slow_statistics(rows, num_groups)
    total = sum(count for count, _, _ in expected)
    for group, (count, mean, typical) in enumerate(expected):
        summary = summaries[group]
        assert (summary.group, summary.num_tokens) == (group, count)
        assert summary.share == pytest.approx(count / total)
        assert summary.mean_score == pytest.approx(mean)
        names = dict.fromkeys(readable_token(bpe, token) for token in typical)
        assert set(summary.typical_tokens) == set(names)
        assert summary.typical_tokens[0] == next(iter(names))


def test_typical_is_characteristic_not_frequent(make_row: Any, make_dataset: Any, bpe: Any) -> None:
    """` the` is the most frequent token of both groups; ` cat` is only in group 1 and ` mat` only in group 0."""
    row = make_row("Q", " the the the the cat cat mat mat")
    cells = [bpe.decode([token]) for token in row["input_ids"]]
    place = iter([0, 0, 1, 1])
    for k, cell in enumerate(cells):
        supervised = row["labels"][k] != -100
        group = {" the": next(place) if cell == " the" else 0, " cat": 1, " mat": 0}.get(cell, 1)
        row["group_ids"][k] = group if supervised else -1
    least, most = score_statistics([make_dataset([row])], bpe, 2, top=1)
    assert least.typical_tokens == ("mat",)
    assert most.typical_tokens == ("cat",)


def test_one_filled_group_shows_its_most_frequent_tokens(make_row: Any, make_dataset: Any, bpe: Any) -> None:
    row = make_row("Q", " cat the the the mat mat", num_groups=1)
    group, empty = score_statistics([make_dataset([row])], bpe, 2, top=2)
    assert group.typical_tokens == ("the", "mat")
    assert (empty.num_tokens, empty.share, empty.mean_score, empty.typical_tokens) == (0, 0.0, None, ())


def test_statistics_of_no_supervised_token(make_row: Any, make_dataset: Any, bpe: Any) -> None:
    row = make_row("Q", " cat")
    row["labels"], row["group_ids"] = [-100] * len(row["labels"]), [-1] * len(row["labels"])
    assert [summary.share for summary in score_statistics([make_dataset([row])], bpe, 2)] == [0.0, 0.0]


def test_statistics_refuse_what_is_not_scored(make_row: Any, make_dataset: Any, bpe: Any) -> None:
    good, bad = make_row("Q", " cat"), make_row("Q", " the cat")
    bad["group_ids"][-1] = 2
    with pytest.raises(UserError, match=r"group id 2 is not in 0..1 - row 1 "):
        score_statistics([make_dataset([good, bad])], bpe, 2)
    with pytest.raises(UserError, match=r"no column group_ids - data set 0 - run `sftgo score`"):
        score_statistics([make_dataset([good]).remove_columns("group_ids")], bpe, 2)


def test_groups_are_named_by_what_decides_them() -> None:
    roles = GroupingSection(roles=[["system", "user"], ["assistant"]])
    assert group_labels(roles) == ["least important\n(system, user)", "most important\n(assistant)"]
    assert group_labels(GroupingSection(thresholds=[0.0, 1.0])) == ["least important", "group 1", "most important"]
    described = {
        "cut at 0.3 from the top": {},
        "cut at 0.1, 0.4 from the top": {"boundaries": [0.1, 0.4]},
        "cut at 0.1 from the top of all training tokens": {"quantiles": [0.1]},
        "cut at the scores 0, 1.5": {"thresholds": [0.0, 1.5]},
        "grouped by the column mine": {"column": {"name": "mine", "num_groups": 2}},
        "grouped by roles: system, user / assistant": {"roles": [["system", "user"], ["assistant"]]},
        "grouped by segments": {"segments": {"num_groups": 2}},
    }
    for text, grouping in described.items():
        assert grouping_text(GroupingSection.model_validate(grouping)) == text
    summaries = [GroupSummary(0, 10, 0.5, None, ()), GroupSummary(1, 10, 0.5, None, ())]
    text = "\n".join("|".join(line) for line in text_of(score_table(summaries, roles.cuts(), group_labels(roles))))
    assert "(assistant)" in text
    assert "differs" not in text


def test_score_table_names_groups_and_prints_asked_next_to_realised() -> None:
    least = GroupSummary(0, 6000, 0.6, 1.25, (".", "[b]"))
    most = GroupSummary(1, 4000, 0.4, None, ("cat",))
    lines = text_of(score_table([least, most], 0.3))
    assert ["most important", "4,000", "40.0%", "30.0%", "–", "cat"] in lines
    assert ["least important", "6,000", "60.0%", "70.0%", "1.250", ".", "[b]"] in lines
    assert any("differs" in cell for line in lines for cell in line)
    exact = text_of(score_table([replace(least, share=0.7), replace(most, share=0.3)], 0.3))
    assert not any("differs" in cell for line in exact for cell in line)


def test_asked_shares_of_boundaries() -> None:
    assert asked_shares([0.2, 0.5], 3) == pytest.approx([0.5, 0.3, 0.2])
    assert asked_shares(None, 2) == [None, None]
    assert asked_shares(0.2, 3) == [None, None, 0.2]


def test_three_groups_have_names_of_their_own() -> None:
    groups = [GroupSummary(k, 10, 0.1, 1.0, ("cat",)) for k in range(3)]
    names = [line[0] for line in text_of(score_table(groups, [0.1, 0.2]))]
    assert [name for name in names if name in ("most important", "group 1", "least important")] == [
        "most important",
        "group 1",
        "least important",
    ]


def result(loss: float | None, worst: float | None, least: float | None, most: float | None, acc: float | None) -> Any:
    return {
        "loss": loss,
        "perplexity": None if loss is None else math.exp(loss),
        "token_accuracy": acc,
        "num_tokens": 5000,
        "num_rows": 50,
        "worst_group_loss": worst,
        "group_loss/0": least,
        "group_loss/1": most,
        "group_tokens/0": 3500,
        "group_tokens/1": 1500,
    }


def run(name: str, heldout: Any, base: Any = None) -> RunSummary:
    before = None if base is None else {"heldout": base}
    return RunSummary(name, name, {"heldout": heldout}, before, 100, 40_000, None)


def test_evaluation_table() -> None:
    lines = text_of(evaluation_table({"a": result(2.0, 2.5, 1.8, 2.4, 0.5), "b": result(*[None] * 5)}))
    assert ["a", "b"] in lines
    columns = dict(zip([cells[0] for cells in lines], lines, strict=True))
    labels = (
        "loss",
        "perplexity",
        "token accuracy",
        "worst group's loss",
        "loss, most important",
        "loss, least important",
    )
    values = ("2.0000", "7.389", "0.5000", "2.5000", "2.4000", "1.8000")
    assert [columns[label][1:] for label in labels] == [[value, "–"] for value in values]
    assert columns["supervised tokens"][1:] == ["5,000", "5,000"]


def test_comparison_table_shows_differences_to_the_first_run() -> None:
    base = result(4.0, 5.0, 3.0, 5.0, 0.25)
    runs = [run("ce", result(2.0, 2.5, 1.6, 2.5, 0.5), base), run("go", result(2.1, 2.0, 1.6, None, 0.6), base)]
    rows = {cells[0]: cells[1:] for cells in text_of(comparison_table(runs))}
    assert rows["before training"] == ["ce", "go"]
    assert rows["loss"] == ["4.0000", "2.0000", "2.1000 (+5.0%)"]
    assert rows["worst group's loss"] == ["5.0000", "2.5000", "2.0000 (-20.0%)"]
    assert rows["token accuracy"] == ["0.2500", "0.5000", "0.6000 (+20.0%)"]
    assert rows["loss, least important"] == ["3.0000", "1.6000", "1.6000 (+0.0%)"]
    assert rows["loss, most important"] == ["5.0000", "2.5000", "–"]
    assert rows["optimizer steps"] == ["100", "100"]


def test_better_is_green_and_worse_is_red() -> None:
    runs = [run("ce", result(2.0, 2.5, 1.6, 2.5, 0.5)), run("go", result(2.1, 2.0, 1.6, 2.5, 0.6))]
    out = Console(file=StringIO(), width=200, force_terminal=True, color_system="standard")
    out.print(comparison_table(runs))
    printed = out.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[31m (+5.0%)" in printed
    assert "\x1b[32m (-20.0%)" in printed
    assert "\x1b[32m (+20.0%)" in printed
    assert "1.6000 (+0.0%)" in printed  # a tie has no color


def test_no_column_before_training_where_the_runs_started_differently() -> None:
    base = result(4.0, 5.0, 3.0, 5.0, 0.25)
    other = result(4.5, 5.0, 3.0, 5.0, 0.25)
    after = result(2.0, 2.5, 1.6, 2.5, 0.5)
    for second in (run("go", after, other), run("go", after)):
        assert ["ce", "go"] in text_of(comparison_table([run("ce", after, base), second]))


def test_a_difference_from_zero_has_no_percent() -> None:
    runs = [run("ce", result(0.0, 0.0, 0.0, 0.0, 1.0)), run("go", result(0.5, 0.0, 0.0, 0.0, 1.0))]
    rows = {cells[0]: cells[1:] for cells in text_of(comparison_table(runs))}
    assert rows["loss"] == ["0.0000", "0.5000 (+0.5000)"]
    assert rows["worst group's loss"] == ["0.0000", "0.0000 (+0.0%)"]


@pytest.mark.parametrize("name", ["go", "llama-3.2-3b_alpaca.long-name-0", "x" * 50, "sft_go (mixing weight 0.9)"])
def test_long_names_are_broken_and_not_cut(name: str) -> None:
    lines = in_pieces(name, 11).split("\n")
    assert max(map(len, lines)) <= 11
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", name)


@pytest.mark.parametrize("width", [64, 80, 100, 200])
@pytest.mark.parametrize("num_runs", [2, 3, 4, 7])
def test_nothing_is_cut_however_many_runs_and_sets(width: int, num_runs: int) -> None:
    base = result(14.0, 15.0, 13.0, 15.0, 0.25)
    runs = [
        run(
            f"llama-3.2-3b_alpaca.long-name-{n}", result(2.0 + n / 7, 3.0 + n / 7, 1.0 + n / 9, 3.0, 0.1 + n / 13), base
        )
        for n in range(num_runs)
    ]
    sets = {f"set-with-a-long-name-{n}": runs[n].results["heldout"] for n in range(num_runs)}
    for table, shown in ((comparison_table(runs), runs), (evaluation_table(sets), [])):
        out = Console(file=StringIO(), width=width)
        out.print(table)
        printed = out.file.getvalue()  # type: ignore[attr-defined]
        assert "…" not in printed
        assert max(map(len, printed.splitlines())) <= width
        for one in runs:
            for key in ("loss", "token_accuracy", "worst_group_loss"):
                assert f"{one.results['heldout'][key]:.4f}" in printed
        assert ("before" in printed) == bool(shown)


def test_runs_that_fit_stand_in_one_table() -> None:
    runs = [run(name, result(2.0, 2.5, 1.6, 2.5, 0.5)) for name in ("a", "b", "c")]
    lines = text_of(comparison_table(runs), 80)
    assert ["a", "b", "c"] in lines
    assert ["Runs side by side"] in lines
