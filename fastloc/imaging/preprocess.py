"""Preprocessing of a picture into a model's input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.reduced_picture import ReducedPicture, ScaledPicture

__all__ = ["INTERPOLATIONS", "prepare"]

INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def prepare(
    picture: Image.Image, geometry: Geometry, mean: Sequence[float], std: Sequence[float], interpolation: str = "bicubic"
) -> NDArray[np.float32]:
    """The model's input [3, h, w], float32: the RGB picture resized, cropped or padded as the geometry says, then (x / 255 - mean) / std.

    The resize is Pillow's, antialiased and rounded to 8 bits, so the numbers are those of torchvision's Resize on a PIL picture. Padding is
    exactly 0: the mean colour after normalisation. Of a `ReducedPicture` the reduced one is resized, at the same places; a `ScaledPicture`
    resizes itself.

    Raises FastlocError for a picture that is not RGB or not of the geometry's size, an unknown interpolation, and a mean or std that is not
    three numbers (std positive).
    """
    if interpolation not in INTERPOLATIONS:
        raise FastlocError(unknown("interpolation", interpolation, INTERPOLATIONS))
    if picture.mode != "RGB":
        raise FastlocError(f"the picture's mode must be 'RGB', got {picture.mode!r}; images.load converts")
    if picture.size[::-1] != geometry.picture:
        height, width = geometry.picture
        raise FastlocError(f"the picture must be {height} x {width}, as its geometry, got {picture.height} x {picture.width}")
    middle, spread = _three("mean", mean), _three("std", std)
    if (spread <= 0).any():
        raise FastlocError(f"std must be positive, got {list(std)}")

    (h, w), (top, left) = geometry.input, geometry.corner
    # the part of the resized picture that lies within the input, and its place there
    rows, columns = slice(max(top, 0), min(top + h, geometry.resized[0])), slice(max(left, 0), min(left + w, geometry.resized[1]))
    whole = rows.stop - rows.start == h and columns.stop - columns.start == w
    made: NDArray[np.float32]
    if isinstance(picture, ScaledPicture):
        resized = picture.scaled(geometry.resized, interpolation)[:, rows, columns]
    else:
        small, box = (picture.small, picture.box) if isinstance(picture, ReducedPicture) else (picture, None)
        resized = np.asarray(small.resize(geometry.resized[::-1], INTERPOLATIONS[interpolation], box))[rows, columns].transpose(2, 0, 1)
    if whole and resized.dtype == np.float32 and resized.flags.c_contiguous:
        made = inner = resized
    else:
        made = np.empty((3, h, w), np.float32) if whole else np.zeros((3, h, w), np.float32)
        inner = made[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        inner[:] = resized
    # planes first: arithmetic across interleaved colours takes nine times as long
    inner /= np.float32(255)
    inner -= middle
    inner /= spread
    return made


def _three(name: str, values: Sequence[float]) -> NDArray[np.float32]:
    array = np.asarray(values, np.float32)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise FastlocError(f"{name} must be three finite numbers, one a channel, got {values!r}")
    return array.reshape(3, 1, 1)
