"""One rank of test_sharded_head.py: a model sharded by FSDP2 beside the whole one, each rank with rows of its own.

    python -m tests.equivalence.sharded_ranks RANK WORLD FILE

FILE is where the ranks meet. The last line of rank 0 is JSON: per case the largest relative errors and what was seen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from sftgo_cli.losses import fused_head, head, head_tile
from sftgo_cli.losses.fused_head import Weighing

VOCABULARY, LENGTH, ROWS = 97, 24, 3
CASES = ("untied", "tied", "frozen")


def model_of(case: str, dtype: torch.dtype) -> Any:
    """A small Llama, the same on every rank; an odd vocabulary, so that the shards of its head differ in size."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=case == "tied",
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).double()
    if case == "frozen":
        model.lm_head.weight.requires_grad_(False)
    return model.to(dtype)


def rows_of(rank: int) -> tuple[Tensor, Tensor]:
    """A rank's tokens and labels; a third of the positions is not trained on."""
    generator = torch.Generator().manual_seed(rank)
    ids_BT = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=generator)
    return ids_BT, ids_BT.where(torch.rand(ROWS, LENGTH, generator=generator) > 0.3, -100)


def worst_loss(nll_N: Tensor, ends: list[int]) -> Tensor:
    """A slope that needs all losses of a sample: sum over samples of (sum of l)^2 / 1000."""
    starts = [0, *ends[:-1]]
    return torch.stack([nll_N[a:b].double().sum() ** 2 for a, b in zip(starts, ends, strict=True)]).sum() / 1000


def plain(case: str, rank: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the whole model by autograd on whole logits."""
    model = model_of(case, dtype)
    ids_BT, labels_BT = rows_of(rank)
    logits_NV = model(input_ids=ids_BT).logits[:, :-1].reshape(-1, VOCABULARY)
    nll_N = functional.cross_entropy(logits_NV, labels_BT[:, 1:].reshape(-1), reduction="none")
    loss = worst_loss(nll_N, [(LENGTH - 1) * (row + 1) for row in range(ROWS)])  # ignored positions count 0
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def average(ranks: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """The gradients' mean over the ranks, which is what the wrapper makes of them."""
    return {name: sum(grads[name] for _, grads in ranks) / len(ranks) for name in ranks[0][1]}


def errors(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    """Relative norms of the differences, by tensor."""
    assert got.keys() == wanted.keys()
    return {name: float((got[name].double() - wanted[name]).norm() / wanted[name].norm()) for name in got}


def sharded(case: str, rank: int, mesh: Any, dtype: torch.dtype) -> dict[str, Any]:
    """The same through the fused head of a sharded model, and its errors.

    Tied weights must lie in one group: the root's, as accelerate has it. Otherwise the head is a group of its own.
    """
    model = model_of(case, dtype)
    head.attach(model)
    for part in [*model.model.layers, *([model.lm_head] if case != "tied" else [])]:
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    seen: list[tuple[bool, tuple[int, ...]]] = []
    original = fused_head.weighed_loss

    def watched(hidden: Tensor, weight: Tensor, *rest: Any) -> Any:
        seen.append((isinstance(weight, DTensor), tuple(weight.shape)))
        return original(hidden, weight, *rest)

    ids_BT, labels_BT = rows_of(rank)
    ends = (labels_BT[:, 1:] != -100).sum(dim=1).cumsum(0).tolist()

    def loss_of(start: int, stop: int, terms: Mapping[str, Tensor]) -> Tensor:
        return worst_loss(terms["nll"], [end - start for end in ends if start < end <= stop])

    fused_head.weighed_loss = watched
    try:
        outputs = model(input_ids=ids_BT, supervised_labels=labels_BT, weighing=Weighing(ends, loss_of))
    finally:
        fused_head.weighed_loss = original
    outputs["loss"].backward()
    wanted = [plain(case, other) for other in range(mesh.size())]
    same_type = [plain(case, other, dtype) for other in range(mesh.size())]
    got = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.grad is not None}
    loss = wanted[rank][0]
    return {
        "loss": float((outputs["loss"].detach() - loss).abs() / loss),
        "gradients": errors(got, average(wanted)),
        "plain": errors(average(same_type), average(wanted)),
        "gathered": seen == [(False, (VOCABULARY, 32))],
        "shard_rows": model.lm_head.weight.to_local().shape[0],
    }


def main(rank: int, world: int, meeting: str) -> None:
    """All cases."""
    init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    head_tile.TILE_BYTES = {"cpu": (1, 1)}
    mesh = init_device_mesh("cpu", (world,))
    found = {}
    for case in CASES:
        for dtype in (torch.float64, torch.float32):
            for rows in (10, 20):  # samples longer than a chunk; chunks of a sample
                head_tile.MIN_CHUNK_ROWS = rows
                found[f"{case} {str(dtype)[6:]} {rows}"] = sharded(case, rank, mesh, dtype)
    print(json.dumps(found))
    destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
