"""Training on one GPU at the shapes of Llama 3: `sftgo train` beside TRL's SFTTrainer and transformers.Trainer.

    python benchmarks/gpu/train.py [--shape 1b] [--tuning full] [--sides sftgo "sftgo sft_go" trl trainer] [--compile]
    python benchmarks/gpu/train.py --tiny          # small shapes on the CPU, to see that it starts

No network: random weights (seed 0) and rows of random tokens, all of `--length` tokens, the second half supervised, are
written to a temporary folder. bfloat16 compute on every side; the same batch, order, optimizer (fused AdamW), type of the
trained parameters and checkpointing. Each side runs in a process of its own. Per side: tokens/s from step 4 on, peak
allocated GPU memory, and model FLOP utilization:

    flops per token = f P + 2 f L heads head_dim T        f = 6 (full), 4 (LoRA: no gradients of the frozen weights)

with P the parameters of all matrices but the input embedding, L layers and T the length (attention counted in full, as
torchtitan does); what checkpointing computes again does not count. Sides whose package is missing are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # runs from a checkout that is not installed

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 512, "heads": (4, 2)},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "heads": (32, 8)},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "heads": (24, 8)},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "heads": (32, 8)},
}
SIDES = ("sftgo", "sftgo sft_go", "trl", "trainer")
SKIPPED = 4
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}  # dense bfloat16
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def config_of(shape: str, length: int) -> Any:
    """The model's configuration; 1B and 3B tie their embeddings, as Llama 3.2 does."""
    from transformers import LlamaConfig

    values = {"vocab_size": 128_256, **SHAPES[shape]}
    heads, key_value_heads = values.pop("heads")
    return LlamaConfig(
        **values,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=length,
        tie_word_embeddings=shape != "8b",
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


def prepare(folder: Path, given: argparse.Namespace) -> None:
    """Model, tokenizer and rows."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = config_of(given.shape, given.length)
    with torch.device(given.device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder / "model")
    words = {
        word: number for number, word in enumerate(["<s>", "</s>", "<pad>", *map(str, range(3, config.vocab_size))])
    }
    backend = Tokenizer(WordLevel(words, unk_token="3"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder / "model")
    ids_NT = torch.randint(3, config.vocab_size, (given.steps * given.batch_size, given.length)).tolist()
    half = given.length // 2
    with (folder / "rows.jsonl").open("w") as file:
        for ids in ids_NT:
            file.write(json.dumps({"input_ids": ids, "labels": [-100] * half + ids[half:]}) + "\n")


def recipe(given: argparse.Namespace, folder: Path, side: str) -> str:
    """What `sftgo train` gets; JSON is YAML."""
    lora = {"name": "lora", "r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": LORA_TARGETS}
    training = {
        "output_dir": str(folder / f"run-{side.replace(' ', '-')}"),
        "max_steps": given.steps,
        "per_device_train_batch_size": given.batch_size,
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch" if given.tiny else "adamw_torch_fused",
        "train_sampling_strategy": "sequential",
        "logging_steps": SKIPPED,
        "save_strategy": "no",
        "gradient_checkpointing": given.checkpointing,
        "torch_compile": given.compile,
        "use_cpu": given.tiny,
    }
    return json.dumps(
        {
            "model": {"name_or_path": str(folder / "model"), "dtype": "bfloat16"},
            "data": {"train": str(folder / "rows.jsonl"), "max_length": given.length, "packing": False},
            "scoring": {"name": "random"},
            "objective": "sft_go" if side.endswith("sft_go") else "cross_entropy",
            "tuning": {"name": "full", "param_dtype": given.param_dtype} if given.tuning == "full" else lora,
            "training": training,
        }
    )


def train_sftgo(given: argparse.Namespace, folder: Path, side: str) -> tuple[float, float]:
    """(seconds per step, first loss) of `sftgo train` in this process."""
    from sftgo_cli.cli.main import main as sftgo

    path = folder / f"{side.replace(' ', '-')}.yaml"
    path.write_text(recipe(given, folder, side))
    os.environ["SFTGO_CACHE"] = str(folder / "cache")
    if sftgo(["train", str(path)]):
        raise SystemExit("sftgo train failed")
    log = folder / f"run-{side.replace(' ', '-')}" / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steady = [b for a, b in pairwise(lines) if a["step"] >= SKIPPED]
    speed = len(steady) / sum(1.0 / line["tokens_per_second"] for line in steady)
    return given.batch_size * given.length / speed, lines[0]["ce_loss"]


def train_peer(given: argparse.Namespace, folder: Path, side: str) -> tuple[float, float]:
    """The same for TRL's trainer or the Trainer."""
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    lora = given.tuning == "lora"
    dtype = "bfloat16" if lora else given.param_dtype
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype)
    if lora:
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LORA_TARGETS)
        model = get_peft_model(model, settings)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = load_dataset(
        "json", data_files=str(folder / "rows.jsonl"), split="train", cache_dir=str(folder / "datasets")
    )
    values: dict[str, Any] = {
        key: value for key, value in json.loads(recipe(given, folder, side))["training"].items() if key != "output_dir"
    }
    checkpointing = values.pop("gradient_checkpointing")
    values |= {"output_dir": str(folder / side), "bf16": True, "report_to": "none", "disable_tqdm": True}
    if checkpointing:
        values |= {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}}
    if side == "trl":
        from trl import SFTConfig, SFTTrainer

        config = SFTConfig(
            **values, **({} if checkpointing else {"gradient_checkpointing": False}), max_length=given.length
        )
        trainer: Any = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    else:
        collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
        trainer = Trainer(model=model, args=TrainingArguments(**values), train_dataset=rows, data_collator=collator)
    ends: list[float] = []
    losses: list[float] = []
    inner = trainer.training_step

    def training_step(*args: Any, **kwargs: Any) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        loss = inner(*args, **kwargs)
        if not losses:
            losses.append(float(loss))
        return loss

    trainer.training_step = training_step
    trainer.train()
    return (ends[-1] - ends[SKIPPED]) / (len(ends) - 1 - SKIPPED), losses[0]


def child(given: argparse.Namespace, side: str) -> None:
    """One side; prints JSON last."""
    import torch

    train = train_sftgo if side.startswith("sftgo") else train_peer
    seconds, loss = train(given, given.folder, side)
    on_gpu = torch.cuda.is_available() and not given.tiny
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    print(json.dumps({"seconds_per_step": seconds, "first_loss": loss, "peak_gib": peak}))


def flops_per_token(given: argparse.Namespace) -> float:
    """See the module's docstring."""
    config = config_of(given.shape, given.length)
    hidden, heads = config.hidden_size, config.num_attention_heads
    key_value = config.num_key_value_heads * hidden // heads
    layer = 2 * hidden * hidden + 2 * hidden * key_value + 3 * hidden * config.intermediate_size
    matrices = config.num_hidden_layers * layer + config.vocab_size * hidden
    factor = 6 if given.tuning == "full" else 4
    attention = factor * 2 * config.num_hidden_layers * hidden * given.length
    return float(factor * matrices + attention)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="1b")
    parser.add_argument("--tuning", choices=["full", "lora"], default="full")
    parser.add_argument("--param-dtype", choices=["float32", "bfloat16"], default="float32", help="of full tuning")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model on every side")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU in dense bfloat16; known for some")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.tiny:
        given.shape, given.length, given.steps = "tiny", 128, 12
    given.device = "cpu" if given.tiny else "cuda"
    return given


def main() -> None:
    """All sides one after the other; prints JSON with ratios to TRL and the Trainer."""
    given = arguments()
    if given.child:
        child(given, given.child)
        return
    import torch

    name = "cpu" if given.tiny else torch.cuda.get_device_name()
    peak_tflops = given.peak_tflops or next((value for key, value in PEAK_TFLOPS.items() if key in name), None)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), given)
        for side in given.sides:
            if side == "trl" and importlib.util.find_spec("trl") is None:
                print("trl is not installed: left out", file=sys.stderr)
                continue
            command = [sys.executable, __file__, *sys.argv[1:], "--child", side, "--folder", folder]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            result = json.loads(output.strip().splitlines()[-1])
            result["tokens_per_second"] = given.batch_size * given.length / result["seconds_per_step"]
            if peak_tflops and not given.tiny:
                result["model_flop_utilization"] = (
                    flops_per_token(given) * result["tokens_per_second"] / peak_tflops / 1e12
                )
            found[side] = result
            print(side, result, file=sys.stderr, flush=True)
    ratios = {
        f"sftgo / {peer}": found["sftgo"]["tokens_per_second"] / found[peer]["tokens_per_second"]
        for peer in found
        if peer != "sftgo" and "sftgo" in found
    }
    shown = {key: value for key, value in vars(given).items() if key not in ("child", "folder")}
    print(
        json.dumps({"device": name, "torch": torch.__version__, "arguments": shown, "sides": found, "tokens/s": ratios})
    )


if __name__ == "__main__":
    main()
