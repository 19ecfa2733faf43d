"""Inputs of an exported file, made by its manifest, or checked against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import ImageError, TextError
from fastloc.imaging.geometry import Geometry, size_text
from fastloc.imaging.heatmaps import COMPETING
from fastloc.imaging.preprocess import prepare
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime.shape_profiles import inputs_of

__all__ = ["MOST", "check_array", "check_count", "check_values", "filled_up", "geometry_of", "picture_input"]

Array = NDArray[Any]
Pair = tuple[int, int]
# DLPack's number of the CPU
CPU = 1
# of an input's floats: a byte is 255, and beyond this half precision may overflow
MOST = 1000.0


def geometry_of(manifest: Manifest, picture: Pair, size: int | Pair | None, file: str, name: str = "") -> Geometry:
    """The geometry of a picture of (height, width) in the encoder's input; `size` for a file that takes any, in place of its usual one.

    Raises:
        ImageError: not the camera's size, or a picture that the fit does not bring to the file's size. FastlocError: as `fit` does.
    """
    given = manifest.input
    if given.kind == "frames" and picture != given.frame:
        raise ImageError(f"{name or 'the picture'} must be {size_text(given.frame)}, as frames of {file}, got {size_text(picture)}")
    geometry = given.geometry(picture, manifest.model.patch, size)
    if given.size is not None and geometry.input != given.size:
        raise ImageError(
            f"{name or 'the picture'} must become {size_text(given.size)}, as {file} takes it, got {size_text(geometry.input)} from "
            f"{size_text(picture)} with fit {given.fit!r}; export with a dynamic size, or with fit 'stretch'"
        )
    return geometry


def picture_input(manifest: Manifest, picture: Image.Image, geometry: Geometry) -> Array:
    """One RGB picture as the file takes it, without the batch."""
    model, given = manifest.model, manifest.input
    if given.kind == "frames":
        planes: Array = np.asarray(picture).transpose(2, 0, 1)
    elif given.kind == "bytes":
        # as differences from the mean colour, and back: padding, which is 0 there, has that colour
        mean = np.asarray(model.mean, np.float32).reshape(3, 1, 1) * np.float32(255)
        planes = prepare(picture, geometry, model.mean, (1 / 255,) * 3, model.interpolation) + mean
    else:
        planes = prepare(picture, geometry, model.mean, model.std, model.interpolation)
    planes = planes[::-1] if given.bgr else planes
    return planes.transpose(1, 2, 0) if given.layout == "NHWC" else planes


def check_array(manifest: Manifest, array: Any, file: str) -> int:
    """Check an array that goes in unchanged. Returns its number of pictures.

    Raises:
        ImageError: not an array, or of another shape or dtype than the file takes; of a static batch there may be fewer.
    """
    name, (dtype, shape) = next(iter(inputs_of(manifest).items()))
    if not all(hasattr(array, each) for each in ("__dlpack__", "shape", "dtype")):
        raise ImageError(f"{name} must be an array of {dtype} {_shape(shape)}, as {file} takes it, got a {type(array).__name__}")
    found = str(getattr(array.dtype, "name", array.dtype)).removeprefix("torch.")
    sides = tuple(int(side) for side in array.shape)
    if found != dtype or len(sides) != len(shape) or 0 in sides or not all(map(_fits, sides, shape, range(len(shape)))):
        raise ImageError(f"{name} must be {dtype} {_shape(shape)}, as {file} takes it, got {found} {_shape(sides)}")
    patch = manifest.model.patch
    if manifest.input.kind != "frames" and any(side % step for side, step in zip(sides[2:], patch, strict=True)):
        raise ImageError(f"{name} must have height and width in multiples of the patch, {size_text(patch)}, got {_shape(sides)}")
    return sides[0]


def check_values(array: Any) -> None:
    """Raise ImageError for floats [B, ...] that are not finite or beyond `MOST`, with the picture's number.

    Arrays on a GPU are not read, which would wait for it: a Result refuses what comes of them.
    """
    if not isinstance(array, np.ndarray) and array.__dlpack_device__()[0] == CPU:
        array = np.from_dlpack(array)
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return
    for i, picture in enumerate(array):
        low, high = float(picture.min()), float(picture.max())
        # NaN is within nothing
        if not -MOST <= low <= high <= MOST:
            raise ImageError(f"picture {i} must be finite and within {MOST:g} of 0, got {low:g} to {high:g}; see the file's manifest")


def _fits(side: int, declared: int | str, axis: int) -> bool:
    return isinstance(declared, str) or side == declared or (axis == 0 and side < declared)


def check_count(manifest: Manifest, given: int, file: str) -> None:
    """Raise TextError for a number of texts that a file for exactly so many cannot answer."""
    count, recipe = manifest.texts.count, manifest.recipe
    if count is None or given == count:
        return
    if given > count:
        raise TextError(f"texts must be {count} or fewer for {file}, got {given}; export it for more, or for any number")
    if recipe.readout.score == "feature-surgery" or recipe.target.startswith("softmax"):
        reason = f"method {recipe.name!r} compares all texts with one another"
    elif recipe.readout.order in COMPETING and "heatmaps" in manifest.outputs:
        reason = "its heatmaps are a softmax over all texts"
    else:
        return
    raise TextError(f"texts must be exactly {count} for {file}, got {given}; {reason}, so a repeated text would change the others")


def filled_up(array: Any, count: int) -> Array:
    """The array with its last row repeated up to `count` rows. Raises ImageError for an array on a GPU, where numpy cannot copy it."""
    if not isinstance(array, np.ndarray):
        if array.__dlpack_device__()[0] != CPU:
            raise ImageError(f"pictures on a GPU must be exactly {count} for this file, got {array.shape[0]}")
        array = np.from_dlpack(array)
    return np.concatenate([array, np.repeat(array[-1:], count - len(array), axis=0)])


def _shape(sides: Sequence[object]) -> str:
    return f"[{', '.join(map(str, sides))}]"
