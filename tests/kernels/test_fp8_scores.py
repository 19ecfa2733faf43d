"""The variant whose ensemble multiplies unit vectors of 8 bits: its error against float64, and what Triton's interpreter makes of it.

The interpreter reads and multiplies float8_e4m3fn exactly, but stores it wrongly: the step's unit vectors are then rounded by PyTorch.
"""

import sys
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

if find_spec("triton") is None or sys.platform != "linux":
    pytest.skip("triton is not installed", allow_module_level=True)

from fastloc.kernels import variants
from fastloc.kernels.inverse_norms import inverse_norms
from fastloc.kernels.self_self_ensemble import self_self_ensemble, why_not
from fastloc.kernels.self_self_step import self_self_step

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
KIND = torch.float8_e4m3fn
PICK, STREAMS = (2, 1, 0), (0, 1, 2)
# the least normal number of float8_e4m3fn
NORMAL = 2.0**-6


def operands(dtype: torch.dtype, width: int, inv_temp: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    # a part that all tokens share, as in a tower: cosines of about a half, so that a token attends to many
    raw = torch.randn(2, 65, 3, 2, width, generator=generator) + torch.randn(2, 1, 3, 2, width, generator=generator)
    return raw.half().to(DEVICE, dtype).permute(0, 2, 3, 1, 4), torch.full((2, 3, 2), inv_temp, device=DEVICE)


def iterated(x: Tensor, inv_temp: Tensor) -> Tensor:
    """The literal iteration in float64: unit rows [B, S, H, N, d]."""
    p = F.normalize(x.double()[:, list(PICK)], dim=-1)
    return F.normalize(torch.softmax(inv_temp.double()[..., None, None] * (p @ p.mT), -1) @ p, dim=-1)


def ensemble(p: Tensor, v: Tensor, inv_temp: Tensor) -> Tensor:
    """The literal ensemble in float64, without the class token's query: [B, N - 1, H * d]."""
    p, v = p.double(), v.double()
    weights = torch.softmax(inv_temp.double()[..., None, None] * (p @ p.mT), -1)
    return (weights @ v[:, None]).mean(1)[:, :, 1:].transpose(1, 2).flatten(2)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


# head width, inverse temperature, error of the literal statement with unit vectors rounded to 8 bits; float16's is 2e-4
@pytest.mark.parametrize(("width", "inv_temp", "figure"), [(64, 3.5, 1.23e-3), (64, 12.0, 9.6e-3), (72, 8.0, 3.45e-3)])
def test_its_error_is_that_of_rounding_the_unit_vectors(width: int, inv_temp: float, figure: float) -> None:
    x, temperature = operands(torch.float16, width, inv_temp)
    v, p = x[:, 2], iterated(x, temperature)
    exact, literal = ensemble(p, v, temperature), ensemble(p.to(KIND), v, temperature)
    with variants.using("fp8_scores"):
        assert not why_not(p.to(KIND), v, temperature, STREAMS, scale=1 / 3)
        found = self_self_ensemble(p.to(KIND), v, temperature, STREAMS, scale=1 / 3)
    # what the kernel adds is float16's rounding, of weights and of the result
    assert error(found, literal) < 3e-4
    assert error(literal, exact) == pytest.approx(figure, rel=0.05)
    assert error(found, exact) == pytest.approx(figure, rel=0.05)


def test_8_bits_are_refused_without_the_variant() -> None:
    x, temperature = operands(torch.float16, 64, 8.0)
    assert why_not(x.to(KIND), x[:, 2], temperature, STREAMS, scale=1 / 3)


@pytest.mark.skipif(DEVICE.type == "cuda", reason="of Triton's interpreter")
def test_the_interpreter_loses_the_carry_of_a_rounded_significand() -> None:
    """Once this fails, the interpreter is right, and the step can be judged in it."""
    x, temperature = operands(torch.float32, 64, 8.0)
    norms = inverse_norms(x, PICK)
    with variants.using("fp8_scores"):
        found = self_self_step(x, temperature, PICK, norms)
    expected = self_self_step(x, temperature, PICK, norms).to(KIND).float()
    assert found.dtype is KIND
    wrong = found.float() != expected
    large = wrong & (expected.abs() > NORMAL)
    # a significand that is rounded up to the next power of two keeps its exponent: half of the number
    assert bool(large.any()) and torch.equal(found.float()[large], expected[large] / 2)
    # the others are subnormal, which it cuts off, or rounded up to the least normal number
    small = wrong & ~large
    assert bool(small.any()) and bool((found.float()[small].abs() < expected[small].abs()).all())


@pytest.mark.skipif(DEVICE.type == "cpu", reason="Triton's interpreter stores float8_e4m3fn wrongly")
def test_a_gpu_stores_what_pytorch_rounds() -> None:
    x, temperature = operands(torch.float16, 64, 8.0)
    norms = inverse_norms(x, PICK)
    with variants.using("fp8_scores"):
        found = self_self_step(x, temperature, PICK, norms)
    # a unit in the last place of 8 bits, where float16's rounding passes a tie
    torch.testing.assert_close(found.float(), iterated(x, temperature).to(KIND).float(), rtol=0.126, atol=2.0**-9)
    assert float((found.float() != iterated(x, temperature).to(KIND).float()).float().mean()) < 0.02
