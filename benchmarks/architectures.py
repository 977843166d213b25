"""Every causal language model of the installed transformers through this package, as a tiny model with random weights.

    python benchmarks/architectures.py [TYPE ...]

Writes benchmarks/results/architectures.json and docs/architectures.md. Each type is built, saved, loaded as a recipe's
model is, and then: its losses and gradients are compared with those of its own logits (float64 log-softmax, every row
alone and unpadded), packed, with adapters, measured as a held-out set, and it completes a prompt. One process works
through the types; one that crashes or hangs ends only its own row.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "architectures.json"
PAGE = ROOT / "docs" / "architectures.md"
SECONDS_PER_TYPE = 180
LENGTHS = (9, 14, 5)
LOSS_TOLERANCE = 1e-4  # relative to the direct loss; float32
GRADIENT_TOLERANCE = 1e-3  # relative norm of the worst tensor, float32
STEPS = ("load", "loss", "gradients", "packing", "eval", "generate", "lora")
COMMANDS = ("gemma3", "qwen3_vl", "falcon_h1", "gpt_oss", "xlnet")


@dataclass
class Walk:
    """One type on its way: what was built, and what the steps found."""

    name: str
    folder: Path
    row: dict[str, Any]
    model: Any = None
    expected: Any = None  # nats, float64, of every supervised token, rows first


def type_names() -> list[str]:
    """Model types with a causal language model, and those of multimodal models that are used for text."""
    from transformers.models.auto import modeling_auto

    causal = list(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    multimodal = list(modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    return causal + [name for name in multimodal if name not in causal]


# ---- one type ------------------------------------------------------------------------------------------------------


def build(walk: Walk) -> None:
    """A tiny model of the type in a folder, with the built-in tokenizer."""
    from tiny_architectures import shrunk, tiny_model
    from transformers import CONFIG_MAPPING

    from sftgo_cli.builtin import model_folder

    model = tiny_model(shrunk(CONFIG_MAPPING[walk.name], 2304))
    walk.row |= {"class": type(model).__name__, "parameters": sum(one.numel() for one in model.parameters())}
    model.save_pretrained(walk.folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder("tiny") / file, walk.folder / file)


def rows_of() -> list[dict[str, Any]]:
    """Rows of different lengths with prompts that are not supervised."""
    import numpy as np

    generator = np.random.default_rng(0)
    rows = []
    for length in LENGTHS:
        ids = generator.integers(3, 2000, size=length)
        labels = np.where(np.arange(length) < 3, -100, ids)
        rows.append({"input_ids": ids.astype(np.int32), "labels": labels.astype(np.int32)})
    return rows


def direct_losses(model: Any) -> Any:
    """-log p of every supervised token from the model's own logits, each row alone: float64[N] with its graph."""
    import torch

    from sftgo_cli.losses import head

    parts = []
    for row in rows_of():
        ids = torch.tensor(row["input_ids"]).long()
        logits = model(**head.route_of(model).accepted({"input_ids": ids[None], "use_cache": False})).logits[0].double()
        wanted = torch.tensor(row["labels"][1:]) != -100
        parts.append(-logits[:-1].log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]][wanted])
    return torch.cat(parts)


def load(walk: Walk) -> str:
    """As a recipe's model, with its loss head."""
    import torch

    from sftgo_cli.base_model import load_base_model
    from sftgo_cli.losses import head, head_probe

    walk.model = load_base_model(section_of(walk), Path(), "float32").eval()
    head.attach(walk.model)
    note = head_probe.fit(walk.model)
    with torch.no_grad():
        walk.expected = direct_losses(walk.model)
    transform = head.route_of(walk.model).transform
    walk.row["head"] = "all logits" if note else behind_the_head(transform)
    return "ok"


def behind_the_head(transform: Any) -> str:
    """The route, with scale and soft cap where there are any."""
    scale = f", scale {transform.scale:g}" if transform.scale != 1.0 else ""
    cap = f", softcap {transform.softcap:g}" if transform.softcap is not None else ""
    return f"fused{scale}{cap}"


def section_of(walk: Walk) -> Any:
    from sftgo_cli.recipe.model_section import ModelSection

    return ModelSection.model_validate({"name_or_path": str(walk.folder), "dtype": "float32"})


def fused(walk: Walk, model: Any) -> dict[str, Any]:
    """The loss head's answer for the rows as one padded batch, as in training."""
    from sftgo_cli.data.collation import Collator
    from sftgo_cli.losses.fused_head import Weighing
    from sftgo_cli.objectives.micro_batch import MODEL_INPUTS

    batch: dict[str, Any] = Collator(0, packed=False)([[row] for row in rows_of()])
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    weighing = Weighing(
        batch["sample_ends"], lambda start, stop, terms: terms["nll"].double().sum() / len(walk.expected)
    )
    outputs: dict[str, Any] = model(**inputs, supervised_labels=batch["labels"], weighing=weighing)
    return outputs


def loss(walk: Walk) -> str:
    """The padded batch's losses are the direct ones."""
    found = fused(walk, walk.model)["nll"].double()
    difference = float((found - walk.expected).abs().max() / walk.expected.abs().max().clamp(min=1.0))
    walk.row["direct_loss"] = float(walk.expected.mean())
    return "ok" if difference <= LOSS_TOLERANCE else f"differs by {difference:.2g}"


def gradients(walk: Walk) -> str:
    """And so are the gradients in training mode, which decide an SGD step: of the loss head and of autograd on the direct
    losses."""
    walk.model.train()
    walk.model.zero_grad()
    fused(walk, walk.model)["loss"].backward()
    ours = {name: one.grad.clone() for name, one in walk.model.named_parameters() if one.grad is not None}
    walk.model.zero_grad()
    direct_losses(walk.model).mean().backward()
    total = sum(float(one.grad.norm()) ** 2 for one in walk.model.parameters() if one.grad is not None) ** 0.5
    worst = 0.0
    for name, one in walk.model.named_parameters():
        expected = 0.0 if one.grad is None else one.grad
        got = ours.get(name, 0.0)
        if one.grad is not None or name in ours:
            worst = max(
                worst,
                float((got - expected).norm())
                / max(1e-3 * total, float((one.grad if one.grad is not None else ours[name]).norm())),
            )
    walk.model.zero_grad()
    walk.model.eval()
    return "ok" if worst <= GRADIENT_TOLERANCE else f"differ by {worst:.2g}"


def packing(walk: Walk) -> str:
    """Whether packed samples have the losses that they have alone; else rows are not packed."""
    from sftgo_cli.training.packing_probe import leak

    return "packed" if leak(walk.model, 0).isolated else "unpacked"


def held_out(walk: Walk) -> str:
    """The held-out loss of the folder, as `sftgo eval` measures a base model."""
    import numpy as np
    import torch

    from sftgo_cli.base_model import load_base_model
    from sftgo_cli.data.collation import Collator
    from sftgo_cli.data.sampling import EvaluationSampler
    from sftgo_cli.evaluation.evaluate import with_loss_head
    from sftgo_cli.evaluation.heldout import EvaluationSet, evaluate_set

    class Rows:
        def __getitems__(self, bins: Any) -> Any:
            return [[rows_of()[index] for index in members] for members in bins]

    model = load_base_model(section_of(walk), Path(), "float32").eval()
    with_loss_head(model, walk.name)
    sampler = EvaluationSampler(np.array(LENGTHS), 2, 0, 1)
    rows: Any = Rows()
    measured = evaluate_set(model, EvaluationSet(rows, sampler, Collator(0, packed=False), 1), torch.device("cpu"))
    difference = abs(measured["loss"] - float(walk.expected.mean()))
    return "ok" if difference <= LOSS_TOLERANCE * max(1.0, measured["loss"]) else f"differs by {difference:.2g}"


def generate(walk: Walk) -> str:
    """A prompt is completed by the model that was trained: with its loss head attached, in a padded batch."""
    from sftgo_cli.data.tokenizer import load_tokenizer
    from sftgo_cli.evaluation.generate import Decoding, complete

    tokenizer = load_tokenizer(section_of(walk), Path())
    texts = complete(walk.model.eval(), tokenizer, ["A cat sat", "Two"], Decoding(max_new_tokens=4, batch_size=2))
    return "ok" if len(texts) == 2 else "no text"


def lora(walk: Walk) -> str:
    """The default adapters: trained by the fused head, and their first losses are the base model's."""
    from sftgo_cli.tuning import lora as tuner

    options = tuner.Options(lora_dropout=0.0)
    wrapped: Any = tuner.apply(walk.model, options).eval()
    outputs = fused(walk, wrapped)
    difference = float((outputs["nll"].double() - walk.expected).abs().max() / walk.expected.abs().max().clamp(min=1.0))
    if difference > LOSS_TOLERANCE:
        return f"differs by {difference:.2g}"
    outputs["loss"].backward()
    trained = [one for one in wrapped.parameters() if one.requires_grad]
    moved = sum(one.grad is not None and bool(one.grad.any()) for one in trained)
    return "ok" if moved else "no gradient"


ACTIONS: dict[str, Callable[[Walk], str]] = {
    "load": load,
    "loss": loss,
    "gradients": gradients,
    "packing": packing,
    "eval": held_out,
    "generate": generate,
    "lora": lora,
}


def walk_type(name: str, folder: Path) -> dict[str, Any]:
    """All steps of one type; a refusal by the package and an error that it did not foresee are told apart."""
    from sftgo_cli.errors import SftgoError

    started = time.monotonic()
    walk = Walk(name, folder, {"type": name})
    try:
        build(walk)
    except SftgoError as error:
        return walk.row | {"built": "ok", "load": f"refused: {error}"}
    except Exception as error:
        return walk.row | {"built": f"{type(error).__name__}: {first_line(error)}"}
    walk.row["built"] = "ok"
    for step in STEPS:
        try:
            walk.row[step] = ACTIONS[step](walk)
        except SftgoError as error:
            walk.row[step] = f"refused: {error}".replace(str(folder), "MODEL")
        except Exception as error:
            walk.row[step] = f"ERROR {type(error).__name__}: {first_line(error)}"
        if step == "load" and walk.row[step] != "ok":
            break
    return walk.row | {"seconds": round(time.monotonic() - started, 1)}


def first_line(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:200]


def work(names: Sequence[str]) -> None:
    """The worker process: one JSON line per type."""
    import logging

    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    out = sys.stdout
    for name in names:
        print(json.dumps({"begins": name}), file=out, flush=True)
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            row = walk_type(name, Path(folder))
        print(json.dumps(row), file=out, flush=True)


# ---- all types -----------------------------------------------------------------------------------------------------


def walk_all(names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of all types; a worker that crashes or hangs is replaced, and its type's row says so."""
    import select

    left, rows = list(names), []
    while left:
        command = [sys.executable, __file__, "--work", *left]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
        ) as worker:
            assert worker.stdout is not None
            current, fault = left[0], "the process ended"
            while True:
                ready, _, _ = select.select([worker.stdout], [], [], SECONDS_PER_TYPE)
                line = worker.stdout.readline() if ready else ""
                if not line:
                    fault = fault if ready else f"no answer in {SECONDS_PER_TYPE} s"
                    worker.kill()
                    break
                row = json.loads(line)
                if "begins" in row:
                    current = row["begins"]
                    continue
                rows.append(row)
                left.remove(current)
                print(summary_line(row), flush=True)
        if left and current in left:
            rows.append({"type": current, "built": f"ERROR {fault}"})
            left.remove(current)
    return rows


def summary_line(row: dict[str, Any]) -> str:
    """One line for the terminal."""
    if row["built"] != "ok":
        return f"{row['type']:28} not built: {row['built'][:120]}"
    return f"{row['type']:28} " + "  ".join(f"{step} {str(row.get(step, '-'))[:90]}" for step in STEPS)


RECIPE = """model: {name_or_path: model, dtype: float32}
data: {train: [{path: "builtin:instructions", max_samples: 16}], max_length: 256, max_unsupervised_fraction: 0.9,
       eval: {held: {fraction: 0.25}}}
tuning: {name: full}
training: {output_dir: run, max_steps: 2, use_cpu: true, learning_rate: 1.0e-3}
"""
VERBS = (["validate"], ["train"], ["eval"], ["generate", "-p", "A cat", "--max-new-tokens", "4"])


def command_line(name: str) -> None:
    """validate, train, eval and generate of one type as the command line runs them; prints the row as JSON."""
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        os.environ["SFTGO_CACHE"] = f"{place}/cache"
        out, row = sys.stdout, {"type": name}
        with contextlib.redirect_stdout(io.StringIO()):
            build(Walk(name, Path("model"), {}))
        Path("recipe.yaml").write_text(RECIPE)
        from sftgo_cli.cli.main import main as sftgo

        for verb, *options in VERBS:
            said = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                code = sftgo([verb, "recipe.yaml", *options])
            lines = [line for line in said.getvalue().splitlines() if line.startswith("error")]
            row[verb] = "ok" if code == 0 else f"exit {code}: {lines[-1][:300] if lines else ''}"
        print(json.dumps(row), file=out)


def commands(names: Sequence[str]) -> list[dict[str, Any]]:
    """The command line on some types, each in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    rows = []
    for name in names:
        command = [sys.executable, __file__, "--commands", name]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        last = done.stdout.strip().splitlines()[-1:] or [json.dumps({"type": name, "validate": done.stderr[-300:]})]
        rows.append(json.loads(last[0]))
        print(rows[-1], flush=True)
    return rows


# ---- the page ------------------------------------------------------------------------------------------------------


def page(result: dict[str, Any]) -> str:
    """docs/architectures.md."""
    rows = result["types"]
    built = [row for row in rows if row["built"] == "ok"]
    loaded = [row for row in built if row["load"] == "ok"]
    refused = [row for row in built if row["load"].startswith("refused")]

    def count(step: str, value: str = "ok") -> int:
        return sum(row.get(step) == value for row in loaded)

    lines = [
        "# Architectures",
        "",
        f"Every model type with a causal language model in transformers {result['transformers']}, and every multimodal",
        "one that can be used for text, as a tiny model with random weights (`python benchmarks/architectures.py`). The",
        "losses and gradients of the loss head are compared with those of the model's own logits: float64 log-softmax,",
        "every row alone and unpadded.",
        "",
        f"Of {len(rows)} types {len(built)} could be built so small. {len(loaded)} of these load and "
        f"{len(refused)} are refused with a reason.",
        "",
        f"Of those that load: losses exact {count('loss')}, gradients exact {count('gradients')}, held-out loss exact "
        f"{count('eval')}, generation {count('generate')}, LoRA {count('lora')}, packed {count('packing', 'packed')} "
        f"(the others train unpacked), fused head {sum(row['head'].startswith('fused') for row in loaded)} (the others "
        "compute all logits, which takes more memory).",
        "",
        "`scale` and `softcap` are what the architecture does to its logits behind the head; they are found out by feeding",
        "known numbers in the head's place, not read from the configuration. Unpacked: the architecture lets packed samples",
        "see each other on a CPU (a recurrent state, no position ids, a mask without positions); `data.packing` is then off",
        "unless the recipe asks for it by name, which is refused. LoRA is with its defaults.",
        "",
        "| type | class | head | loss | gradients | packing | held-out | generate | LoRA |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        "| " + " | ".join(cell(row.get(key)) for key in ("type", "class", "head", *STEPS[1:])) + " |" for row in loaded
    ]
    lines += ["", "Refused, with the reason that the commands print:", "", "| type | reason |", "| --- | --- |"]
    lines += [f"| {row['type']} | {cell(row['load'].removeprefix('refused: '))} |" for row in refused]
    rest = [row for row in built if row not in loaded and row not in refused]
    rest_lines = [f"| {row['type']} | {cell(row['load'])} |" for row in rest]
    if rest_lines:
        lines += [
            "",
            "Not loaded, with an error that is not foreseen:",
            "",
            "| type | error |",
            "| --- | --- |",
            *rest_lines,
        ]
    lines += ["", "Not built so small (their default configuration has no tiny form, or a package is missing):", ""]
    lines += ["| type | why |", "| --- | --- |"]
    lines += [f"| {row['type']} | {cell(row['built'])} |" for row in rows if row["built"] != "ok"]
    if result["commands"]:
        lines += ["", "By the command line (`validate`, `train` 2 steps, `eval`, `generate`):", ""]
        lines += ["| type | validate | train | eval | generate |", "| --- | --- | --- | --- | --- |"]
        lines += ["| " + " | ".join(cell(value) for value in row.values()) + " |" for row in result["commands"]]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """Text in a Markdown table."""
    return "" if value is None else str(value).replace("|", "\\|")


def main() -> None:
    """Walk, write the result and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", help="only these; their rows in the committed result are replaced")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--commands", help=argparse.SUPPRESS)
    parser.add_argument("--page", action="store_true", help="only write the page from the committed result")
    given = parser.parse_args()
    if given.work:
        return work(given.work)
    if given.commands:
        return command_line(given.commands)
    if given.page:
        PAGE.write_text(page(json.loads(RESULT.read_text())))
        return None
    import transformers

    started = time.monotonic()
    rows = walk_all(given.types or type_names())
    by_command = [] if given.types else commands(COMMANDS)
    if given.types:
        result = json.loads(RESULT.read_text())
        new = {row["type"]: row for row in rows}
        result["types"] = [new.get(row["type"], row) for row in result["types"]]
        said = {row["type"]: row for row in commands([name for name in given.types if name in COMMANDS])}
        result["commands"] = [said.get(row["type"], row) for row in result["commands"]]
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        PAGE.write_text(page(result))
        return None
    result = {
        "transformers": transformers.__version__,
        "seconds": round(time.monotonic() - started),
        "types": rows,
        "commands": by_command,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    PAGE.write_text(page(result))
    return None


if __name__ == "__main__":
    main()
