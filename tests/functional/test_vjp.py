"""Every vector-Jacobian product is what autograd finds, in float64: each part alone, with and without a shared row."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import families
import towers
from fastloc.functional import vjp
from fastloc.functional.blocks import mlp_end, mlp_start, out_linear
from fastloc.functional.folding import without_scale
from fastloc.reference import arithmetic, parts
from towers import error

EXACT = 1e-12
B, T, R, C = 2, 3, 5, 32


def numbers(name: str, *shape: int) -> Tensor:
    return towers.array(name, *shape, low=-1.5, high=1.5)


def by_autograd(function: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> Tensor:
    """function: [B, …] -> [B, …]; gradient [B, T, …]: one backward a text."""
    leaf = x.clone().requires_grad_()
    out = function(leaf)
    found = [torch.autograd.grad(out, leaf, each.expand_as(out), retain_graph=True)[0] for each in gradient.unbind(1)]
    return torch.stack(found, 1)


@pytest.mark.parametrize("rows", [R, 1])
def test_layer_norm(rows: int) -> None:
    x, weight, gradient = numbers("x", B, R, C), numbers("w", C), numbers("g", B, T, rows, C)
    expected = by_autograd(lambda x: F.layer_norm(x, (C,), weight, None, 1e-5), x, gradient)
    assert error(vjp.layer_norm(gradient, x, weight, 1e-5), expected) < EXACT


def test_linear() -> None:
    weight, gradient = numbers("w", 7, C), numbers("g", B, T, R, 7)
    expected = by_autograd(lambda x: F.linear(x, weight), numbers("x", B, R, C), gradient)
    assert error(vjp.linear(gradient, weight), expected) < EXACT


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu", "silu"])
def test_slope(activation: str) -> None:
    x = torch.linspace(-9, 9, 301, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(arithmetic.activate(x, activation).sum(), x)
    assert error(vjp.slope(x.detach(), activation), expected) < EXACT


def test_unit() -> None:
    z, gradient = numbers("z", B, C), numbers("g", B, T, C)
    found, shrink = vjp.unit(gradient, z)
    assert error(found * shrink[..., None], by_autograd(arithmetic.unit, z, gradient)) < EXACT


def test_softmax() -> None:
    x, gradient = numbers("x", B, R, 9), numbers("g", B, T, R, 9)
    found = vjp.softmax(gradient, torch.softmax(x, -1)[:, None])
    assert error(found, by_autograd(lambda x: torch.softmax(x, -1), x, gradient)) < EXACT


@pytest.mark.parametrize("family", ["clip", "clipa", "eva02", "eva02-e", "tips-g", "vitamin"])
@pytest.mark.parametrize("rows", [R, 1])
def test_mlp_half(rows: int, family: str) -> None:
    weights = without_scale(families.tower(family))
    block, spec, x, gradient = weights.blocks[2], weights.spec, numbers("x", B, R, C), numbers("g", B, T, rows, C)
    read = arithmetic.layer_norm(x, block.ln2_w, block.ln2_b, spec.norm_eps) if spec.norm == "pre" else x
    hidden = mlp_start(block, read, spec)
    expected = by_autograd(lambda x: x + parts.mlp(block, x, spec), x, gradient)
    assert error(vjp.mlp_half(gradient, x, hidden, mlp_end(block, hidden, spec), block, spec), expected) < EXACT


@pytest.mark.parametrize("family", ["clip", "eva02", "eva02-e"])
def test_attention_end(family: str) -> None:
    weights = families.tower(family)
    block, spec, x, gradient = weights.blocks[2], weights.spec, numbers("x", B, R, C), numbers("g", B, T, R, C)
    expected = by_autograd(lambda x: parts.out(block, x[:, None], spec), x, gradient)
    assert error(vjp.attention_end(gradient, x, out_linear(block, x, spec), block, spec), expected) < EXACT


@pytest.mark.parametrize(("turning", "normed"), [(True, False), (False, True), (True, True)])
def test_turned(turning: bool, normed: bool) -> None:
    heads, width = 4, C // 4
    x, gradient, weight = numbers("x", B, R, heads, width), numbers("g", B, T, R, C), numbers("w", width)
    angles = numbers("angles", R, width // 2)
    turns = torch.stack([angles.cos(), angles.sin()]) if turning else None

    def forward(x: Tensor) -> Tensor:
        y = F.layer_norm(x, (width,), weight, None, 1e-5) if normed else x
        return (arithmetic.rotate(y.transpose(1, 2), angles).transpose(1, 2) if turning else y).flatten(2)

    found = vjp.turned(gradient, x, turns, weight if normed else None, 1e-5)
    assert error(found.reshape(B, T, R, heads, width), by_autograd(forward, x, gradient)) < EXACT


@pytest.mark.parametrize(("family", "whole"), [("siglip", True), ("siglip", False), ("pe", True), ("coca", True)])
@pytest.mark.parametrize("rows", [R, 1])
def test_pool_end(rows: int, family: str, whole: bool) -> None:
    weights = families.tower(family)
    assert weights.pool is not None
    pool, width = weights.pool, weights.pool.out_w.shape[0]
    z, gradient = numbers("z", B, R, width), numbers("g", B, T, rows, width)
    expected = by_autograd(lambda z: parts.behind_pool(weights, z) if whole else z + 0, z, gradient)
    assert error(vjp.pool_end(gradient, z, pool, weights.spec, whole).expand_as(expected), expected) < EXACT


def test_half_precision_is_multiplied_in_and_nothing_else() -> None:
    weight, gradient = numbers("w", 7, C).half(), numbers("g", B, T, R, 7).float()
    found = vjp.linear(gradient, weight)
    assert found.dtype == torch.float32 and error(found, gradient.half().float() @ weight.float()) < 1e-3
    x = numbers("x", B, R, C).half()
    assert vjp.layer_norm(numbers("g", B, T, R, C).float(), x, numbers("w", C).half(), 1e-5).dtype == torch.float32
