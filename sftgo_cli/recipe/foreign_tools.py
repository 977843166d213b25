"""Whose configuration a mapping is: TRL's, axolotl's, LLaMA-Factory's or ms-swift's, told by keys that only one has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOOLS = {"trl": "TRL", "axolotl": "axolotl", "llamafactory": "LLaMA-Factory", "swift": "ms-swift"}
TELLTALE = {
    "trl": "dataset_name use_peft dataset_train_split dataset_test_split assistant_only_loss completion_only_loss "
    "dataset_text_field dataset_num_proc lora_task_type model_init_kwargs max_seq_length dataset_config",
    "axolotl": "base_model micro_batch_size sequence_len num_epochs val_set_size sample_packing adapter optimizer "
    "lr_scheduler dataset_prepared_path lora_target_linear evals_per_epoch saves_per_epoch train_on_inputs",
    "llamafactory": "stage finetuning_type cutoff_len dataset_dir lora_target lora_rank template dataset "
    "preprocessing_num_workers overwrite_cache plot_loss val_size neat_packing do_train "
    "model_class peft_config kernel_config dist_config train_dataset sample_backend quant_config init_config",
    "swift": "tuner_type train_type split_dataset_ratio torch_dtype lora_rank attn_impl loss_scale model val_dataset "
    "dataset model_author truncation_strategy quant_bits target_modules",
}
CERTAIN = 3  # telltale keys at the top of a file that was meant to be a recipe


def telltale_keys(config: Mapping[str, Any]) -> tuple[str, int]:
    """The tool that has most of the keys, and how many they are."""
    counts = {tool: sum(key in config for key in keys.split()) for tool, keys in TELLTALE.items()}
    best = max(counts, key=lambda tool: counts[tool])
    return best, counts[best]


def other_tool(config: Mapping[str, Any]) -> str | None:
    """The name of the tool whose configuration this certainly is; None for a recipe with a few keys of theirs."""
    tool, count = telltale_keys(config)
    is_recipe = isinstance(config.get("data"), dict) or isinstance(config.get("training"), dict) or "extends" in config
    return TOOLS[tool] if count >= CERTAIN and not is_recipe else None
