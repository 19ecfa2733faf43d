"""The arithmetic of one picture, so that a size that takes minutes is announced before it starts."""

from __future__ import annotations

import math
import warnings

from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.errors import FastlocWarning
from fastloc.imaging.geometry import size_text

__all__ = ["LARGE", "announce", "operations"]

# floating-point operations of one picture from which on a CPU takes a minute or more
LARGE = 1e13


def operations(spec: ModelSpec, size: tuple[int, int]) -> float:
    """Multiplications and additions of one pass through a ViT on an input of (height, width): projections and MLPs grow with the tokens,
    attention with their square."""
    tokens = math.prod(side // step for side, step in zip(size, spec.patch, strict=True)) + spec.prefix
    products = 8.0 * spec.width**2 + 2.0 * (2 + spec.gated) * spec.width * spec.mlp_width
    return spec.layers * (tokens * products + 4.0 * tokens**2 * spec.width)


def announce(spec: ModelSpec | ResNetSpec, size: tuple[int, int]) -> None:
    """Warn of an input whose pass takes more than `LARGE` operations."""
    if isinstance(spec, ModelSpec) and (cost := operations(spec, size)) > LARGE:
        warnings.warn(
            f"an input of {size_text(size)} takes about {cost / 1e12:,.0f} TFLOP a picture, which is minutes on a CPU; a smaller --size is "
            "faster",
            FastlocWarning,
            stacklevel=3,
        )
