"""LLMLingua-2 word probabilities beside the llmlingua package's, on one checkpoint and the same texts, in one run.

    pip install --no-deps llmlingua==0.2.2 tiktoken
    python benchmarks/llmlingua2.py --texts alpaca_gpt4.jsonl --vocabulary vocab.txt [--output FILE.json]

The checkpoint is a randomly initialised token classifier of BERT-base size (head weights of standard deviation 0.1, so
that probabilities spread over (0, 1)) with a WordPiece vocabulary. The texts are the `output` fields of a jsonl file with
at least `--min-pieces` word pieces. The package fetches a tiktoken file when it is constructed and imports nltk: neither
has a part in word probabilities, so a byte encoding and an empty module stand in for them.

Timed, interleaved: the package's chunking and its pass over the chunks (`__chunk_context`, `__get_context_prob`: without
the OpenAI tokens and percentiles that `compress_prompt` adds), against `word_probabilities` in float32 and bfloat16,
tokenization included. Compared: the word probabilities that `compress_prompt` uses, against `compatibility: llmlingua`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from scipy.stats import spearmanr
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

from sftgo_cli.scoring import llmlingua2
from sftgo_cli.scoring.word_probabilities import Classifier, word_probabilities

BATCH_SIZE = 50  # the package's default


def make_checkpoint(folder: Path, vocabulary: Path) -> Path:
    """The checkpoint; the package tells a model's kind by its name."""
    path = folder / "bert-base-multilingual-cased-random"
    tokenizer = BertTokenizerFast(str(vocabulary), do_lower_case=False)
    torch.manual_seed(0)
    model = BertForTokenClassification(BertConfig(vocab_size=len(tokenizer), num_labels=2))
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def package(checkpoint: Path) -> Any:
    """The package's PromptCompressor on the CPU in float32."""
    import tiktoken

    sys.modules.setdefault("nltk", types.ModuleType("nltk"))
    in_bytes = tiktoken.Encoding(
        "bytes", pat_str=r"(?s).", mergeable_ranks={bytes([byte]): byte for byte in range(256)}, special_tokens={}
    )
    tiktoken.encoding_for_model = lambda name: in_bytes
    from llmlingua import PromptCompressor

    return PromptCompressor(
        str(checkpoint),
        device_map="cpu",
        model_config={"trust_remote_code": False},
        use_llmlingua2=True,
        llmlingua2_config={"max_batch_size": BATCH_SIZE},
    )


def package_pass(compressor: Any, texts: list[str]) -> None:
    """Its chunking and its pass over all chunks."""
    chunked = [compressor._PromptCompressor__chunk_context(text, {".", "\n"}) for text in texts]
    compressor._PromptCompressor__get_context_prob(chunked)


def package_probabilities(compressor: Any, texts: list[str]) -> np.ndarray:
    """The word probabilities that `compress_prompt` ranks, recorded where it computes them."""
    recorded: list[float] = []
    original = compressor._PromptCompressor__token_prob_to_word_prob

    def record(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        recorded.extend(float(value) for value in result)
        return result

    compressor._PromptCompressor__token_prob_to_word_prob = record
    compressor.compress_prompt_llmlingua2(texts, rate=0.5)
    return np.array(recorded)


def opened(checkpoint: Path, **options: Any) -> Classifier:
    """The scorer's classifier."""
    context: Any = SimpleNamespace(recipe_dir=Path.cwd())
    return llmlingua2.open_classifier(llmlingua2.Options(model=str(checkpoint), **options), context)


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock time and processor time (all threads) of one call; the second bears other work on the machine."""
    start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main() -> None:
    """Measure, compare and print; write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="jsonl with an `output` field")
    parser.add_argument("--vocabulary", type=Path, required=True, help="vocab.txt of a WordPiece tokenizer")
    parser.add_argument("--num-texts", type=int, default=50)
    parser.add_argument("--min-pieces", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    for path in (arguments.texts, arguments.vocabulary):
        if not path.is_file():
            parser.error(f"there is no file {path}")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(Path(folder), arguments.vocabulary)
        lines = arguments.texts.read_text(encoding="utf-8").splitlines()
        result = measure(checkpoint, [json.loads(line)["output"] for line in lines], arguments)
    print(json.dumps(result, indent=2))
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(checkpoint: Path, texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Equal numbers first, then interleaved times."""
    float32, bfloat16 = opened(checkpoint, dtype="float32"), opened(checkpoint, dtype="bfloat16")
    lengths = [len(ids) for ids in float32.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
    long_enough = [place for place, length in enumerate(lengths) if length >= arguments.min_pieces]
    chosen = long_enough[: arguments.num_texts]
    texts, lengths = [texts[place] for place in chosen], [lengths[place] for place in chosen]

    compressor = package(checkpoint)
    theirs = package_probabilities(compressor, texts)
    ours = word_probabilities(opened(checkpoint, compatibility="llmlingua"), texts).probabilities_W
    in_float32 = word_probabilities(float32, texts).probabilities_W
    in_bfloat16 = word_probabilities(bfloat16, texts).probabilities_W

    passes: dict[str, Callable[[], Any]] = {
        "llmlingua": lambda: package_pass(compressor, texts),
        "float32": lambda: word_probabilities(float32, texts),
        "bfloat16": lambda: word_probabilities(bfloat16, texts),
    }
    wall: dict[str, list[float]] = {name: [] for name in passes}
    processor: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(arguments.runs):
        for name, run in passes.items():
            elapsed, used = seconds(run)
            wall[name].append(elapsed)
            processor[name].append(used)
        print({name: round(values[-1], 2) for name, values in wall.items()}, file=sys.stderr)
    median = {name: statistics.median(values) for name, values in wall.items()}
    fastest = {name: min(values) for name, values in wall.items()}
    least = {name: min(values) for name, values in processor.items()}
    return {
        "what": "LLMLingua-2 word probabilities, BERT-base size, random weights; interleaved runs",
        "texts": len(texts),
        "mean_word_pieces": statistics.mean(lengths),
        "words": len(theirs),
        "pieces_per_second": {name: sum(lengths) / value for name, value in median.items()},
        **{
            f"ratio_{dtype}_{how}": times["llmlingua"] / times[dtype]
            for how, times in (("median", median), ("fastest", fastest), ("processor_time", least))
            for dtype in ("float32", "bfloat16")
        },
        "compatibility_largest_difference": float(np.abs(theirs - ours).max()),
        "rank_correlation_bfloat16_to_float32": float(spearmanr(in_bfloat16, in_float32).statistic),
        "largest_difference_bfloat16_to_float32": float(np.abs(in_bfloat16 - in_float32).max()),
        "seconds": wall,
        "runs": arguments.runs,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "llmlingua": "0.2.2",
        },
    }


if __name__ == "__main__":
    main()
