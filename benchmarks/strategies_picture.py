"""The picture and the table of docs/scoring.md: one sample under TF-IDF, LLMLingua-2 and Rho-1.

    python benchmarks/strategies_picture.py [--folder /tmp/strategies] [--output docs/images/strategies.png]

Everything is made from what comes with the package, in a few minutes on a CPU: the Rho-1 reference is the built-in model
after `recipes/rho1/builtin_reference.yaml`. The classifier stands in for LLMLingua-2's published checkpoints, which are
on the Hub: a BERT token classifier of two layers, trained here to keep content words and to drop the function words of
the list below. The scores come from the scorers themselves, through `sftgo inspect --compare`; the table is printed as
Markdown, and the page is drawn by a Chromium that is on the PATH (without one, only the page is written).
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from sftgo_cli import pipeline
from sftgo_cli.builtin.corpus import prose
from sftgo_cli.cli.main import main as sftgo
from sftgo_cli.comparison import prepare_each
from sftgo_cli.report.segments import between, leading_blank, row_segments, row_tokens
from sftgo_cli.row_choice import select_rows

ROOT = Path(__file__).parents[1]
ROW = "fact-train-0890"
FUNCTION_WORDS = frozenset(
    "a an and are as at be because been but by can could did do does for from had has have he her him his how i if in is "
    "it its may me my no nor not of off on or our out she so some than that the their them then there these they this "
    "to too up very was we were what when where which who why will with would you your".split()
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
RECIPE = """model: {name_or_path: "builtin:tiny", dtype: float32}
data: {train: "builtin:instructions", max_length: 256}
grouping: {important_fraction: 0.3, special_tokens: unimportant}
training: {output_dir: unused}
"""


def train_classifier(folder: Path, num_steps: int = 300) -> float:
    """Write the stand-in classifier; returns the share of words of new documents on which it is right."""
    torch.manual_seed(0)
    rng = random.Random(0)
    documents = [prose(rng) for _ in range(2000)]
    backend = BertWordPieceTokenizer(vocabulary(documents), lowercase=True)._tokenizer
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **names)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=2,
    )
    model = BertForTokenClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(num_steps):
        batch = labelled(tokenizer, rng.sample(documents, 16))
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        batch = labelled(tokenizer, [prose(rng) for _ in range(100)])
        predicted_BT = model(**batch).logits.argmax(dim=-1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    counted_BT = batch["labels"] != -100
    return float((predicted_BT == batch["labels"])[counted_BT].float().mean())


def vocabulary(documents: list[str], num_words: int = 1500) -> dict[str, int]:
    """Word pieces: characters, and the most frequent words; counted rather than trained, so always the same."""
    counts = Counter(word for text in documents for word in re.findall(r"\w+", text.lower()))
    characters = sorted(set("".join(documents).lower()) - {" ", "\n"})
    words = sorted(counts, key=lambda word: (-counts[word], word))[:num_words]
    pieces = [*SPECIAL, *characters, *(f"##{character}" for character in characters), *words]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def labelled(tokenizer: Any, texts: list[str]) -> dict[str, torch.Tensor]:
    """A batch; a piece is kept (1) where its word is neither a function word nor punctuation."""
    batch = tokenizer(texts, padding=True, return_tensors="pt", return_offsets_mapping=True)
    labels_BT = torch.full_like(batch["input_ids"], -100)
    for row, (text, spans) in enumerate(zip(texts, batch.pop("offset_mapping").tolist(), strict=True)):
        words = {place: word.group().lower() for word in re.finditer(r"\w+", text) for place in range(*word.span())}
        for place, (start, end) in enumerate(spans):
            if start < end:
                labels_BT[row, place] = int(words.get(start, "the") not in FUNCTION_WORDS)
    return {**batch, "labels": labels_BT}


def checkpoints(folder: Path) -> tuple[Path, Path]:
    """The classifier that stands in for LLMLingua-2's and the reference of Rho-1, trained where the folder lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    classifier, reference = folder / "classifier", folder / "reference"
    if not (classifier / "config.json").exists():
        print(f"classifier: right on {train_classifier(classifier):.1%} of the pieces of new documents")
    command = ["train", str(ROOT / "recipes" / "rho1" / "builtin_reference.yaml")]
    if sftgo([*command, f"training.output_dir={reference}", "training.use_cpu=true"]):
        raise SystemExit("the reference was not trained")
    return classifier, reference


def markdown_table(recipe: Path, scorers: str) -> str:
    """The sample's response under every scorer, the most important tokens bold."""
    lines = ["| scorer | the sample |", "| --- | --- |"]
    for label, data in prepare_each(pipeline.load(recipe, []), scorers, print).items():
        row = row_tokens(select_rows(data, None, 0, 1, ROW)[0])
        answer = between(row, int(row.supervised.argmax()), row.num_tokens - 1)  # without the end of turn
        pieces = [(*leading_blank(segment.text), segment.group == 1) for segment in row_segments(answer)]
        text = "".join(f"{blank}**{word}**" if important else f"{blank}{word}" for blank, word, important in pieces)
        lines.append(f"| `{label}` | {text.replace('****', '').strip()} |")
    return "\n".join(lines)


def draw(page: Path, output: Path) -> None:
    """A picture of the page, if there is a Chromium."""
    browser = next((found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None)
    if browser is None:
        print(f"no Chromium on the PATH: open {page}")
        return
    flags = [
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        "--window-size=1100,800",
        "--force-device-scale-factor=1.5",
    ]
    subprocess.run([browser, *flags, f"--screenshot={output}", page.as_uri()], check=True, capture_output=True)
    print(f"wrote {output}")


def main() -> None:
    """Train what is missing in the folder, then write page, picture and table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sftgo-strategies")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "strategies.png")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    classifier, reference = checkpoints(folder)
    recipe = folder / "strategies.yaml"
    recipe.write_text(RECIPE)
    scorers = f"tfidf, {{name: llmlingua2, model: {classifier}}}, {{name: rho1, reference: {reference}}}"
    page = folder / "strategies.html"
    if sftgo(["inspect", str(recipe), "--compare", scorers, "--row", ROW, "--html", str(page)]):
        raise SystemExit("the page was not written")
    draw(page, arguments.output.resolve())
    print(markdown_table(recipe, scorers))


if __name__ == "__main__":
    main()
