"""What a comparison of runs says in plain words: what got lower, what got higher, and what this cannot show.

Both directions are always named. Group losses are compared only where the runs were measured on the same tokens in the
same groups. Every comparison ends by saying that each setting was run once.
"""

from __future__ import annotations

from collections.abc import Sequence

from sftgo_cli.report.group_names import tokens_of_group
from sftgo_cli.report.number_text import value_text
from sftgo_cli.report.paired_answers import paired_difference
from sftgo_cli.report.run_tables import (
    GROUP_LOSS,
    ROUNDS_TO_ZERO,
    Metric,
    Result,
    RunSummary,
    num_groups_in,
    number,
    relative_difference,
    same_base,
    shared_sets,
)

SMALL_DIFFERENCE = 0.05  # a choice of words only: below this the caution speaks of small differences

GROUP_TOKENS = "group_tokens/"
ONE_RUN = "One run per setting, so there is no confidence interval: "


def comparison_sentences(runs: Sequence[RunSummary]) -> list[str]:
    """The sentences of a comparison; every run is compared with the first one."""
    if not runs:
        return []
    names = _names(runs)
    sentences = [*_learning(runs, names), *_effort(runs, names)]
    if len(runs) == 1:
        return [*sentences, "There is one run only, so nothing to compare it with."]
    all_differences: list[float] = []
    for set_name in shared_sets(runs):
        for run, name in zip(runs[1:], names[1:], strict=True):
            found, differences = _compare(set_name, runs[0], run, names[0], name)
            sentences += [*found, *_answers(set_name, runs[0], run, names[0], name)]
            all_differences += differences
    return [*sentences, _caution(all_differences)]


def _names(runs: Sequence[RunSummary]) -> list[str]:
    """The run's name; with its objective where the name alone does not tell."""
    return [run.name if run.objective.split(" ")[0] in run.name else f"{run.name} ({run.objective})" for run in runs]


def _learning(runs: Sequence[RunSummary], names: Sequence[str]) -> list[str]:
    """How the loss changed by training, per set, where it was measured before."""
    base = same_base(runs)
    sentences = []
    for set_name in shared_sets(runs):
        before = number(None if base is None else base.get(set_name), "loss")
        after = [number(run.results.get(set_name), "loss") for run in runs]
        if before is None or any(value is None for value in after):
            continue
        reached = [f"{value_text(value, 3)} with {name}" for value, name in zip(after, names, strict=True)]
        sentences.append(f"{set_name}: the loss was {value_text(before, 3)} before training, and is {_and(reached)}.")
    return sentences


def _effort(runs: Sequence[RunSummary], names: Sequence[str]) -> list[str]:
    if len({(run.steps, run.tokens_seen) for run in runs}) == 1:
        return []
    spent = [f"{name} {run.steps:,} steps on {run.tokens_seen:,} tokens" for run, name in zip(runs, names, strict=True)]
    return [f"The runs trained differently long, which alone can make a difference: {', '.join(spent)}."]


def _compare(
    set_name: str, first: RunSummary, run: RunSummary, first_name: str, name: str
) -> tuple[list[str], list[float]]:
    """The sentences about one run on one set, and the relative differences behind them."""
    reference, result = first.results.get(set_name), run.results.get(set_name)
    if reference is None or result is None:
        missing = first_name if reference is None else name
        return [f"{set_name}: {missing} was not measured on it."], []
    if reference.get("num_tokens") != result.get("num_tokens"):
        counts = f"{reference.get('num_tokens')} and {result.get('num_tokens')} supervised tokens"
        return [f"{set_name}: {first_name} and {name} were measured on different rows ({counts}); not comparable."], []
    same_groups = _same_groups(reference, result)
    compared = [] if same_groups is False else _compared_metrics(num_groups_in([reference]))
    compared.append((Metric("loss", ""), "the overall loss"))
    sentence, differences = _changes(set_name, reference, result, compared, first_name, name)
    sentences = [sentence, *_accuracy(set_name, reference, result, first_name, name)]
    if same_groups is False:
        sentences.append(
            f"{set_name}: {first_name} and {name} group the tokens differently, so their group losses are not compared."
        )
    elif same_groups is None and num_groups_in([reference]) > 1:
        sentences.append(
            f"{set_name}: group losses are comparable only if {first_name} and {name} group the tokens alike, which "
            "these results do not tell."
        )
    return sentences, differences


def _answers(set_name: str, first: RunSummary, run: RunSummary, first_name: str, name: str) -> list[str]:
    """The difference of the accuracies of generated answers, with its interval over the questions."""
    found = paired_difference(first.accepted.get(set_name, {}), run.accepted.get(set_name, {}))
    if found is None:
        return []
    told = "more" if found.low > 0 else "fewer" if found.high < 0 else "neither more nor fewer beyond chance"
    points = f"{100 * (found.second - found.first):+.1f} points"
    interval = f"95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}"
    return [
        f"{set_name}: of {found.num_questions:,} questions {name} answers {found.second:.1%} right, {first_name} "
        f"{found.first:.1%}: {points}, {interval} (paired bootstrap over the questions): {told}."
    ]


def _same_groups(reference: Result, result: Result) -> bool | None:
    """Whether the groups have equally many tokens in both; None where one of the two did not count them."""
    if num_groups_in([reference]) != num_groups_in([result]):
        return False
    counts = [{key: values[key] for key in values if key.startswith(GROUP_TOKENS)} for values in (reference, result)]
    return counts[0] == counts[1] if all(counts) else None


def _compared_metrics(num_groups: int) -> list[tuple[Metric, str]]:
    groups = [
        (Metric(f"{GROUP_LOSS}{group}", ""), f"the loss of {tokens_of_group(group, num_groups)}")
        for group in reversed(range(num_groups))
        if num_groups > 1
    ]
    return [(Metric("worst_group_loss", ""), "the worst group's loss"), *groups]


def _changes(
    set_name: str,
    reference: Result,
    result: Result,
    compared: Sequence[tuple[Metric, str]],
    first_name: str,
    name: str,
) -> tuple[str, list[float]]:
    lowered: list[str] = []
    raised: list[str] = []
    same: list[str] = []
    unknown: list[str] = []
    differences: list[float] = []
    for metric, label in compared:
        value, first = number(result, metric.key), number(reference, metric.key)
        if value is None or first is None:
            unknown.append(label)
            continue
        relative = relative_difference(value, first)
        if relative is not None and abs(relative) < ROUNDS_TO_ZERO:
            same.append(label)
            differences.append(0.0)
            continue
        differences.append(1.0 if relative is None else relative)
        amount = f"from 0 to {value_text(value)}" if relative is None else f"by {abs(relative):.1%}"
        (raised if value > first else lowered).append(f"{label} {amount}")
    verbs = (("lowers", lowered), ("raises", raised), ("does not change", same))
    parts = [f"{verb} {_and(items)}" for verb, items in verbs if items]
    if unknown:
        parts.append(f"cannot be compared in {_and(unknown)} (no value in one of the two)")
    return f"{set_name}: compared with {first_name}, {name} {'; it '.join(parts)}.", differences


def _accuracy(set_name: str, reference: Result, result: Result, first_name: str, name: str) -> list[str]:
    """The token accuracies as shares, for a percentage of a percentage misleads."""
    first, value = number(reference, "token_accuracy"), number(result, "token_accuracy")
    if first is None or value is None:
        return []
    return [f"{set_name}: {name} predicts {value:.2%} of the tokens right, {first_name} {first:.2%}."]


def _caution(differences: Sequence[float]) -> str:
    if not differences:
        return ONE_RUN + "nothing could be compared."
    largest = max(abs(difference) for difference in differences)
    if largest == 0.0:
        return ONE_RUN + "no difference was seen, which does not show that there is none; repeat with other seeds."
    if largest < SMALL_DIFFERENCE:
        return ONE_RUN + "differences this small may be chance; repeat with other seeds."
    return ONE_RUN + "how much of a difference is chance cannot be told from this; repeat with other seeds."


def _and(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
