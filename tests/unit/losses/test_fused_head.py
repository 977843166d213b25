"""The fused head's value and gradients against float64 on whole logits: every path, every chunk size, every precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sftgo_cli.losses import head_tile, logits
from sftgo_cli.losses.fused_head import Weighing, terms_without_graph, weighed_loss
from sftgo_cli.losses.logits import LogitTransform

HIDDEN, VOCABULARY = 24, 101
LENGTHS = [3, 40, 1, 17, 9, 25, 2]  # tokens per sample
NUM_TOKENS = sum(LENGTHS)
ENDS = torch.tensor(LENGTHS).cumsum(0).tolist()
PLAIN = LogitTransform()
TRANSFORMS = {"plain": PLAIN, "scale": LogitTransform(0.4), "softcap": LogitTransform(1.3, softcap=5.0)}


def data(seed: int = 0, scale: float = 1.0) -> dict[str, Tensor]:
    """float64 hidden states, weight, bias, targets and token weights."""
    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    return {
        "hidden": scale * torch.randn(NUM_TOKENS, HIDDEN, **options),
        "weight": torch.randn(VOCABULARY, HIDDEN, **options) / HIDDEN**0.5,
        "bias": torch.randn(VOCABULARY, **options),
        "targets": torch.randint(VOCABULARY, (NUM_TOKENS,), generator=generator),
        "tokens": torch.rand(NUM_TOKENS, **options) + 0.1,
    }


def worst_of_samples(start: int, stop: int, nll: Tensor, tokens: Tensor) -> Tensor:
    """sum over samples of (weighted sum of l)^2 / 100: a slope that needs all losses of a sample."""
    total = torch.zeros((), dtype=torch.float64)
    first = 0
    for end in ENDS:
        if start <= first and end <= stop:
            total = total + (tokens[first:end] * nll[first - start : end - start].double()).sum() ** 2 / 100
        first = end
    return total


def weighing(tokens: Tensor, **options: Any) -> Weighing:
    """The loss above, asked chunk by chunk."""

    def loss_of(start: int, stop: int, terms: Mapping[str, Tensor]) -> Tensor:
        assert start in (0, *ENDS)
        assert stop in (0, *ENDS)
        return worst_of_samples(start, stop, terms["nll"], tokens)

    return Weighing(ENDS, loss_of, **options)


def reference(values: dict[str, Tensor], transform: LogitTransform, bias: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients by autograd on whole logits, in the type of the values."""
    leaves = {name: values[name].clone().requires_grad_(True) for name in ("hidden", "weight", "bias")}
    products = functional.linear(leaves["hidden"], leaves["weight"], leaves["bias"] if bias else None)
    scaled = products * transform.scale
    z = scaled if transform.softcap is None else transform.softcap * torch.tanh(scaled / transform.softcap)
    z = z if z.dtype == torch.float64 else z.float()
    nll = functional.cross_entropy(z, values["targets"], reduction="none")
    loss = worst_of_samples(0, NUM_TOKENS, nll, values["tokens"])
    loss.backward()
    return loss.detach(), {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def ours(
    values: dict[str, Tensor], transform: LogitTransform, bias: bool, frozen: bool = False, **options: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """The same through the fused head."""
    leaves = {
        name: values[name].clone().requires_grad_(not frozen or name == "hidden")
        for name in ("hidden", "weight", "bias")
    }
    loss, nll = weighed_loss(
        leaves["hidden"],
        leaves["weight"],
        leaves["bias"] if bias else None,
        values["targets"],
        transform,
        weighing(values["tokens"], **options),
        options.pop("dtype", values["hidden"].dtype),
    )
    assert not nll.requires_grad
    (loss * options.get("scale", 1.0)).backward()
    return loss.detach(), {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def error(got: Tensor, expected: Tensor) -> float:
    """Relative norm of the difference."""
    return float((got.double() - expected.double()).norm() / expected.double().norm())


@pytest.fixture(params=[1, 7, 30, 1000], ids=lambda rows: f"chunk of {rows}")
def chunk_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Chunks smaller than a sample, of several samples, of everything; blocks of three rows."""
    monkeypatch.setattr(head_tile, "MIN_CHUNK_ROWS", request.param)
    monkeypatch.setattr(head_tile, "TILE_BYTES", {"cpu": (1, 1)})
    monkeypatch.setattr(head_tile, "BLOCK_ELEMENTS", {"cpu": 3 * VOCABULARY})
    return int(request.param)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_float64(chunk_rows: int, name: str, bias: bool, at_once: bool) -> None:
    values = data(1)
    expected, wanted = reference(values, TRANSFORMS[name], bias)
    loss, got = ours(values, TRANSFORMS[name], bias, at_once=at_once)
    assert float(loss) == pytest.approx(float(expected), rel=1e-13)
    assert got.keys() == wanted.keys()
    for key in wanted:
        assert error(got[key], wanted[key]) < 1e-13, key


@pytest.mark.parametrize("at_once", [False, True])
def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_the_same(chunk_rows: int, at_once: bool) -> None:
    values = data(2)
    _, wanted = reference(values, TRANSFORMS["softcap"], True)
    _, got = ours(values, TRANSFORMS["softcap"], True, frozen=True, at_once=at_once)
    assert got.keys() == {"hidden"}
    assert error(got["hidden"], wanted["hidden"]) < 1e-13


def test_a_frozen_head_never_makes_the_logits_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a sample is longer than a chunk, or all losses are needed first: dh is linear in the slopes."""
    monkeypatch.setattr(head_tile, "MIN_CHUNK_ROWS", 10)
    monkeypatch.setattr(head_tile, "TILE_BYTES", {"cpu": (1, 1)})
    made = 0
    products = head_tile.Head.products

    def counted(head: Any, start: int, stop: int) -> Tensor:
        nonlocal made
        made += stop - start
        return products(head, start, stop)

    monkeypatch.setattr(head_tile.Head, "products", counted)
    ours(data(2), PLAIN, False, frozen=True, at_once=True)
    assert made == NUM_TOKENS
    made = 0
    ours(data(2), PLAIN, False)
    assert made == NUM_TOKENS + sum(length for length in LENGTHS if length > 10)  # long samples twice, others once
    made = 0
    monkeypatch.setattr(head_tile, "MIN_CHUNK_ROWS", 40)
    ours(data(2), PLAIN, False)
    assert made == NUM_TOKENS


def test_float32_is_within_a_millionth(chunk_rows: int) -> None:
    values = data(3)
    for name, transform in TRANSFORMS.items():
        expected, wanted = reference(values, transform, True)
        loss, got = ours(
            {key: value.float() if value.is_floating_point() else value for key, value in values.items()},
            transform,
            True,
        )
        assert float(loss) == pytest.approx(float(expected), rel=1e-6), name
        for key in wanted:
            assert error(got[key], wanted[key]) < 1e-6, (name, key)


@pytest.mark.parametrize("scale", [1.0, 40.0], ids=["ordinary", "confident"])
def test_bfloat16_is_no_worse_than_whole_logits(chunk_rows: int, scale: float) -> None:
    """Against float64 on the same rounded inputs; confident: most targets have p > 0.99."""
    values = data(4, scale)
    if scale > 1:
        values["targets"] = (values["hidden"] @ values["weight"].t()).argmax(dim=-1)
    rounded = {key: v.bfloat16() if key in ("hidden", "weight", "bias") else v for key, v in values.items()}
    exact = {key: v.double() if v.is_floating_point() else v for key, v in rounded.items()}
    if scale > 1:
        probabilities = torch.softmax(exact["hidden"] @ exact["weight"].t(), dim=-1).gather(
            1, values["targets"][:, None]
        )
        assert float((probabilities > 0.99).double().mean()) > 0.5
    _, wanted = reference(exact, PLAIN, False)
    _, plain = reference(rounded, PLAIN, False)
    _, got = ours(rounded, PLAIN, False)
    for key, gradient in got.items():
        assert error(gradient, wanted[key]) <= 1.001 * error(plain[key], wanted[key]), key


def test_a_confident_token_keeps_its_gradient_in_bfloat16() -> None:
    """One token with p = 0.997: softmax - 1 in bfloat16 is off by a third, expm1(-l) is not."""
    weight = torch.eye(8, dtype=torch.bfloat16)
    hidden = torch.zeros(1, 8, dtype=torch.bfloat16)
    hidden[0, 3] = 7.8
    probability = torch.softmax(hidden.double() @ weight.double().t(), dim=-1)[0, 3]
    assert 0.996 < float(probability) < 0.998
    leaf = hidden.clone().requires_grad_(True)
    plain = Weighing([1], lambda start, stop, terms: terms["nll"].double().sum())
    loss, _ = weighed_loss(leaf, weight, None, torch.tensor([3]), PLAIN, plain, torch.bfloat16)
    loss.backward()
    assert leaf.grad is not None
    assert float(leaf.grad[0, 3]) == pytest.approx(float(probability - 1), rel=0.005)


def test_autocast_with_float32_weights_is_no_worse_than_whole_logits(chunk_rows: int) -> None:
    """The usual mixed precision: products in bfloat16, dW summed over the chunks in float32."""
    values = {key: v.float() if v.is_floating_point() else v for key, v in data(5).items()}
    values = {key: v.bfloat16().float() if key in ("hidden", "weight") else v for key, v in values.items()}
    _, wanted = reference({key: v.double() if v.is_floating_point() else v for key, v in values.items()}, PLAIN, False)
    errors = {}
    for kind in ("plain", "fused"):
        weight = values["weight"].clone().requires_grad_(True)
        hidden = values["hidden"].bfloat16().requires_grad_(True)
        if kind == "fused":
            asked = weighing(values["tokens"])
            loss, _ = weighed_loss(hidden, weight, None, values["targets"], PLAIN, asked, torch.bfloat16)
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                products = functional.linear(hidden, weight)
            nll = functional.cross_entropy(products.float(), values["targets"], reduction="none")
            loss = worst_of_samples(0, NUM_TOKENS, nll, values["tokens"])
        loss.backward()
        assert weight.grad is not None
        assert hidden.grad is not None
        assert weight.grad.dtype == torch.float32
        errors[kind] = (error(hidden.grad, wanted["hidden"]), error(weight.grad, wanted["weight"]))
    assert errors["fused"][0] <= 1.001 * errors["plain"][0]
    assert errors["fused"][1] <= 1.02 * errors["plain"][1]  # which way many small roundings fall is chance


def test_the_scale_is_multiplied_in_before_rounding() -> None:
    """float16 gradients of 1e-9 vanish; times a loss scale of 65,536 they do not."""
    values = {key: v.half() if key in ("hidden", "weight", "bias") else v for key, v in data(6).items()}
    values["tokens"] = values["tokens"] * 1e-5
    _, lost = ours(values, PLAIN, False)
    assert float(lost["hidden"].abs().max()) == 0.0
    _, kept = ours(values, PLAIN, False, scale=65536.0)
    _, wanted = reference({key: v.double() if v.is_floating_point() else v for key, v in values.items()}, PLAIN, False)
    assert error(kept["hidden"].double() / 65536, wanted["hidden"]) < 0.05


@pytest.mark.parametrize("term", ["uniform_nll", "reference_kl", "top_entropy"])
def test_further_terms(chunk_rows: int, term: str) -> None:
    """Losses of other quantities than l: the gradient is autograd's on whole logits."""
    values = data(7)
    other = torch.randn(NUM_TOKENS, VOCABULARY, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given = (other, lambda rows: rows)

    def share(start: int, stop: int, terms: Mapping[str, Tensor]) -> Tensor:
        return (values["tokens"][start:stop] * (terms["nll"] * (1 + terms[term]))).sum()

    leaves = {name: values[name].clone().requires_grad_(True) for name in ("hidden", "weight")}
    whole = TRANSFORMS["softcap"](leaves["hidden"] @ leaves["weight"].t())
    expected = share(0, NUM_TOKENS, logits.token_terms(whole, values["targets"], (term,), given))
    expected.backward()
    mine = {name: values[name].clone().requires_grad_(True) for name in ("hidden", "weight")}
    asked = Weighing(ENDS, share, terms=(term,), reference=given)
    loss, _ = weighed_loss(
        mine["hidden"], mine["weight"], None, values["targets"], TRANSFORMS["softcap"], asked, torch.float64
    )
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-13)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        got = mine[name].grad
        assert got is not None
        assert error(got, leaf.grad) < 1e-13, name


def test_without_gradients_the_same_losses_chunk_by_chunk(chunk_rows: int) -> None:
    values = data(8)
    arguments = (values["hidden"], values["weight"], values["bias"], values["targets"], TRANSFORMS["softcap"])
    whole = TRANSFORMS["softcap"](functional.linear(values["hidden"], values["weight"], values["bias"]))
    expected = functional.cross_entropy(whole, values["targets"], reduction="none")
    assert torch.allclose(terms_without_graph(*arguments, torch.float64)["nll"], expected, rtol=1e-13)
    found = terms_without_graph(*arguments, torch.float64, ("correct", "uniform_nll"))
    assert torch.equal(found["correct"], whole.argmax(dim=-1) == values["targets"])
    assert torch.allclose(found["uniform_nll"], -torch.log_softmax(whole, dim=-1).mean(dim=-1), rtol=1e-12)


def test_no_token_is_an_exact_zero_attached_to_the_graph() -> None:
    hidden = torch.zeros(0, HIDDEN, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN, requires_grad=True)
    empty = Weighing([], lambda start, stop, terms: terms["nll"].double().sum())
    for asked in (empty, Weighing([], empty.loss_of, at_once=True)):
        loss, nll = weighed_loss(hidden, weight, None, torch.zeros(0, dtype=torch.int64), PLAIN, asked, torch.float32)
        assert (loss.item(), nll.shape) == (0.0, (0,))
        weight.grad = None
        loss.backward()
        assert weight.grad is not None
        assert float(weight.grad.abs().max()) == 0.0


def test_the_backward_pass_can_be_scaled_and_leaves_what_it_saved_alone() -> None:
    values = data(9)
    hidden = values["hidden"].clone().requires_grad_(True)
    loss, _ = weighed_loss(
        hidden, values["weight"], None, values["targets"], PLAIN, weighing(values["tokens"]), torch.float64
    )
    (once,) = torch.autograd.grad(3.0 * loss, hidden, retain_graph=True)
    (again,) = torch.autograd.grad(loss, hidden)
    assert torch.allclose(once, 3.0 * again, rtol=1e-14)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"
)  # torch 2.13's inductor
@pytest.mark.parametrize("name", ["plain", "softcap"])
def test_compiled_tiles_keep_confident_tokens(name: str) -> None:
    """p > 0.99 throughout: l is a small difference of large numbers, and must not be rounded like them."""
    values = data(11, 40.0)
    values["targets"] = (values["hidden"] @ values["weight"].t()).argmax(dim=-1)
    single = {key: v.float() if key in ("hidden", "weight", "bias") else v for key, v in values.items()}
    exact = {key: v.double() if v.is_floating_point() else v for key, v in single.items()}
    _, wanted = reference(exact, TRANSFORMS[name], False)
    _, plain = reference(single, TRANSFORMS[name], False)
    _, got = ours(single, TRANSFORMS[name], False, compile_tiles=True)
    for key, gradient in got.items():
        assert error(gradient, wanted[key]) <= 1.2 * error(plain[key], wanted[key]), key


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"
)  # torch 2.13's inductor
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["plain", "softcap"])
def test_compiled_tiles(kind: torch.dtype, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bounds as above for the compiled functions; that they run is counted, so nothing falls back silently."""
    calls = []
    original = head_tile.compiled
    monkeypatch.setattr(head_tile, "compiled", lambda function: calls.append(function.__name__) or original(function))
    monkeypatch.setattr(head_tile, "MIN_CHUNK_ROWS", 30)
    monkeypatch.setattr(head_tile, "TILE_BYTES", {"cpu": (1, 1)})
    values = data(10)
    rounded = {key: v.to(kind) if key in ("hidden", "weight", "bias") else v for key, v in values.items()}
    exact = {key: v.double() if v.is_floating_point() else v for key, v in rounded.items()}
    expected, wanted = reference(exact, TRANSFORMS[name], False)
    loss, got = ours(rounded, TRANSFORMS[name], False, compile_tiles=True)
    assert set(calls) == {"_total_of", "_tile_slopes"}
    bounds = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 5e-3}
    assert float(loss) == pytest.approx(float(expected), rel=bounds[kind])
    for key, gradient in got.items():
        assert error(gradient, wanted[key]) < bounds[kind], key
