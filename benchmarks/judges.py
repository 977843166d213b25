"""How far the judges agree with people on everyday answers, and with public data.

    python benchmarks/judges.py [--data ../shared/data] [--openai example_model_solutions.jsonl]

- everyday: some 3,700 hand-made answers with a person's verdict (everyday.py); a second file per judge was written after the
  rules: its first reading is the estimate for answers that nobody looked at;
- gsm8k: gold rationales with their answer as GSM8K writes it (`#### 72`), in other usual forms, and bare (no marker: the
  fallback rule); rows whose rationale ends in something else are listed by kind;
- svamp: rationales are expressions (`( 8.0 - 7.0 )`), which the judge must not take for a number; what can be measured is
  the answer as a text, and the value of the expression by the arithmetic parser against the answer;
- math_noisy: model-written rationales with a flag computed from the last `answer is X`; every disagreement by kind;
- all of gsm8k's `<<a*b=c>>` calculations;
- choice: letters and texts of all options of all rows;
- the leak guard on gold rationales;
- with --openai FILE: OpenAI's correctness flags on model-written GSM8K solutions (openai/grade-school-math,
  grade_school_math/data/example_model_solutions.jsonl; JSON lines with question, ground_truth and, for each model, a
  mapping with solution and is_correct). The file is not in ../shared.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from everyday import FIRST_READING, JUDGES, agreement
from measuring import machine, ratio, write_result

from sftgo_cli.curation.chosen_option import read_choice
from sftgo_cli.curation.equations import check_calculations, value_of
from sftgo_cli.curation.final_numbers import read_cell, read_final_number
from sftgo_cli.curation.judges import numeric
from sftgo_cli.curation.leak_guard import leaked
from sftgo_cli.curation.named_options import LETTERS
from sftgo_cli.curation.questions import CurationContext, Question, Verdict

FORMS = (
    "{}\n#### {}",
    "{}\nA: {}",
    "{}\nThe answer is {}.",
    "{}\nSo the answer is $\\boxed{{{}}}$.",
    "{}\n\n**Answer:** ${}",
)
SHOWN = 5


def rows(path: Path) -> list[dict[str, Any]]:
    """A JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def verdicts(pairs: list[tuple[Any, str]]) -> list[Verdict]:
    """The judge's verdicts on (gold, answer)."""
    context: Any = CurationContext(*[None] * 9)  # type: ignore[arg-type]
    judge = numeric.open_judge(numeric.Options(answer_column="gold"), context)
    return judge([(Question("", "", [], "", {"gold": gold}), answer) for gold, answer in pairs])


def share(good: int, of: int) -> dict[str, Any]:
    """A count, of how many, and in percent."""
    return {"count": good, "of": of, "percent": round(100 * good / max(1, of), 3)}


def of_gsm8k(data: Path) -> dict[str, Any]:
    """Gold rationales against their own answers."""
    found = rows(data / "qa/gsm8k.jsonl")
    forms = {}
    for form in FORMS:
        accepted = verdicts([(row["answer"], form.format(row["rationale"], row["answer"])) for row in found])
        forms[form] = share(sum(verdict.accepted for verdict in accepted), len(found))
    bare = verdicts([(row["answer"], row["rationale"]) for row in found])
    missed = [(row, verdict) for row, verdict in zip(found, bare, strict=True) if not verdict.accepted]
    kinds: dict[str, list[dict[str, str]]] = {}
    for row, verdict in missed:
        example = {"id": row["id"], "reason": verdict.reason, "end": row["rationale"][-90:]}
        kinds.setdefault(_bare_kind(row), []).append(example)
    wrong, count = [], 0
    for row in found:
        for equation, right in check_calculations(row["rationale"]):
            count += 1
            if not right:
                wrong.append({"id": row["id"], "equation": equation})
    leaks = [row["id"] for row in found if leaked(row["rationale"])]
    return {
        "with a marker": forms,
        "without a marker": share(len(found) - len(missed), len(found)),
        "without a marker, missed": {
            kind: {"count": len(some), "examples": some[:SHOWN]} for kind, some in kinds.items()
        },
        "calculations right": share(count - len(wrong), count),
        "calculations wrong": wrong,
        "rationales flagged by the leak guard": share(len(leaks), len(found)),
        "flagged": leaks,
    }


def _bare_kind(row: dict[str, Any]) -> str:
    gold, last_line = read_cell(row["answer"]).value, row["rationale"].rstrip().splitlines()[-1]
    texts = [part for line in (last_line, row["rationale"]) for part in [line.replace("<<", " <<")]]
    if gold in _values(texts[0]):
        return "the answer is in the last line, not where the rule looks"
    return "the answer is in an earlier line" if gold in _values(texts[1]) else "the rationale never states the answer"


def _values(text: str) -> list[Any]:
    from sftgo_cli.curation.number_locales import plain
    from sftgo_cli.curation.written_numbers import numbers

    return [value for number in numbers(plain(text)) for value in (number.value, *number.others) if value is not None]


def of_svamp(data: Path) -> dict[str, Any]:
    """Answers as texts; the rationales' expressions."""
    found = rows(data / "qa/svamp.jsonl")
    as_text = verdicts([(row["answer"], f"The answer is {row['answer']}.") for row in found])
    expressions = [value_of(row["rationale"]) == read_cell(row["answer"]).value for row in found]
    forms = ("The answer is {}.", "{}")
    bare = [
        verdict
        for form in forms
        for verdict in verdicts([(row["answer"], form.format(row["rationale"])) for row in found])
    ]
    return {
        "the answer as a text accepted": share(sum(verdict.accepted for verdict in as_text), len(found)),
        "expressions whose value is the answer": share(sum(expressions), len(found)),
        "unworked expressions accepted (should be 0)": share(sum(verdict.accepted for verdict in bare), len(bare)),
        "examples": [
            {"id": row["id"], "rationale": row["rationale"], "answer": row["answer"]}
            for row, right in zip(found, expressions, strict=True)
            if not right
        ][:SHOWN],
    }


def of_math_noisy(data: Path) -> dict[str, Any]:
    """Agreement with the flag, and the disagreements by kind."""
    found = rows(data / "qa/math_noisy.jsonl")
    got = verdicts([(row["answer"], row["rationale"]) for row in found])
    letters = [row for row in found if read_cell(row["answer"]).value is None]
    kinds: dict[str, list[dict[str, Any]]] = {}
    numbers = numbers_agree = agree = flagged = 0
    for row, verdict in zip(found, got, strict=True):
        is_letter = read_cell(row["answer"]).value is None
        if row["correct"] is None:
            kind = "no flag"
        else:
            flagged += 1
            numbers += not is_letter
            if verdict.accepted == row["correct"]:
                agree += 1
                numbers_agree += not is_letter
                continue
            kind = _noisy_kind(row, verdict, is_letter)
        example = {"id": row["id"], "flag": row["correct"], "reason": verdict.reason, "end": row["rationale"][-110:]}
        kinds.setdefault(kind, []).append(example)
    return {
        "rows": len(found),
        "rows whose gold is a letter, not a number": len(letters),
        "agreement": share(agree, flagged),
        "agreement where gold is a number": share(numbers_agree, numbers),
        "disagreements": {kind: {"count": len(some), "examples": some[:SHOWN]} for kind, some in kinds.items()},
    }


def _noisy_kind(row: dict[str, Any], verdict: Verdict, is_letter: bool) -> str:
    if is_letter:
        return "gold is a letter: numeric does not fit"
    if "no final number" in verdict.reason:
        return "flag true, the judge reads no number" if row["correct"] else "flag false, the judge reads no number"
    gold, got = read_cell(row["answer"]).value, read_final_number(row["rationale"]).value
    if row["correct"] and gold is not None and got is not None and abs(got - gold) <= abs(gold) / 100:
        return "flag true by rounding, exactly different (tolerance: 0.01 accepts)"
    return "flag true, another number read" if row["correct"] else "flag false, accepted"


def of_choices(data: Path) -> dict[str, Any]:
    """Every option of every row, given as a letter and as its text in usual forms: read as that option."""
    forms = ("{letter}", "({letter})", "{letter}) {text}", "The answer is {letter}.", "{text}")
    right: Counter[str] = Counter()
    total = 0
    for path in sorted((data / "choice").glob("*.jsonl")):
        for row in rows(path):
            for index, text in enumerate(row["choices"]):
                total += 1
                for form in forms:
                    right[form] += read_choice(form.format(letter=LETTERS[index], text=text), row["choices"]) == index
    return {"options": total, "read as themselves": {form: share(right[form], total) for form in forms}}


def openai_pairs(path: Path) -> Iterator[tuple[str, str, str, bool]]:
    """(ground truth, model, solution, flag) of every solution in OpenAI's file."""
    for row in rows(path):
        for model, value in row.items():
            if isinstance(value, dict) and "solution" in value and "is_correct" in value:
                yield row["ground_truth"], model, value["solution"], value["is_correct"]


def of_openai(path: Path) -> dict[str, Any]:
    """Agreement with OpenAI's flags, and every disagreement."""
    found = list(openai_pairs(path))
    got = verdicts([(gold, solution) for gold, _, solution, _ in found])
    differ = [
        {"model": model, "flag": flag, "reason": verdict.reason, "end": solution[-110:]}
        for (_, model, solution, flag), verdict in zip(found, got, strict=True)
        if verdict.accepted != flag
    ]
    return {"agreement": share(len(found) - len(differ), len(found)), "disagreements": differ}


def main() -> None:
    """Measure, print, write results/judges.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--openai", type=Path)
    arguments = parser.parse_args()
    before, start = machine(), time.perf_counter()
    figures: dict[str, Any] = {
        "everyday answers of the second file, read for the first time: agreement, wrong acceptances, %": FIRST_READING,
        "everyday": {f"{judge}{part}": agreement(judge, part) for judge in JUDGES for part in ("", "-aside")},
        "gsm8k": of_gsm8k(arguments.data),
        "svamp": of_svamp(arguments.data),
        "math_noisy": of_math_noisy(arguments.data),
        "choice": of_choices(arguments.data),
    }
    gsm8k, noisy = figures["gsm8k"], figures["math_noisy"]
    ratios = []
    for name, found in figures["everyday"].items():
        what = f"{name}: {found['answers']} everyday answers"
        ratios.append(ratio(f"{what}, agreement, %", found["agree"]["percent"], 98.0, False))
        ratios.append(ratio(f"{what}, wrong acceptances, %", found["wrong acceptances"]["percent"], 0.5, True))
    ratios += [
        ratio(
            "gsm8k rationales with `#### answer` accepted, %", gsm8k["with a marker"][FORMS[0]]["percent"], 100.0, False
        ),
        ratio("gsm8k calculations right, %", gsm8k["calculations right"]["percent"], 99.9, False),
        ratio("gsm8k rationales flagged by the leak guard", len(gsm8k["flagged"]), 0.0, True),
        ratio(
            "math_noisy agreement where gold is a number, %",
            noisy["agreement where gold is a number"]["percent"],
            99.0,
            False,
        ),
    ]
    if arguments.openai is not None:
        figures["openai"] = of_openai(arguments.openai)
        ratios.append(ratio("agreement with OpenAI's flags, %", figures["openai"]["agreement"]["percent"], 99.9, False))
    figures["seconds"] = round(time.perf_counter() - start, 1)
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    write_result("judges", "Judges against public data", figures, ratios, before)


if __name__ == "__main__":
    main()
