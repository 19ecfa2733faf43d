"""Heat that is cheap enough to be made for every frame: in bytes, at any size; and a result seen from further away, for its points."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heat_arrays import to_steps
from fastloc.results.result import Result

__all__ = ["LONG", "extremes_of", "heat_of", "limits_of", "matrices_of", "order_of", "reduced"]

Floats = NDArray[np.float32]

# long side of the small maps: a patch is still ten pixels of it with the finest grids
LONG = 320


def reduced(result: Result, long: int = LONG) -> Result:
    """The result on a picture whose long side has `long` pixels at most: points, boxes and heatmaps [T, h, w] to be scaled up again.

    Heat is that of the full size at the same place, for every order of read-out: a map that is stretched between its lowest and its
    highest value takes these from the full size. Boxes are off by one small pixel, unless two regions touch in one size alone. The picture
    is blank, and a refinement, which reads it, is left out.
    """
    height, width = result.geometry.picture
    scale = min(long / max(height, width), 1.0)
    small = max(round(height * scale), 1), max(round(width * scale), 1)
    order, limits = order_of(result), result.limits
    if order == "picture" and limits is None:
        limits = limits_of(result)
    geometry, blank = replace(result.geometry, picture=small), Image.new("RGB", small[::-1])
    return replace(result, picture=blank, geometry=geometry, order=order, limits=limits, refinement=None)


def heat_of(result: Result, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [T, H, W]: `result.heatmaps` in steps of 1/255, on the picture at another size (H, W).

    A read-out that is no stretch, and a refinement, are made small, and enlarged. Raw similarities, of the order "none", are stretched.
    """
    if limits_of(result) is not None:
        return replace(result, refinement=None).heatmap_array("uint8", size)
    small = reduced(result)
    heats = to_steps(heatmaps.minmax(small.heatmaps) if small.order == "none" else small.heatmaps)
    return np.stack([np.asarray(Image.fromarray(heat).resize(size[::-1], Image.Resampling.BILINEAR)) for heat in heats])


def order_of(result: Result) -> str:
    """The order of read-out."""
    # one text alone has no rivals: `maps.heatmaps` reads it out so as well
    return "picture" if result.order in heatmaps.COMPETING and len(result.texts) == 1 else result.order


def limits_of(result: Result) -> Floats | None:
    """float32 [T, 2]: the similarities where heat is 0 and 1; None for a read-out that is no stretch between two."""
    order, similarity = order_of(result), result.similarity
    if result.limits is not None:
        return result.limits
    if order == "grid":
        height, width = result.geometry.seen(_grid(result))
        return _ends(similarity[:, height, width])
    if order == "picture":
        (rows, columns), (down, along) = matrices_of(result), extremes_of(result)
        return _ends(rows[down] @ (similarity @ columns[along].T))
    return None


def _ends(values: Floats) -> Floats:
    """The lowest and the highest of each map; twice the lowest for what `maps.minmax` takes for a constant map."""
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    return np.stack([low, np.where(heatmaps.is_flat(low, high), low, high)], axis=1)


def matrices_of(result: Result, size: tuple[int, int] | None = None) -> tuple[Floats, Floats]:
    """float32 rows [H, h] and columns [W, w], see `Geometry.resampling`, on the picture at a size (H, W), by default its own."""
    return _matrices(result.geometry if size is None else replace(result.geometry, picture=size), _grid(result))


def extremes_of(result: Result) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The pixel rows and columns that hold a map's lowest and highest value, whatever the map: see `Axis.extremes`."""
    return _extremes(result.geometry, _grid(result))


def _grid(result: Result) -> tuple[int, int]:
    return result.similarity.shape[1], result.similarity.shape[2]


@lru_cache(maxsize=16)
def _matrices(geometry: Geometry, grid: tuple[int, int]) -> tuple[Floats, Floats]:
    rows, columns = geometry.resampling(grid)
    return rows.astype(np.float32), columns.astype(np.float32)


@lru_cache(maxsize=16)
def _extremes(geometry: Geometry, grid: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    rows, columns = geometry.sampling(grid)
    return rows.extremes, columns.extremes
