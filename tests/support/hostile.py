"""Inputs that arithmetic finds hard: pictures, texts and towers by name, for every method."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import towers
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.frames.formats import MOST
from fastloc.recipes import Recipe
from fastloc.reference import scores as literal

__all__ = ["CASES", "TOLERANCE", "Case", "exact", "lost", "steepness"]

Pair = tuple[int, int]
# an error relative to the largest value: those of `tests/functional/test_vit.py`
TOLERANCE = {torch.float32: 2e-6, torch.float16: 8e-3, torch.bfloat16: 6e-2}


def _ordinary(grid: Pair, batch: int) -> Tensor:
    return towers.pixels(batch, grid)


def _even(value: float) -> Callable[[Pair, int], Tensor]:
    return lambda grid, batch: torch.full_like(_ordinary(grid, batch), value)


def _spike(grid: Pair, batch: int) -> Tensor:
    pixels = _ordinary(grid, batch) * 0
    pixels[:, 1, 3, 5] = MOST
    return pixels


def _huge(grid: Pair, batch: int) -> Tensor:
    pixels = _ordinary(grid, batch)
    return pixels * (MOST / pixels.abs().max())


def _checks(grid: Pair, batch: int) -> Tensor:
    pixels = _ordinary(grid, batch)
    across = torch.arange(pixels.shape[3]) + torch.arange(pixels.shape[2])[:, None]
    return (1.0 - 2 * (across % 2)).expand(pixels.shape).to(pixels) * MOST


def _beside_huge(grid: Pair, batch: int) -> Tensor:
    return torch.cat([_ordinary(grid, 1), *([_huge(grid, batch - 1)] if batch > 1 else [])])


def _twins(grid: Pair, batch: int) -> Tensor:
    return _ordinary(grid, 1).expand(batch, -1, -1, -1)


def _silent_projections(weights: Weights) -> Weights:
    """No query, key or value: every head's vectors have length 0."""
    blocks = tuple(replace(block, qkv_w=block.qkv_w * 0, qkv_b=block.qkv_b * 0) for block in weights.blocks)
    return replace(weights, blocks=blocks)


def _silent_features(weights: Weights) -> Weights:
    """Patch features of length 0."""
    return replace(weights, proj=None if weights.proj is None else weights.proj * 0)


def _blind(weights: Weights) -> Weights:
    """Patches differ by their positions alone."""
    return replace(weights, patch_w=weights.patch_w * 0)


def _alike(weights: Weights) -> Weights:
    """All patches are one vector."""
    return replace(_blind(weights), pos=weights.pos * 0)


def _loud(weights: Weights) -> Weights:
    """Logits so far apart that every softmax is one-hot."""
    return replace(weights, blocks=tuple(replace(block, qkv_w=block.qkv_w * 8) for block in weights.blocks))


@dataclass(frozen=True)
class Case:
    """One input. `tower` changes the usual one; `texts` are of unit length. stated: False where the reference divides rounding by rounding,
    and its numbers are none: then the answer is finite."""

    pixels: Callable[[Pair, int], Tensor] = _ordinary
    grid: Pair = (3, 5)
    texts: Callable[[], Tensor] = lambda: towers.texts(3)
    tower: Callable[[Weights], Weights] = lambda weights: weights
    stated: bool = True


CASES: dict[str, Case] = {
    "ordinary": Case(),
    "black": Case(_even(0.0)),
    "one colour": Case(_even(0.7)),
    "denormal": Case(_even(1e-40)),
    "a spike": Case(_spike),
    "huge": Case(_huge),
    "checks": Case(_checks),
    "beside a huge one": Case(_beside_huge),
    "twins": Case(_twins),
    "one token": Case(grid=(1, 1)),
    "a row": Case(grid=(1, 7)),
    "a column, one colour": Case(_even(-2.0), grid=(7, 1)),
    "one text": Case(texts=lambda: towers.texts(1)),
    "copies of a text": Case(texts=lambda: towers.texts(1).expand(3, -1)),
    "opposite texts": Case(texts=lambda: torch.cat([towers.texts(1), -towers.texts(1)])),
    "vectors of length 0": Case(tower=_silent_projections),
    "features of length 0": Case(tower=_silent_features),
    "a blind tower": Case(tower=_blind),
    "one-hot attention": Case(tower=_loud),
    "patches all alike": Case(grid=(6, 7), tower=_alike, stated=False),
}


def exact(weights: Weights, pixels: Tensor, texts: Tensor, row: Recipe, empty: Tensor, grid: Pair) -> Tensor:
    """The literal reference's similarity [B, T, h, w] in the dtype of the weights."""
    found = literal.scores(weights, pixels.to(weights.dtype), texts.to(weights.dtype), row, empty.to(weights.dtype))
    return found.transpose(1, 2).reshape(len(pixels), len(texts), *grid)


def steepness(row: Recipe) -> float:
    """The factor by which a method may lose more than a forward pass: a gradient has the roundings of a backward too, and one of a share of
    a softmax the size of the rounding of a few cosines times 100."""
    if row.reads == "patches":
        return 1.0
    return 10.0 if row.target.startswith("softmax") else 2.0


def lost(found: Tensor, expected: Tensor, least: float = 1e-12) -> float:
    """The largest error over the largest value; the error itself where no value is above `least`."""
    largest: Any = expected.double().abs().max()
    return float((found.double() - expected.double()).abs().max() / (largest if largest > least else 1.0))
