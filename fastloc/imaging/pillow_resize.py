"""Pillow's antialiased resize as integers: the input pixels of each output pixel, and their weights.

Pillow resizes 8-bit pictures in two passes, one an axis, and rounds to 8 bits after each:

    out[i] = clip((1 << 21) + sum_k weights[i, k] * pixels[start[i] + k] >> 22, 0, 255)

All of it is integer arithmetic, so code that follows these tables gets Pillow's bytes, on any device. Because of the rounding, the order
of the passes matters, and it depends on Pillow's version: see `vertical_first`. The source is Pillow's `src/libImaging/Resample.c`
(`precompute_coeffs`, `normalize_coeffs_8bpc`, `ImagingResampleInner`) and, for "nearest", `ImagingScaleAffine` of `Geometry.c`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL
from numpy.typing import NDArray

from fastloc.errors import FastlocError, unknown

__all__ = ["PRECISION_BITS", "Taps", "taps", "vertical_first"]

# 32 bits, less 8 for a pixel and 2 for weights that overshoot
PRECISION_BITS = 32 - 8 - 2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """One pass of a resize. `start + K` is at most the size read, so no tap lies outside of it; taps that are not needed weigh 0."""

    start: NDArray[np.int32]  # [out], the first pixel read
    weights: NDArray[np.int32]  # [out, K], fixed point: 1 is 1 << PRECISION_BITS


def taps(size_in: int, size_out: int, interpolation: str) -> Taps:
    """The taps that resize `size_in` pixels to `size_out`; one tap a pixel if these are the same, as Pillow then skips the pass.

    Raises FastlocError for an interpolation that is not bicubic, bilinear, lanczos or nearest, and for a size below 1.
    """
    if size_in < 1 or size_out < 1:
        raise FastlocError(f"sizes of a resize must be positive, got {size_in} to {size_out} pixels")
    if interpolation not in (*_FILTERS, "nearest"):
        raise FastlocError(unknown("interpolation", interpolation, (*_FILTERS, "nearest")))
    scale = size_in / size_out
    if size_in == size_out:
        return _copies(np.arange(size_out))
    if interpolation == "nearest":
        # Pillow adds up the position step by step, and with it the steps' rounding errors
        return _copies(np.cumsum([0.5 * scale] + [scale] * (size_out - 1)))
    reach, curve = _FILTERS[interpolation]
    stretch = max(scale, 1.0)
    centre = (np.arange(size_out) + 0.5) * scale
    low = np.maximum(np.trunc(centre - reach * stretch + 0.5), 0)
    high = np.minimum(np.trunc(centre + reach * stretch + 0.5), size_in)
    count = int((high - low).max())
    start = np.minimum(low, size_in - count)
    at = start[:, None] + np.arange(count)
    weights = curve((at - centre[:, None] + 0.5) * (1.0 / stretch))
    weights[(at < low[:, None]) | (at >= high[:, None])] = 0
    # cumsum adds from left to right as Pillow does, where sum would add in pairs
    weights /= np.cumsum(weights, 1)[:, -1:]
    fixed = np.trunc(weights * (1 << PRECISION_BITS) + np.copysign(0.5, weights))
    return Taps(start.astype(np.int32), fixed.astype(np.int32))


def vertical_first(before: tuple[int, int], after: tuple[int, int], version: str = PIL.__version__) -> bool:
    """True where Pillow `version` resizes a picture of size `before` (H, W) to `after` along its columns first, and along its rows second.

    Never up to 12.1; since 12.2 for pictures over a hundred times as high as wide that become lower (python-pillow/Pillow#9524); since 13
    wherever the height loses more than twice the pixels that the width does (#9549), as in most portrait pictures.
    """
    (height, width), (h, w) = before, after
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < (12, 2):
        return False
    if major < 13:
        return height > 100 * width and h < height
    return height > h and height - h > 2 * (width - w)


def _copies(position: NDArray[np.float64] | NDArray[np.intp]) -> Taps:
    return Taps(position.astype(np.int32), np.full((len(position), 1), 1 << PRECISION_BITS, np.int32))


def _bicubic(x: Floats) -> Floats:
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _bilinear(x: Floats) -> Floats:
    return np.where(np.abs(x) < 1, 1 - np.abs(x), 0.0)


def _lanczos(x: Floats) -> Floats:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


def _sinc(x: Floats) -> Floats:
    angle = np.where(x == 0, 1.0, x * np.pi)
    return np.where(x == 0, 1.0, np.sin(angle) / angle)


# how far each filter reaches, in pixels of the smaller picture, and its curve
_FILTERS: dict[str, tuple[float, Callable[[Floats], Floats]]] = {
    "bicubic": (2.0, _bicubic),
    "bilinear": (1.0, _bilinear),
    "lanczos": (3.0, _lanczos),
}
