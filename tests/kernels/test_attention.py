"""The attention kernels put together are the attention of `fastloc.functional.attention`, and they refuse what they cannot do."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

if find_spec("triton") is None or sys.platform != "linux":
    pytest.skip("triton is not installed", allow_module_level=True)

from fastloc.functional.attention import FORMS, Projections, Temperature, inverse_temperatures, temperature_table
from fastloc.kernels import inverse_norms, self_attention, self_self_ensemble, self_self_step
from fastloc.recipes import Recipe, recipe

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
B, HEADS, D, GRID = 2, 2, 24, (5, 7)
N = 1 + GRID[0] * GRID[1]
# streams v, k, q of the stacked projections q, k, v, as GEM's row has its terms
PICK = (2, 1, 0)
# 2 heads, 3 streams, as many passes as are asked for
TABLE = [[[4.0, 9.0, 6.0, 5.0], [7.0, 3.0, 8.0, 4.0], [12.0, 6.0, 5.0, 9.0]], [[6.0, 5.0, 11.0, 7.0], [3.0, 8.0, 4.0, 6.0], [5.0] * 4]]


def packed(seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """[B, 3, H, N, d] as a projection leaves it."""
    raw = torch.randn(B, N, 3, HEADS, D, generator=torch.Generator().manual_seed(seed))
    return raw.to(DEVICE, dtype).permute(0, 2, 3, 1, 4)


def exact(x: Tensor, method: Recipe, temperatures: list[Temperature]) -> Tensor:
    """`fastloc.functional.attention` in float64, heads merged: [B, P, C]."""
    wide: list[Temperature] = [each.double() if isinstance(each, Tensor) else each for each in temperatures]
    return FORMS["sdpa"](Projections(x.double().permute(0, 3, 1, 2, 4), "qkv"), wide, method, GRID)


def gem(x: Tensor, temperatures: list[Tensor]) -> Tensor:
    """GEM's attention in one block, from raw projections and an inverse temperature [B, S, H] for every pass."""
    p, pick, norms = x, PICK, inverse_norms.inverse_norms(x, PICK)
    for temperature in temperatures[:-1]:
        p = self_self_step.self_self_step(p, temperature, pick, norms)
        pick, norms = (0, 1, 2), None
    return self_self_ensemble.self_self_ensemble(p, x[:, 2], temperatures[-1], pick, norms, scale=1 / 3)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("iterations", "inv_temp"), [(0, "adaptive"), (0, "table"), (1, "adaptive"), (1, "table"), (2, 20.0), (3, 20.0), (3, "table")]
)
def test_gem_block(iterations: int, inv_temp: float | str) -> None:
    passes = iterations + 1
    table = (tuple(tuple(tuple(stream[:passes]) for stream in head) for head in TABLE),)
    method = recipe("gem", iterations=iterations, inv_temp=table if inv_temp == "table" else inv_temp)
    x, lengths = packed(iterations), 20 + torch.arange(B * N, device=DEVICE).reshape(B, N).float()
    temperatures = inverse_temperatures(method, temperature_table(method, HEADS, x), lengths, D, 0)
    views = [torch.as_tensor(each, device=DEVICE).expand(B, 3, HEADS) for each in temperatures]
    found, expected = gem(x, views), exact(x, method, temperatures)
    assert found.shape == expected.shape == (B, N - 1, HEADS * D)
    assert error(found, expected) < 2e-6, f"{iterations} iterations, inv_temp {inv_temp}: {error(found, expected):.1e}"


@pytest.mark.parametrize("name", ["clip_surgery", "sclip", "clearclip", "naclip"])
def test_one_pass_methods(name: str) -> None:
    method, x = recipe(name), packed()
    pairs = tuple(("qkv".index(term[0]), "qkv".index(term[1])) for term in method.streams)
    found = self_attention.self_attention(
        x, x[:, 2], D**-0.5, pairs, scale=1.0 if method.combine == "sum" else 1 / len(pairs), bias_std=method.bias_std, grid=GRID
    )
    assert error(found, exact(x, method, [D**-0.5])) < 2e-6, name


@pytest.mark.parametrize("grid", [(1, 35), (35, 1), (5, 7)])
@pytest.mark.parametrize("std", [0.3, 5.0, 200.0])
def test_bias_is_the_dense_one(grid: tuple[int, int], std: float) -> None:
    x = packed()
    # scores of zero leave the softmax of the bias alone
    found = self_attention.self_attention(x, x[:, 2], 0.0, ((1, 1),), scale=1.0, bias_std=std, grid=grid)
    expected = self_attention.reference(x.double(), x[:, 2].double(), 0.0, ((1, 1),), scale=1.0, bias_std=std, grid=grid)
    assert error(found, expected) < 2e-6, f"grid {grid}, std {std}: {error(found, expected):.1e}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("raw", [True, False])
def test_zero_rows_attend_to_all_alike(dtype: torch.dtype, raw: bool) -> None:
    x = packed(dtype=dtype)
    x[0, :, :, 3] = 0
    x[1] = 0
    temperature = torch.full((B, 3, HEADS), 100.0, device=DEVICE)
    norms = inverse_norms.inverse_norms(x, PICK) if raw else None
    unit = x if raw else self_self_step.unit(x)
    p = self_self_step.self_self_step(unit, temperature, PICK, norms)
    assert bool(p.isfinite().all()), "a step"
    assert not bool(p[1].any()), "a picture of nothing but zeros stays one"
    mean = self_self_step.unit(self_self_step.unit(x[0, list(PICK)].float()).mean(2))
    assert error(p[0, :, :, 3], mean.double()) < 2e-3
    out = self_self_ensemble.self_self_ensemble(unit, x[:, 2], temperature, PICK, norms, scale=1 / 3)
    assert bool(out.isfinite().all()), "an ensemble"
    assert error(out[0, 2], x[0, 2].double().mean(1).flatten()) < 2e-3


def ensemble(x: Tensor, **more: Any) -> Tensor:
    temperature = torch.full((1, 1, 1), 8.0, device=DEVICE).expand(B, 3, HEADS)
    norms = inverse_norms.inverse_norms(x, PICK)
    return self_self_ensemble.self_self_ensemble(x, x[:, 2], temperature, PICK, norms, scale=1 / 3, **more)


def plain(x: Tensor, **more: Any) -> Tensor:
    return self_attention.self_attention(x, x[:, 2], 0.2, ((0, 0), (0, 1)), scale=0.5, add_v=True, **more)


@pytest.mark.parametrize("op", [ensemble, plain])
def test_slots_leave_their_neighbours_alone(op: Callable[..., Tensor]) -> None:
    x = packed()
    slots = torch.full((B, N + 1, 3, HEADS * D), 7.0, device=DEVICE)
    out = slots[:, 1:-1, 1]
    assert op(x, out=out) is out
    assert torch.equal(out, op(x))
    slots[:, 1:-1, 1] = 7.0
    assert bool((slots == 7.0).all())


@pytest.mark.parametrize("op", [ensemble, plain])
def test_the_class_query_is_only_left_out(op: Callable[..., Tensor]) -> None:
    x = packed()
    every, patches = op(x, first=0), op(x, first=1)
    assert every.shape == (B, N, HEADS * D)
    assert error(every[:, 1:], patches.double()) < 1e-6
    assert op(x, first=N).shape == (B, 0, HEADS * D)


X = torch.zeros(1, 9, 3, 2, 64, dtype=torch.float16).permute(0, 2, 3, 1, 4)
T = torch.ones(1, 1, 2)


def of_width(width: int) -> Tensor:
    return torch.zeros(1, 3, 2, 9, width, dtype=torch.float16)


@pytest.mark.parametrize(
    ("x", "more", "reason"),
    [
        (X, {}, ""),
        (X[0], {}, "x must be [B, K, H, N, d], got 4 axes"),
        (of_width(20), {}, "the head width of x must be a multiple of 8, for rows aligned to 16 bytes, got 20"),
        (of_width(8), {}, "the head width of x must be from 16 to 128, got 8"),
        (of_width(136), {}, "the head width of x must be from 16 to 128, got 136"),
        (X.float(), {}, "got float32, which would run without tensor cores; or use attention='sdpa'"),
        (X.double(), {}, "x must be float16 or bfloat16, got float64"),
        (of_width(128)[..., ::2], {}, "must have stride 1 on its last axis, got 2"),
        (torch.zeros(1, 3, 2, 9, 68).half()[..., :64], {}, "strides of x must be multiples of 8, for rows aligned to 16 bytes, got 68"),
        (X, {"pick": (3,)}, "pick must be of x's 3 projections, counted from 0, got 3"),
        (X, {"pick": ()}, "pick must have 1 to 7 streams, got 0"),
        (X, {"inv_temp": T.double()}, "inv_temp must be [1, 1, 2] float32, got [1, 1, 2] float64"),
        (X, {"inv_temp": T[:, :, :1]}, "inv_temp must be [1, 1, 2] float32, got [1, 1, 1] float32"),
        (X, {"norms": torch.zeros(1, 1, 2, 9)}, "norms must be [1, 1, 2, 64] float32, got [1, 1, 2, 9] float32"),
    ],
)
def test_step_says_why_not(x: Tensor, more: dict[str, Any], reason: str) -> None:
    reasons = self_self_step.why_not(**{"x": x, "inv_temp": T, "pick": (0,)} | more)
    assert any(reason in each for each in reasons) if reason else reasons == [], reasons


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, ""),
        ({"v": X[:, 2].bfloat16()}, "v must be [1, 2, 9, 64] float16, got [1, 2, 9, 64] bfloat16"),
        ({"v": X[:, 2, :, 1:]}, "v must be [1, 2, 9, 64] float16, got [1, 2, 8, 64] float16"),
        ({"first": 10}, "first must be from 0 to x's 9 tokens, got 10"),
        ({"out": torch.zeros(1, 9, 128).half()}, "out must be [1, 8, 128] float16, got [1, 9, 128] float16"),
        ({"out": torch.zeros(1, 8, 132).half()[..., :128]}, "multiples of 8 and a last one of 1, got (1056, 132, 1)"),
        ({"x": of_width(20)}, "head width of x must be a multiple of 8"),
    ],
)
@pytest.mark.parametrize("op", [self_self_ensemble, self_attention])
def test_outputs_say_why_not(op: Any, more: dict[str, Any], reason: str) -> None:
    streams = {"pairs": ((1, 1),)} if op is self_attention else {"pick": (1,)}
    reasons = op.why_not(**{"x": X, "v": X[:, 2], "inv_temp": T, "scale": 1.0} | streams | more)
    assert any(reason in each for each in reasons) if reason else reasons == [], reasons


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"grid": (2, 4)}, ""),
        ({"grid": None}, "grid must have 8 patches for the bias of 9 tokens from 1 on, got None"),
        ({"grid": (3, 3)}, "grid must have 8 patches for the bias of 9 tokens from 1 on, got (3, 3)"),
        ({"grid": (2, 4), "first": 0}, "grid must have 9 patches for the bias of 9 tokens from 0 on, got (2, 4)"),
        ({"grid": (2, 4), "bias_std": 0.0}, "bias_std must be above 0, got 0.0"),
        ({"grid": (2, 4), "pairs": ((0, 3),)}, "the keys' side of pairs must be of x's 3 projections, counted from 0, got 3"),
    ],
)
def test_bias_says_why_not(more: dict[str, Any], reason: str) -> None:
    reasons = self_attention.why_not(**{"x": X, "v": X[:, 2], "inv_temp": 0.1, "pairs": ((0, 1),), "scale": 1.0, "bias_std": 5.0} | more)
    assert any(reason in each for each in reasons) if reason else reasons == [], reasons
