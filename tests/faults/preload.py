"""What the fork server imports once, so that a forked run starts in milliseconds."""

import datasets
import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, Trainer

import sftgo_cli.cli.train
import sftgo_cli.pipeline
import sftgo_cli.training.run
import sftgo_cli.training.trainer

__all__ = [
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "LlamaForCausalLM",
    "Trainer",
    "datasets",
    "peft",
    "sftgo_cli",
    "torch",
]
