"""Tokens that a recipe adds to a model: to its tokenizer, and as rows of its embedding and head.

A new row is the mean of the rows before it. Under an adapter only the new rows are trained, in float32; they are saved
whole with the adapter, where peft and transformers look for a resized vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sftgo_cli.errors import UserError

WHERE = "model.new_tokens"


def extend_tokenizer(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Add the tokens that the tokenizer does not have; the ids of those.

    Raises:
        UserError: the tokenizer does not take one of them as one token.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    added = [token for token in dict.fromkeys(tokens) if token not in known]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in added])
    for token in tokens:
        ids = tokenizer(token, add_special_tokens=False)["input_ids"]
        if ids != [tokenizer.convert_tokens_to_ids(token)]:
            raise UserError(
                f"the tokenizer makes {len(ids)} tokens of {token!r}", WHERE, "write it without spaces around"
            )
    return [int(tokenizer.convert_tokens_to_ids(token)) for token in added]


def extend_embeddings(model: Any, num_tokens: int, ids: Sequence[int]) -> None:
    """Rows for the new ids in embedding and head, each the mean of the rows before the first of them."""
    import torch

    if not ids:
        return
    if num_tokens > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(num_tokens, mean_resizing=False)
    head = model.get_output_embeddings()
    weights = [model.get_input_embeddings().weight, *([] if head is None else [head.weight])]
    bias = getattr(head, "bias", None)
    with torch.no_grad():
        for tensor in {id(one): one for one in (*weights, *([] if bias is None else [bias]))}.values():
            if tensor.device.type != "meta":
                tensor[list(ids)] = tensor[: min(ids)].float().mean(dim=0).to(tensor.dtype)


def train_new_rows(model: Any, ids: Sequence[int]) -> None:
    """Let an adapted model train the new rows of its embedding and head, and no other row."""
    import torch

    base = model.get_base_model()
    modules = [base.get_input_embeddings(), base.get_output_embeddings()]
    if any(type(module).__module__.partition(".")[0] == "peft" for module in modules):
        return  # trained whole, as the recipe says
    for module in {id(one.weight): one for one in modules if one is not None}.values():
        module.weight.data = module.weight.data.float()
        module.weight.requires_grad_(True)
        rows = torch.zeros(module.weight.shape[0], 1, device=module.weight.device)
        rows[list(ids)] = 1.0
        module.weight.register_hook(lambda gradient, rows=rows: gradient * rows.to(gradient.device, gradient.dtype))


def saves_embeddings(model: Any) -> bool:
    """Whether an adapted model trains rows of the base model's own embedding, which must be saved with the adapter."""
    if not hasattr(model, "peft_config"):
        return False
    weight = getattr(model.get_base_model().get_input_embeddings(), "weight", None)
    return bool(weight is not None and weight.requires_grad)


def fit_vocabulary(model: Any, adapter: Path) -> None:
    """Give the model as many embedding rows as an adapter's folder brings along."""
    from safetensors import safe_open

    path = adapter / "adapter_model.safetensors"
    if not path.is_file():
        return
    names = {id(module): name for name, module in model.named_modules()}
    key = f"base_model.model.{names[id(model.get_input_embeddings())]}.weight"
    with safe_open(path, "pt") as file:
        rows = file.get_slice(key).get_shape()[0] if key in file.keys() else None  # noqa: SIM118, not a mapping
    if rows is not None and rows != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
