"""What the important tokens are: content words, numbers, stop-like words or punctuation, for every scorer.

    python benchmarks/token_kinds.py [--data FOLDER] [--folder /tmp/strategies]

First table: every scorer on the same rows, the 1,500 of `builtin:instructions`, 30 % important per sample. Models are
those that benchmarks/strategies_picture.py makes: the built-in base model, a reference fine-tuned from it, and a
classifier that stands in for LLMLingua-2's checkpoints (it was trained to keep content words, so its line says that
scores reach the right tokens, not how good the published ones are).

Second table, with `--data`: TF-IDF's formulas on public answers with GPT-2's tokens. FOLDER holds sft/alpaca_gpt4.jsonl
(Alpaca-GPT4, 687 rows), sft/dolly_hhrlhf.jsonl (dolly, 704 rows), qa/gsm8k.jsonl (GSM8K, 7,473 rows) and
tokenizers/gpt2/{vocab.json,merges.txt}. Each share of content words stands beside REFERENCE, figures for the same rows
that were measured independently of this program, with a stop list and tokens of their own. Writes results/token_kinds.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from measuring import machine, ratio, write_result
from strategies_picture import RECIPE, checkpoints
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, PreTrainedTokenizerFast

from sftgo_cli import pipeline
from sftgo_cli.comparison import prepare_each
from sftgo_cli.report.token_kinds import KINDS, KindCounts, count_kinds, fewer_content_words

FORMULAS = {
    "count x smooth": "tf: count, idf: smooth",
    "count x plain": "tf: count, idf: plain",
    "log x smooth": "tf: log, idf: smooth",
    "log x plain": "tf: log, idf: plain",
    "idf alone": "tf: binary, idf: plain",
    "log x plain, words": "tf: log, idf: plain, unit: word",
    "BM25": "idf: probabilistic, bm25: {k1: 1.2, b: 0.75}",
}
FILES = {
    "Alpaca-GPT4": {"path": "sft/alpaca_gpt4.jsonl"},
    "dolly": {"path": "sft/dolly_hhrlhf.jsonl"},
    "GSM8K": {"path": "qa/gsm8k.jsonl", "columns": {"completion": "rationale"}},
}
REFERENCE = {  # percent of content words: of all tokens, then of the important ones under the first five formulas
    "Alpaca-GPT4": (49.5, 35.5, 64.4, 78.3, 84.5, 94.5),
    "dolly": (54.1, 53.0, 72.4, 82.1, 89.2, 97.0),
    "GSM8K": (51.5, 79.6, 86.2, 87.8, 89.4, 90.4),
}


def every_scorer(folder: Path) -> dict[str, KindCounts]:
    """The kinds of the built-in rows' groups under every scorer."""
    classifier, reference = checkpoints(folder)
    compressor = f"name: llmlingua2, model: {classifier}"
    scorers = {
        "`tfidf`": "{name: tfidf}",
        "`tfidf`, `unit: word`": "{name: tfidf, unit: word}",
        "`tfidf`, `tf: count`, `idf: smooth`": "{name: tfidf, tf: count, idf: smooth}",
        "`tfidf`, `bm25: {}`, `idf: probabilistic`": "{name: tfidf, bm25: {}, idf: probabilistic}",
        "`llmlingua2` (a stand-in)": f"{{{compressor}}}",
        "`rho1`": f"{{name: rho1, reference: {reference}}}",
        "`token_cleaning`": f"{{name: token_cleaning, reference: {reference}}}",
        "`base_nll`": "{name: base_nll}",
        "`base_nll`, `threshold: 2.5`": "{name: base_nll, threshold: 2.5}",
        "`combine` of `tfidf` and `llmlingua2`": f"{{name: combine, scorers: [{{name: tfidf}}, {{{compressor}}}]}}",
        "`random`": "{name: random}",
    }
    recipe = folder / "strategies.yaml"
    recipe.write_text(RECIPE)
    views = prepare_each(pipeline.load(recipe, []), ", ".join(scorers.values()), print)
    return {
        name: count_kinds(data.train.datasets, data.num_groups)
        for name, data in zip(scorers, views.values(), strict=True)
    }


def formulas(data: Path) -> dict[str, dict[str, KindCounts]]:
    """The kinds of each file's groups under every formula of TF-IDF."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = [str(data / "tokenizers" / "gpt2" / name) for name in ("vocab.json", "merges.txt")]
        end = "<|endoftext|>"
        backend = ByteLevelBPETokenizer(*files)._tokenizer
        PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, bos_token=end).save_pretrained(folder)
        GPT2Config(n_positions=1 << 16).save_pretrained(folder)
        found = {}
        for name, source in FILES.items():
            recipe = folder / "recipe.yaml"
            train = {**source, "path": str(data / str(source["path"]))}
            recipe.write_text(
                f"model: {{name_or_path: {folder}, dtype: float32}}\n"
                f"data: {{train: {train}, max_length: {1 << 16}}}\ntraining: {{output_dir: unused}}\n"
            )
            scorers = ", ".join(f"{{name: tfidf, {options}}}" for options in FORMULAS.values())
            views = prepare_each(pipeline.load(recipe, []), scorers, print)
            found[name] = {
                formula: count_kinds(view.train.datasets, view.num_groups)
                for formula, view in zip(FORMULAS, views.values(), strict=True)
            }
    return found


def print_table(head: list[str], lines: list[list[str]]) -> None:
    """As Markdown."""
    for cells in (head, ["---"] * len(head), *lines):
        print(f"| {' | '.join(cells)} |")
    print()


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def cells(kinds: KindCounts, group: int | None) -> list[str]:
    """Content, then every kind."""
    return [percent(share) for share in (kinds.content(group), *kinds.shares(group))]


def print_scorers(found: dict[str, KindCounts]) -> None:
    """A line per scorer, all tokens last."""
    lines = [[name, *cells(kinds, -1), "yes" if fewer_content_words(kinds) else ""] for name, kinds in found.items()]
    everything = ["all tokens", *cells(next(iter(found.values())), None), ""]
    print_table(["`scoring`", "content", *KINDS, "warned"], [*lines, everything])


def print_formulas(found: dict[str, dict[str, KindCounts]]) -> float:
    """Content words of the important tokens beside the reference; returns the largest difference in points."""
    lines, largest = [], 0.0
    for name, by_formula in found.items():
        measured = [100 * kinds.content(-1) for kinds in by_formula.values()]
        measured = [100 * next(iter(by_formula.values())).content(), *measured]
        expected: list[float | None] = [*REFERENCE[name], *[None] * (len(measured) - len(REFERENCE[name]))]
        texts = []
        for value, reference in zip(measured, expected, strict=True):
            texts.append(f"{value:.1f} %" if reference is None else f"{value:.1f} % ({reference:.1f})")
            largest = max(largest, 0.0 if reference is None else abs(value - reference))
        lines.append([name, *texts])
    print_table(["answers", "all tokens", *FORMULAS], lines)
    return largest


def main() -> None:
    """Measure, print, write results/token_kinds.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sftgo-strategies")
    arguments = parser.parse_args()
    before = machine()
    scorers = every_scorer(arguments.folder.resolve())
    print_scorers(scorers)
    figures: dict[str, Any] = {"scorers": {name: described(kinds) for name, kinds in scorers.items()}}
    ratios = []
    if arguments.data is not None:
        found = formulas(arguments.data.resolve())
        largest = print_formulas(found)
        figures["formulas"] = {
            name: {formula: described(kinds) for formula, kinds in by_formula.items()}
            for name, by_formula in found.items()
        }
        figures["reference"] = REFERENCE
        what = "content words of the important tokens, points from independent figures"
        ratios.append(ratio(what, largest, 1.0, at_most=True))
    write_result("token_kinds", "kinds of the important tokens, in shares", figures, ratios, before)


def described(kinds: KindCounts) -> dict[str, Any]:
    """For the result's file."""
    return {
        "important": dict(zip(KINDS, kinds.shares(-1), strict=True)),
        "all": dict(zip(KINDS, kinds.shares(), strict=True)),
        "fewer_content_words_than_chance": fewer_content_words(kinds),
    }


if __name__ == "__main__":
    main()
