"""Every vector-Jacobian product is what autograd finds, in float64: each part alone, with and without a shared row."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import towers
from fastloc.functional import vjp
from fastloc.reference import parts
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
    wanted = by_autograd(lambda x: F.layer_norm(x, (C,), weight, None, 1e-5), x, gradient)
    assert error(vjp.layer_norm(gradient, x, weight, 1e-5), wanted) < EXACT


def test_linear() -> None:
    weight, gradient = numbers("w", 7, C), numbers("g", B, T, R, 7)
    wanted = by_autograd(lambda x: F.linear(x, weight), numbers("x", B, R, C), gradient)
    assert error(vjp.linear(gradient, weight), wanted) < EXACT


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu"])
def test_slope(activation: str) -> None:
    x = torch.linspace(-9, 9, 301, dtype=torch.float64).requires_grad_()
    (wanted,) = torch.autograd.grad(parts.activate(x, activation).sum(), x)
    assert error(vjp.slope(x.detach(), activation), wanted) < EXACT


def test_unit() -> None:
    z, gradient = numbers("z", B, C), numbers("g", B, T, C)
    found, shrink = vjp.unit(gradient, z)
    assert error(found * shrink[..., None], by_autograd(parts.unit, z, gradient)) < EXACT


def test_softmax() -> None:
    x, gradient = numbers("x", B, R, 9), numbers("g", B, T, R, 9)
    found = vjp.softmax(gradient, torch.softmax(x, -1)[:, None])
    assert error(found, by_autograd(lambda x: torch.softmax(x, -1), x, gradient)) < EXACT


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu"])
@pytest.mark.parametrize("rows", [R, 1])
def test_mlp_half(rows: int, activation: str) -> None:
    weights = towers.tower(activation=activation)
    block, spec, x, gradient = weights.blocks[2], weights.spec, numbers("x", B, R, C), numbers("g", B, T, rows, C)
    hidden = parts.layer_norm(x, block.ln2_w, block.ln2_b, spec.norm_eps) @ block.fc_w.T + block.fc_b
    wanted = by_autograd(lambda x: x + parts.mlp(block, x, spec), x, gradient)
    assert error(vjp.mlp_half(gradient, x, hidden, block, activation, spec.norm_eps), wanted) < EXACT


def test_half_precision_is_multiplied_in_and_nothing_else() -> None:
    weight, gradient = numbers("w", 7, C).half(), numbers("g", B, T, R, 7).float()
    found = vjp.linear(gradient, weight)
    assert found.dtype == torch.float32 and error(found, gradient.half().float() @ weight.float()) < 1e-3
    x = numbers("x", B, R, C).half()
    assert vjp.layer_norm(numbers("g", B, T, R, C).float(), x, numbers("w", C).half(), 1e-5).dtype == torch.float32
