"""The arithmetic of one picture, so that a size that takes minutes is announced before it starts."""

from __future__ import annotations

import math

from fastloc.checkpoints.families.kinds import AnySpec
from fastloc.checkpoints.hierarchical.vitamin import DEPTHS, EXPANSION
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine.hierarchical import operations as of_maps
from fastloc.errors import warn
from fastloc.functional.op_set import TORCH
from fastloc.imaging.geometry import size_text
from fastloc.recipes import Recipe

__all__ = ["LARGE", "announce", "operations", "passes"]

# floating-point operations of one picture that take a CPU a minute or more
LARGE = 1e13


def operations(spec: AnySpec, size: tuple[int, int], recipe: Recipe | None = None) -> float:
    """Multiplications and additions of one pass through an image tower on an input of (height, width).

    In a ViT projections and MLPs grow with the tokens, attention with their square. A recipe that reads "cliper" adds those of its levels
    and of its passes over the maps.
    """
    if not isinstance(spec, ModelSpec):
        return of_maps.operations(spec, size)
    tokens = _tokens(spec, size)
    products = 8.0 * spec.width**2 + 2.0 * (2 + spec.gated) * spec.width * spec.mlp_width
    encoder = spec.layers * (tokens * products + 4.0 * tokens**2 * spec.width) + tokens * _stem(spec)
    if recipe is None or recipe.reads != "cliper":
        return encoder
    # values, out-projection and projection of each level, its own attention, and queries by keys of all earlier blocks in each pass
    levels = spec.layers * tokens * (4.0 * spec.width**2 + 2.0 * spec.width * spec.embed + 2.0 * tokens * spec.width)
    return encoder + levels + passes(spec, size, recipe) * (spec.layers - 1) * 2.0 * tokens**2 * spec.width


def _stem(spec: ModelSpec) -> float:
    """Of ViTamin's stem, for each token; one convolution of a patch is too small to count."""
    if spec.stem != "mbconv":
        return 0.0
    narrow, cells = spec.stem_width, 64
    total = cells * (27 + 9 * narrow) * narrow + 18 * narrow * spec.width
    for stage, depth in enumerate(DEPTHS):
        outer, inner, finer, cells = narrow << stage, narrow, cells, cells // 4
        hidden = EXPANSION * outer
        # the first block widens on the map before, and its shortcut changes the width behind the mean
        total += finer * hidden * inner + cells * hidden * ((depth - 1) * outer + depth * (outer + 9))
        total += cells * inner * outer if inner != outer else 0
    return 2.0 * total


def passes(spec: ModelSpec, size: tuple[int, int], recipe: Recipe) -> int:
    """The number of times that a pass recomputes attention maps because one head's is too large to keep: 0 unless it reads "cliper"."""
    if recipe.reads != "cliper" or TORCH.most is None or _tokens(spec, size) ** 2 <= TORCH.most:
        return 0
    # normalisers and first column sums, a round a level, and rows and columns for each of two products
    return spec.layers + 6


def announce(spec: AnySpec, size: tuple[int, int], recipe: Recipe | None = None) -> None:
    """Warn of an input whose pass takes more than `LARGE` operations, or recomputes attention maps that are too large to keep."""
    cost, anew = operations(spec, size, recipe), ""
    if recipe is not None and isinstance(spec, ModelSpec) and (times := passes(spec, size, recipe)):
        kept = 4 * spec.heads * _tokens(spec, size) ** 2 / 1e9
        anew = f"; method {recipe.name!r} makes its attention maps {times} times for it, because kept they would take {kept:,.1f} GB"
    if cost > LARGE or anew:
        minutes = ", which is minutes on a CPU" if cost > LARGE else ""
        warn(
            f"an input of {size_text(size)} takes about {cost / 1e12:,.0f} TFLOP a picture{minutes}{anew}; a smaller --size is faster",
            stacklevel=3,
        )


def _tokens(spec: ModelSpec, size: tuple[int, int]) -> int:
    return math.prod(side // step for side, step in zip(size, spec.patch, strict=True)) + spec.prefix
