"""Coordinate maps between the picture and the model's input, in both directions.

Every fit is one resize followed by one shift, so each axis is a single affine map in continuous coordinates, where a pixel's centre is at
its index + 0.5:

    input = scale * picture + offset        scale = resized / picture        offset = -corner

A crop has a positive corner, a letterbox a negative one, and the other fits none.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastloc.errors import FastlocError, ImageError, unknown
from fastloc.imaging.axis_sampling import Axis, sample

__all__ = ["BOUNDED", "FITS", "SHORT_SIDE", "VARYING", "Geometry", "both_sides", "fit", "size_text"]

Pair = tuple[int, int]
Floats = NDArray[np.float64]

# a longer picture would make "aspect" and "crop" resize to gigabytes
LONGEST = 32
# the largest input: float pixels take 0.8 GB a picture, and beyond so many patches one map of attention would take 275 GB
MAX_INPUT, MAX_PATCHES = 1 << 26, 1 << 18
# of SigLIP 2's search for a factor: its precision, and the largest factor
NAFLEX_EPS, NAFLEX_LARGEST = 1e-5, 100.0


@dataclass(frozen=True, slots=True)
class Geometry:
    """One picture in one model input. Sizes are (height, width) in pixels; points are (x, y), continuous.

    `resized` is the picture's size after the resize and `corner` the (top, left) of the input inside the resized picture; both follow from
    the other fields, and `fit` below works them out.
    """

    picture: Pair
    input: Pair
    fit: str
    resized: Pair
    corner: Pair

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels per picture pixel, (vertical, horizontal)."""
        return self.resized[0] / self.picture[0], self.resized[1] / self.picture[1]

    def grid(self, patch: int | Pair) -> Pair:
        """The (h, w) count of patches over the input; FastlocError where the patch does not divide the input."""
        size = _pair("patch", patch)
        if self.input[0] % size[0] or self.input[1] % size[1]:
            raise FastlocError(f"patch {size_text(size)} does not divide the model's input of {size_text(self.input)} pixels")
        return self.input[0] // size[0], self.input[1] // size[1]

    def to_input(self, points: ArrayLike) -> Floats:
        """(x, y) points [..., 2] of the picture as points [..., 2] of the model's input, float64."""
        moved: Floats = _points(points) * self.scale[::-1] - self.corner[::-1]
        return moved

    def to_picture(self, points: ArrayLike) -> Floats:
        """The inverse of `to_input`: points [..., 2] of the input as points [..., 2] of the picture, float64."""
        moved: Floats = (_points(points) + self.corner[::-1]) / self.scale[::-1]
        return moved

    def covered(self) -> tuple[slice, slice]:
        """(rows, columns) of the picture whose pixel centres the model saw: all but what a crop leaves out. Never empty."""
        return self._covered(0), self._covered(1)

    def seen(self, grid: Pair) -> tuple[slice, slice]:
        """(rows, columns) of the patch grid that hold any of the picture: all but a letterbox's pure padding. Never empty."""
        return self._seen(0, grid[0]), self._seen(1, grid[1])

    def resampling(self, grid: Pair, through_input: bool = False) -> tuple[Floats, Floats]:
        """Bilinear matrices rows [H, h] and columns [W, w], float64, so that heatmap [H, W] = rows @ values [h, w] @ columns.T.

        The patch grid lies over the model's input, whatever its size. Same rule as `interpolate(mode="bilinear", align_corners=False)`:
        sampled at pixel centres, edges replicated, no antialiasing. Rows of `covered` sum to 1 and rows outside it are 0. Padding of a
        letterbox has no weight: the picture's own border patches are replicated instead.

        through_input: in two steps, from the grid to the input's pixels, and from these to the picture's.
        """
        rows, columns = self.sampling(grid if not through_input else self.input)
        if not through_input:
            return rows.matrix(), columns.matrix()
        return rows.matrix() @ self._on_input(0, grid[0]).matrix(), columns.matrix() @ self._on_input(1, grid[1]).matrix()

    def sampling(self, grid: Pair) -> tuple[Axis, Axis]:
        """The same as `resampling`, as two tables (rows, columns): for each pixel two neighbouring cells and the weight between them."""
        return self._axis(0, grid[0]), self._axis(1, grid[1])

    def steps(self, grid: Pair, through_input: bool = False) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """The tables (rows, columns) that `resampling` takes one after the other, the picture's last."""
        rows, columns = self.sampling(grid if not through_input else self.input)
        return ((self._on_input(0, grid[0]), rows), (self._on_input(1, grid[1]), columns)) if through_input else ((rows,), (columns,))

    def _covered(self, axis: int) -> slice:
        low = self.corner[axis] / self.scale[axis]
        high = (self.corner[axis] + self.input[axis]) / self.scale[axis]
        last = self.picture[axis] - 1
        start = min(max(math.ceil(low - 0.5), 0), last)
        return slice(start, max(min(math.floor(high - 0.5), last), start) + 1)

    def _seen(self, axis: int, cells: int) -> slice:
        cell = self.input[axis] / cells
        start = max(math.floor(-self.corner[axis] / cell), 0)
        # the picture has a pixel at least behind the corner, so this is beyond the start
        stop = min(math.ceil((self.resized[axis] - self.corner[axis]) / cell), cells)
        return slice(start, stop)

    def _on_input(self, axis: int, cells: int) -> Axis:
        """The sampling of the input's own pixels."""
        pixels = self.input[axis]
        at: Floats = (np.arange(pixels, dtype=np.float64) + 0.5) * (cells / pixels) - 0.5
        return sample(at, cells, slice(0, pixels), self._seen(axis, cells))

    def _axis(self, axis: int, cells: int) -> Axis:
        centres = np.arange(self.picture[axis], dtype=np.float64) + 0.5
        at: Floats = (centres * self.scale[axis] - self.corner[axis]) * (cells / self.input[axis]) - 0.5
        return sample(at, cells, self._covered(axis), self._seen(axis, cells))


def fit(picture: Pair, size: int | Pair, patch: int | Pair, name: str = "stretch") -> Geometry:
    """The geometry of a picture (H, W) in a model input.

    size is one number or (h, w), multiples of the patch; the fits:
      stretch    the whole picture at exactly this size, its aspect ratio not kept (GEM, CLIP Surgery)
      aspect     short side at this size, long side to the nearest multiple of the patch (SCLIP and its kin, without the sliding window)
      crop       resized to cover this size, then its centre (CLIP's own preprocessing)
      letterbox  resized to lie within this size, the rest filled with the model's mean colour
      own        the picture's own size, each side to the nearest multiple of the patch; a short side above this size is brought to it
                 first (Grad-ECLIP)
      own-up     the same, each side up to the next multiple (TagCLIP, CLIP-ES)
      naflex     the largest input of the picture's ratio, each side up to a multiple of the patch, with at most as many patches as an input
                 of this size has (SigLIP 2 NaFlex): 256 pixels are 256 patches of 16

    Raises FastlocError for an input of more than `MAX_INPUT` pixels or `MAX_PATCHES` patches, an unknown fit, a size or picture that is not
    positive, a size that the patch does not divide (naming the nearest ones that would do) and two different numbers with `SHORT_SIDE`;
    ImageError for a picture longer than 32:1 with "aspect" or "crop".
    """
    if name not in FITS:
        raise FastlocError(unknown("fit", name, FITS))
    seen, asked, cell = _pair("picture size", picture), _pair("size", size), _pair("patch", patch)
    _check_multiple(asked, cell)
    if name in ("aspect", "crop") and max(seen) > LONGEST * min(seen):
        too_long = f"a picture of {size_text(seen)} is too long for fit {name!r} (at most {LONGEST}:1)"
        raise ImageError(f"{too_long}: use 'stretch' or 'letterbox'")
    if name in SHORT_SIDE and asked[0] != asked[1]:
        raise FastlocError(f"size must be one number for fit {name!r}, that of the short side, got {size_text(asked)}")
    inputs, resized, corner = FITS[name](seen, asked, cell)
    _check_cost(inputs, cell, size)
    return Geometry(picture=seen, input=inputs, fit=name, resized=resized, corner=corner)


Fitted = tuple[Pair, Pair, Pair]  # input, resized, corner


def _stretch(picture: Pair, size: Pair, patch: Pair) -> Fitted:
    return size, size, (0, 0)


def _aspect(picture: Pair, size: Pair, patch: Pair) -> Fitted:
    short = min(picture)
    # the short side comes out at exactly size[0], which is a multiple already, and the other is no shorter
    height, width = (round(size[0] * side / short / cell) * cell for side, cell in zip(picture, patch, strict=True))
    return (height, width), (height, width), (0, 0)


def _crop(picture: Pair, size: Pair, patch: Pair) -> Fitted:
    (height, width), (h, w) = picture, size
    # the long side is cut to a whole number and the corner rounded half to even, as torchvision's Resize and CenterCrop do
    upright = h * width < w * height
    resized = (max(int(w * height / width), h), w) if upright else (h, max(int(h * width / height), w))
    return size, resized, (round((resized[0] - h) / 2), round((resized[1] - w) / 2))


def _letterbox(picture: Pair, size: Pair, patch: Pair) -> Fitted:
    scale = min(size[0] / picture[0], size[1] / picture[1])
    height, width = (min(max(round(side * scale), 1), most) for side, most in zip(picture, size, strict=True))
    return size, (height, width), (-((size[0] - height) // 2), -((size[1] - width) // 2))


def _own(picture: Pair, size: Pair, patch: Pair, up: bool = False) -> Fitted:
    short, sides = min(picture), []
    most = min(size[0], short)
    for side, cell in zip(picture, patch, strict=True):
        # in whole numbers, because what is a multiple already must stay one
        pixels, whole = side * most, short * cell
        cells = -(-pixels // whole) if up else (2 * pixels + whole) // (2 * whole)
        sides.append(max(cells, 1) * cell)
    height, width = sides
    return (height, width), (height, width), (0, 0)


def _naflex(picture: Pair, size: Pair, patch: Pair) -> Fitted:
    """SigLIP 2's bisection, `get_image_size_for_max_num_patches` of transformers' image_processing_siglip2.py.

    It ends up to `NAFLEX_EPS` below the largest factor, which takes a patch from some large pictures. A picture with a side below a
    patch / `NAFLEX_LARGEST` has fewer patches than allowed.
    """
    most = math.prod(size) // math.prod(patch)
    low, high = NAFLEX_EPS / 10, NAFLEX_LARGEST
    while high - low >= NAFLEX_EPS:
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(_naflex_grid(picture, patch, middle)) <= most else (low, middle)
    rows, columns = _naflex_grid(picture, patch, low)
    made = rows * patch[0], columns * patch[1]
    return made, made, (0, 0)


def _naflex_grid(picture: Pair, patch: Pair, factor: float) -> Pair:
    rows, columns = (max(math.ceil(side * factor / cell), 1) for side, cell in zip(picture, patch, strict=True))
    return rows, columns


FITS: dict[str, Callable[[Pair, Pair, Pair], Fitted]] = {
    "stretch": _stretch, "aspect": _aspect, "crop": _crop, "letterbox": _letterbox,
    "own": _own, "own-up": partial(_own, up=True), "naflex": _naflex,
}  # fmt: skip
# of these, the fits whose size is the largest short side that is left as it is
BOUNDED = ("own", "own-up")
# the fits whose size is one number, that of the short side
SHORT_SIDE = ("aspect", *BOUNDED)
# the fits that give every shape of picture an input of its own
VARYING = (*SHORT_SIDE, "naflex")


def _pair(name: str, value: int | Pair) -> Pair:
    """One number or (h, w) as two plain positive ints."""
    try:
        both = (value, value) if not isinstance(value, (tuple, list)) else value
        height, width = (operator.index(each) for each in both)
    except (TypeError, ValueError):
        raise FastlocError(f"{name} must be a whole number or a pair (height, width) of them, got {value!r}") from None
    if height < 1 or width < 1:
        raise FastlocError(f"{name} must be positive, got {value!r}")
    return height, width


def _check_multiple(size: Pair, patch: Pair) -> None:
    for side, cell in zip(size, patch, strict=True):
        if side % cell:
            below = side // cell * cell
            good = f"{below} or {below + cell}" if below else f"{cell}"
            rule = f"a multiple of the patch {size_text(patch)}"
            raise FastlocError(f"size must be {rule}, got {size_text(size)}; instead of {side} use {good}")


def _check_cost(inputs: Pair, cell: Pair, size: int | Pair) -> None:
    """Raise FastlocError before gigabytes are allocated."""
    pixels, patches = math.prod(inputs), math.prod(inputs) // math.prod(cell)
    # a classifier's cells are pixels, and nothing there grows with their square
    if pixels > MAX_INPUT or (math.prod(cell) > 1 and patches > MAX_PATCHES):
        raise FastlocError(
            f"size must give an input of at most {MAX_INPUT:,} pixels and {MAX_PATCHES:,} patches, got size {size_text(size)}: "
            f"{size_text(inputs)} with {patches:,} patches of {size_text(cell)}; give a smaller one"
        )


def _points(points: ArrayLike) -> Floats:
    array = np.asarray(points, np.float64)
    if array.ndim == 0 or array.shape[-1] != 2:
        raise FastlocError(f"points must be (x, y) pairs, shape [..., 2], got {list(array.shape)}")
    return array


def size_text(size: int | Pair | None) -> str:
    """A size in pixels as messages show it: "336 x 448", one number as it is, "" for None."""
    if size is None:
        return ""
    return f"{size[0]} x {size[1]}" if isinstance(size, tuple) else str(size)


def both_sides(size: int | Sequence[int]) -> Pair:
    """(height, width) of one number for both, or of the two."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
