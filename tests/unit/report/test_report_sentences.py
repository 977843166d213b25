"""The sentences name both directions, never more than was measured, and always say that it is one run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sftgo_cli.report.run_sentences import comparison_sentences
from sftgo_cli.report.run_tables import RunSummary

ONE_RUN = "One run per setting, so there is no confidence interval: "


def result(loss: Any, worst: Any, least: Any, most: Any, accuracy: Any = 0.5, tokens: int = 5000) -> dict[str, Any]:
    return {
        "loss": loss,
        "token_accuracy": accuracy,
        "num_tokens": tokens,
        "worst_group_loss": worst,
        "group_loss/0": least,
        "group_loss/1": most,
        "group_tokens/0": tokens - 1500,
        "group_tokens/1": 1500,
    }


def run(name: str, heldout: dict[str, Any], objective: str | None = None) -> RunSummary:
    return RunSummary(name, objective or name, {"heldout": heldout}, None, 100, 40_000, None)


BASELINE = run("cross_entropy", result(1.0, 2.0, 0.8, 1.5))


def test_both_directions_are_named() -> None:
    go = run("a", result(1.006, 1.938, 0.88, 1.44, 0.495), "sft_go (mixing weight 0.9)")
    assert comparison_sentences([BASELINE, go]) == [
        "heldout: compared with cross_entropy, a (sft_go (mixing weight 0.9)) lowers the worst group's loss by 3.1% and "
        "the loss of the most important tokens by 4.0%; it raises the loss of the least important tokens by 10.0% and "
        "the overall loss by 0.6%.",
        "heldout: a (sft_go (mixing weight 0.9)) predicts 49.50% of the tokens right, cross_entropy 50.00%.",
        ONE_RUN + "how much of a difference is chance cannot be told from this; repeat with other seeds.",
    ]


def test_small_differences_may_be_chance() -> None:
    go = run("sft_go", result(1.006, 1.938, 0.8, 1.44))
    assert comparison_sentences([BASELINE, go])[-1] == (
        ONE_RUN + "differences this small may be chance; repeat with other seeds."
    )


def test_a_worse_run_is_called_worse() -> None:
    go = run("sft_go", result(1.1, 2.2, 0.88, 1.65))
    assert comparison_sentences([BASELINE, go])[0] == (
        "heldout: compared with cross_entropy, sft_go raises the worst group's loss by 10.0%, the loss of the most "
        "important tokens by 10.0%, the loss of the least important tokens by 10.0% and the overall loss by 10.0%."
    )


def test_a_tie_is_no_finding() -> None:
    sentences = comparison_sentences([BASELINE, replace(BASELINE, name="sft_go", objective="sft_go")])
    assert sentences[0].startswith(
        "heldout: compared with cross_entropy, sft_go does not change the worst group's loss,"
    )
    assert sentences[-1] == (
        ONE_RUN + "no difference was seen, which does not show that there is none; repeat with other seeds."
    )


def test_missing_and_zero_values() -> None:
    first = run("cross_entropy", result(0.0, None, 0.8, 1.5, None))
    go = run("sft_go", result(0.5, 1.0, None, 1.5))
    assert comparison_sentences([first, go])[0] == (
        "heldout: compared with cross_entropy, sft_go raises the overall loss from 0 to 0.5000; it does not change the "
        "loss of the most important tokens; it cannot be compared in the worst group's loss and the loss of the least "
        "important tokens (no value in one of the two)."
    )


def test_everything_missing_is_no_tie() -> None:
    nothing = result(None, None, None, None, None)
    sentences = comparison_sentences([run("cross_entropy", nothing), run("sft_go", nothing)])
    assert "cannot be compared in the worst group's loss" in sentences[0]
    assert sentences[-1] == ONE_RUN + "nothing could be compared."


def test_other_rows_are_not_compared() -> None:
    go = run("sft_go", result(0.1, 0.1, 0.1, 0.1, tokens=4999))
    assert comparison_sentences([BASELINE, go])[0] == (
        "heldout: cross_entropy and sft_go were measured on different rows (5000 and 4999 supervised tokens); "
        "not comparable."
    )


def test_other_groups_leave_only_the_overall_loss() -> None:
    go = run("sft_go", {**result(0.9, 0.1, 0.1, 0.1), "group_tokens/0": 3000, "group_tokens/1": 2000})
    sentences = comparison_sentences([BASELINE, go])
    assert sentences[0] == "heldout: compared with cross_entropy, sft_go lowers the overall loss by 10.0%."
    assert (
        "heldout: cross_entropy and sft_go group the tokens differently, so their group losses are not compared."
        in (sentences)
    )


def test_uncounted_groups_are_compared_with_a_warning() -> None:
    counted = result(0.9, 1.8, 0.8, 1.5)
    plain = {key: value for key, value in counted.items() if not key.startswith("group_tokens/")}
    sentences = comparison_sentences([BASELINE, run("sft_go", plain)])
    assert "lowers the worst group's loss by 10.0% and the overall loss by 10.0%" in sentences[0]
    assert any("only if cross_entropy and sft_go group the tokens alike" in sentence for sentence in sentences)


def test_another_number_of_groups_is_not_compared() -> None:
    three = {**result(0.9, 1.8, 0.8, 1.5), "group_loss/2": 2.0, "group_tokens/2": 0}
    sentences = comparison_sentences([BASELINE, run("sft_go", three)])
    assert sentences[0] == "heldout: compared with cross_entropy, sft_go lowers the overall loss by 10.0%."


def test_three_groups_in_words() -> None:
    first = {**result(1.0, 2.0, 0.8, 1.5), "group_loss/2": 2.0, "group_tokens/2": 7}
    go = {**first, "group_loss/1": 1.2, "group_loss/2": 1.0}
    sentences = comparison_sentences([run("cross_entropy", first), run("sft_go", go)])
    assert (
        "lowers the loss of the most important tokens by 50.0% and the loss of the tokens of group 1 by 20.0%"
        in (sentences[0])
    )


def test_sets_that_only_one_run_has() -> None:
    go = replace(BASELINE, name="sft_go", objective="sft_go", results={"other": result(1.0, 1.0, 1.0, 1.0)})
    sentences = comparison_sentences([BASELINE, go])
    assert "heldout: sft_go was not measured on it." in sentences
    assert "other: cross_entropy was not measured on it." in sentences


def test_training_itself_and_different_effort() -> None:
    base = {"heldout": result(4.0, 5.0, 3.5, 4.5)}
    first = replace(BASELINE, base_results=base)
    go = replace(run("sft_go", result(1.5, 2.0, 0.8, 1.5)), base_results=base, steps=120)
    sentences = comparison_sentences([first, go])
    assert sentences[:2] == [
        "heldout: the loss was 4.000 before training, and is 1.000 with cross_entropy and 1.500 with sft_go.",
        "The runs trained differently long, which alone can make a difference: "
        "cross_entropy 100 steps on 40,000 tokens, sft_go 120 steps on 40,000 tokens.",
    ]


def test_one_run_and_none() -> None:
    assert comparison_sentences([BASELINE]) == ["There is one run only, so nothing to compare it with."]
    assert comparison_sentences([]) == []
