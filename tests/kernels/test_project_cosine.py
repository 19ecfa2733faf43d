"""The variant that normalises, projects and compares patches in one kernel: its numbers, its refusals, and a pass with it."""

import math
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

if find_spec("triton") is None or sys.platform != "linux":
    pytest.skip("triton is not installed", allow_module_level=True)

from fastloc.engine.vit_engine import Engine, Pass, Tower
from fastloc.kernels import variants
from fastloc.kernels.project_cosine import MOST_TEXTS, project_cosine, why_not
from fastloc.recipes import RECIPES
from towers import error, pixels, texts, tower

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EPS = 1e-5


def operands(patches: int, channels: int, width: int, words: int, dtype: torch.dtype, seed: int = 0) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)

    return drawn(2, patches, channels), drawn(channels), drawn(channels), EPS, drawn(channels, width) * channels**-0.5, drawn(words, width)


def literal(x: Tensor, weight: Tensor, bias: Tensor, eps: float, projection: Tensor, words: Tensor) -> Tensor:
    """The formulas of the op, patch by patch in float64."""
    x, weight, bias, projection, words = (each.double().cpu() for each in (x, weight, bias, projection, words))
    found = torch.zeros(x.shape[0], len(words), x.shape[1], dtype=torch.float64)
    for image, patch in torch.cartesian_prod(*map(torch.arange, x.shape[:2])).tolist():
        row = x[image, patch]
        mean = sum(row.tolist()) / len(row)
        variance = sum((value - mean) ** 2 for value in row.tolist()) / len(row)
        y = (row - mean) / math.sqrt(variance + eps) * weight + bias
        feature = sum(y[channel] * projection[channel] for channel in range(len(row)))
        length = max(math.sqrt(sum(value**2 for value in feature.tolist())), 1e-12)
        found[image, :, patch] = torch.stack([(feature * word).sum() / length for word in words])
    return found


# PyTorch's own largest errors here are 3e-7 and 7e-4, the kernel's 2e-7 and 4e-4
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 6e-7), (torch.float16, 1e-3)], ids=str)
@pytest.mark.parametrize(("patches", "channels", "width", "words"), [(5, 48, 24, 1), (3, 33, 51, 5), (66, 64, 128, 17)])
def test_it_is_the_literal_statement(dtype: torch.dtype, limit: float, patches: int, channels: int, width: int, words: int) -> None:
    given = operands(patches, channels, width, words, dtype)
    assert not why_not(*given)
    found = project_cosine(*given)
    assert found.shape == (2, words, patches) and found.dtype is torch.float32
    assert error(found.cpu(), literal(*given)) < limit


def test_a_feature_of_zeros_gives_zero() -> None:
    x, weight, bias, eps, projection, words = operands(3, 32, 16, 2, torch.float16)
    x[0, 1] = 7.0
    found = project_cosine(x, weight, torch.zeros_like(bias), eps, projection, words)
    assert bool(found.isfinite().all()) and not bool(found[0, :, 1].any()) and bool(found[0, :, 0].all())


def test_refusals_name_what_to_change() -> None:
    x, weight, bias, eps, projection, words = operands(3, 32, 16, 2, torch.float16)
    for changed, expected in [
        ({"x": x[0]}, "x must be [B, P, C]"),
        ({"x": x.double()}, "x must be float32, float16 or bfloat16, got float64"),
        ({"x": x[..., :24]}, "x must have as many channels as the projection has rows, 32, got 24"),
        ({"weight": weight[:8]}, "weight must be [32] and contiguous, got [8]"),
        ({"bias": bias.float()}, "bias must have the dtype of x, float16, got float32"),
        ({"texts": words[:, :8]}, "texts must have the width of the projection, 16, got 8"),
        ({"texts": words[:1].expand(MOST_TEXTS + 1, -1)}, f"texts must be at most {MOST_TEXTS}"),
        ({"texts": words.expand(3, -1, -1)}, "texts must be for as many images as x, 2, got 3"),
        ({"projection": projection.T.contiguous().T}, "projection must have stride 1 on the last axis, got 32"),
    ]:
        reasons = why_not(**{"x": x, "weight": weight, "bias": bias, "eps": eps, "projection": projection, "texts": words, **changed})
        assert any(reason.startswith(expected) for reason in reasons), (expected, reasons)


@pytest.mark.parametrize("method", ["gem", "clip_surgery"])
def test_a_pass_with_it_gives_the_grids_of_a_pass_without(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, images, words = tower().to(dtype=torch.float32), pixels(2, (3, 4)).float().to(DEVICE), texts(3).float().to(DEVICE)
    settings = {"dtype": "float32", "readout": "triton", "attention": "sdpa", "norm": "torch", "activation": "torch", "launch": "eager"}
    made = Tower(weights, DEVICE, "float32")
    seen = []
    cosine = Pass._cosine
    monkeypatch.setattr(Pass, "_cosine", lambda self: seen.append(cosine(self)) or seen[-1])
    expected = Engine(made, RECIPES[method], settings)(images, words)[0]
    with variants.using("project_cosine"):
        found = Engine(made, RECIPES[method], settings)(images, words)[0]
        # more texts than a program has accumulators for: as without the variant
        Engine(made, RECIPES[method], settings)(images, words.repeat(43, 1))
    assert [unread for _, unread in seen] == [False, True, False]
    assert error(found, expected.double()) < 2e-6
