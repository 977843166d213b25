"""Everyday answers with a person's verdict, and how far the judges agree with it.

everyday_answers/NAME.jsonl (the judges' rules were made on these) and everyday_answers/NAME-aside.jsonl (written after the
rules) hold one answer a line, with what a person reads in it. Where the answers of the second file were read for the first
time, the rules agreed with FIRST_READING of them: that is the estimate for answers which nobody looked at. What they
brought up was mended since.

    numeric           "accept": numbers that it gives, "reject": numbers that it does not give (as gold: 18, -4, 3/4)
    choice            "choices", "means": the index of the option that it names, null for none or more than one; every
                      other option, and for null every option, is a gold answer that has to be rejected
    exact, token_f1   "gold", "accept": whether it says the same

A person rejects what is ambiguous. An answer agrees when all its verdicts are the person's; it is a wrong acceptance when
one of them accepts what the person rejects. The judges run with their default options.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftgo_cli.curation.judges import choice, exact, numeric, token_f1
from sftgo_cli.curation.questions import CurationContext, Question

FIRST_READING = {  # of NAME-aside.jsonl: percent that agreed, percent that were wrong acceptances
    "numeric": (92.5, 5.1),
    "choice": (94.2, 1.7),
    "exact": (100.0, 0.0),
    "token_f1": (99.0, 1.0),
}
FOLDER = Path(__file__).parent / "everyday_answers"
JUDGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "numeric": (numeric, {"answer_column": "right"}),
    "choice": (choice, {}),
    "exact": (exact, {}),
    "token_f1": (token_f1, {}),
}


@dataclass(frozen=True)
class Judged:
    """One verdict beside a person's."""

    kind: str
    answer: str
    gold: str
    wanted: bool
    accepted: bool
    reason: str
    line: int


def cases(judge: str, row: dict[str, Any]) -> list[tuple[Question, str, bool]]:
    """(question, its gold answer for people, whether a person accepts) for each verdict on a row's answer."""
    if judge == "numeric":
        golds = [(gold, True) for gold in row["accept"]] + [(gold, False) for gold in row["reject"]]
        return [(Question("", "", [], gold, {"right": gold}), gold, wanted) for gold, wanted in golds]
    if judge == "choice":
        values = [{"choices": row["choices"], "gold": index} for index in range(len(row["choices"]))]
        return [
            (Question("", "", [], "", value), "ABCDEFGHIJ"[index], index == row["means"])
            for index, value in enumerate(values)
        ]
    return [(Question("", "", [], row["gold"], {}), row["gold"], row["accept"])]


def judged(judge: str, part: str = "") -> list[list[Judged]]:
    """For each answer of a file the verdicts on it."""
    module, options = JUDGES[judge]
    context: Any = CurationContext(*[None] * 9)  # type: ignore[arg-type]
    verdicts = module.open_judge(module.Options(**options), context)
    found = []
    text = (FOLDER / f"{judge}{part}.jsonl").read_text(encoding="utf-8")
    for number, line in enumerate(filter(None, text.split("\n")), start=1):
        row = json.loads(line)
        asked = cases(judge, row)
        said = verdicts([(question, row["answer"]) for question, _, _ in asked])
        found.append(
            [
                Judged(row["kind"], row["answer"], gold, wanted, verdict.accepted, verdict.reason, number)
                for (_, gold, wanted), verdict in zip(asked, said, strict=True)
            ]
        )
    return found


def agreement(judge: str, part: str = "") -> dict[str, Any]:
    """How many answers agree, how many are wrong acceptances, in percent too, and every disagreement."""
    answers = judged(judge, part)
    differ = [one for verdicts in answers for one in verdicts if one.accepted != one.wanted]
    wrong = {one.line for one in differ if one.accepted}
    agree, total = len(answers) - len({one.line for one in differ}), len(answers)
    return {
        "answers": total,
        "agree": {"count": agree, "of": total, "percent": round(100 * agree / max(1, total), 2)},
        "wrong acceptances": {"count": len(wrong), "of": total, "percent": round(100 * len(wrong) / max(1, total), 2)},
        "disagreements": [
            {"line": one.line, "answer": one.answer, "gold": one.gold, "person": one.wanted, "reason": one.reason}
            for one in differ
        ],
    }
