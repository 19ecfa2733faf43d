"""The part of a result that holds: the similarities of one picture, and the heatmaps that are made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from fastloc.errors import FastlocError, TextError
from fastloc.imaging import heat_arrays, refined_heatmaps
from fastloc.imaging import heatmaps as maps
from fastloc.imaging.geometry import Geometry

__all__ = ["ResultMaps"]


# two results are never compared by value: arrays have no single truth
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ResultMaps:
    """One picture, T texts: the fields of `fastloc.results.result.Result`, and its heatmaps."""

    picture: Image.Image
    texts: tuple[str, ...]
    similarity: NDArray[np.float32]
    geometry: Geometry
    order: str
    logit_scale: float | None = None
    reverse: bool = False
    method: str = ""
    model: str = ""
    name: str = ""
    scores: NDArray[np.float32] | None = None
    image_scores: NDArray[np.float32] | None = None
    no_scores: str = ""
    refinement: refined_heatmaps.AnyRefinement | None = None
    limits: NDArray[np.float32] | None = None

    # bytes that the heatmaps of one result may take together; set another on the class
    max_map_bytes: ClassVar[int] = 4 << 30

    def __post_init__(self) -> None:
        # the way to set a field of a frozen dataclass
        put = object.__setattr__
        put(self, "texts", tuple(self.texts))
        put(self, "similarity", np.asarray(self.similarity, np.float32))
        for name in ("scores", "image_scores", "limits"):
            if getattr(self, name) is not None:
                put(self, name, np.asarray(getattr(self, name), np.float32))
        self._check()

    def _check(self) -> None:
        count, shape = len(self.texts), self.similarity.shape
        if not count:
            raise TextError("texts must be one or more, got none")
        if len(shape) != 3 or shape[0] != count or 0 in shape:
            raise FastlocError(f"similarity must be [T, h, w] with T = {count} texts, got {list(shape)}")
        for name, values in (("scores", self.scores), ("image_scores", self.image_scores)):
            if values is not None and values.shape != (count,):
                raise FastlocError(f"{name} must be [T] with T = {count} texts, got {list(values.shape)}")
        if self.scores is not None and not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise FastlocError(f"scores must lie within [0, 1], got {self.scores.tolist()}; cosines are image_scores")
        if self.limits is not None:
            maps.check_limits(self.limits, count, self.order)
        if self.refinement is not None:
            refined_heatmaps.check(self.refinement, count, self.geometry)
        if self.picture.size[::-1] != self.geometry.picture:
            height, width = self.geometry.picture
            raise FastlocError(f"the picture must be {height} x {width}, as its geometry, got {self.picture.height} x {self.picture.width}")
        if not np.isfinite(self.similarity).all():
            raise FastlocError(f"similarity of method {self.method!r} must be finite, got NaN or infinite values")

    def __repr__(self) -> str:
        height, width = self.geometry.picture
        shown = ", ".join(map(repr, self.texts[:3])) + (f", ... {len(self.texts)} texts" if len(self.texts) > 3 else "")
        return f"Result({self.name or 'picture'!r} {width} x {height}, {shown}, {self.method} on {self.model})"

    @cached_property
    def heatmaps(self) -> NDArray[np.float32]:
        """float32 [T, H, W] at the picture's size, read-only: within [0, 1], or raw similarity for order "none". Made once.

        Raises FastlocError before it takes more than `max_map_bytes`. Points, boxes, masks and labels need no maps; `heatmap_array` gives
        bytes, a part, or another size for less.
        """
        self._check_bytes(4, self.geometry.picture)
        refined = self._refined
        how = self.geometry, self.order, self.logit_scale, self.reverse, self.limits
        made = self.heatmap_array() if refined is None else refined_heatmaps.heatmaps(refined, self.similarity, *how)
        made = made.astype(np.float32, copy=False)
        made.flags.writeable = False
        return made

    def heatmap_array(
        self, dtype: DTypeLike = "float32", size: tuple[int, int] | None = None, *,
        rows: slice = slice(None), columns: slice = slice(None),
    ) -> NDArray[Any]:  # fmt: skip
        """Heatmaps [T, r, c] as a new array, of which nothing is kept: `heatmaps` in another dtype, at another size, or a part of them.

        Args:
            dtype: "float32", "float16", or "uint8": heat * 255, rounded, less than one step from the exact value, a byte a pixel.
            size: (height, width) of the picture that heat is shown on, in pixels; by default the picture's own. Heat is that of the full
                size at the place where a pixel's centre lies; of a refinement, which has pixels alone, it is their mean.
            rows, columns: the part, in pixels of that size.

        Raises FastlocError for another dtype, a size that is not two positive numbers, a step, bytes of raw similarities (order "none"),
        and before it takes more than `max_map_bytes`.
        """
        kind, shown = self._asked(dtype, size)
        part = heat_arrays.pixels_of(shown, rows, columns)
        self._check_bytes(kind.itemsize, (part[0].stop - part[0].start, part[1].stop - part[1].start))
        return _part(self._source(shown), kind, *part)

    def heatmap_tiles(
        self, dtype: DTypeLike = "float32", size: tuple[int, int] | None = None, side: int = 1024
    ) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
        """Heatmaps a tile at a time: rows, columns and `heatmap_array` [T, r, c] of them, for tiles of at most `side` pixels a side.

        From the left and from the top; one tile is held at a time, and refined maps whole. Raises FastlocError at once, as
        `heatmap_array` does.
        """
        kind, shown = self._asked(dtype, size)
        if side < 1:
            raise FastlocError(f"side must be 1 or more pixels, got {side}")
        self._check_bytes(kind.itemsize, (min(side, shown[0]), min(side, shown[1])))
        source = self._source(shown)
        return ((*tile, _part(source, kind, *tile)) for tile in heat_arrays.tiles(shown, side))

    def _asked(self, dtype: DTypeLike, size: tuple[int, int] | None) -> tuple[np.dtype[Any], tuple[int, int]]:
        """The dtype and the size of heatmaps that are asked for."""
        kind = heat_arrays.dtype_of(dtype)
        if kind == np.uint8 and self.order == "none":
            raise FastlocError("dtype must be float32 or float16 for raw similarities (order 'none'), got uint8; scale heatmaps yourself")
        if size is None:
            return kind, self.geometry.picture
        height, width = size
        if height < 1 or width < 1:
            raise FastlocError(f"size must be (height, width) in pixels, 1 or more, got {size!r}")
        return kind, (int(height), int(width))

    def _source(self, size: tuple[int, int]) -> maps.Heat | NDArray[np.float32]:
        """The heat at a size: not made yet, or float32 [T, H, W] of refined maps."""
        if self.refinement is None:
            return heat_arrays.heat_at(self._heat, size)
        return self.heatmaps if size == self.geometry.picture else heat_arrays.scaled(self.heatmaps, size)

    @cached_property
    def _heat(self) -> maps.Heat:
        """The heatmaps without the refinement, a part at a time."""
        return maps.heat_of(self.similarity, self.geometry, self.order, self.logit_scale, self.reverse, self.limits)

    def _check_bytes(self, itemsize: int, size: tuple[int, int]) -> None:
        """Raise FastlocError where maps of a size would take more than `max_map_bytes`."""
        taken = itemsize * len(self.texts) * math.prod(size)
        if taken > self.max_map_bytes:
            raise FastlocError(
                f"heatmaps must take at most max_map_bytes = {self.max_map_bytes:,} bytes, got {taken:,}: {len(self.texts)} texts on "
                f"{size[0]} x {size[1]} pixels; ask for fewer texts at a time, for uint8 or a smaller size (heatmap_array), or for tiles"
            )

    @property
    def flat(self) -> tuple[bool, ...]:
        """True for each text whose map has no contrast: all that the model saw of the picture is equally similar to it, up to rounding."""
        seen = self.similarity[(slice(None), *self.geometry.seen((self.similarity.shape[1], self.similarity.shape[2])))]
        return tuple(maps.is_flat(seen.min((1, 2)), seen.max((1, 2))).tolist())

    def refined(self, method: str = "pamr", **settings: Any) -> Self:
        """The same result with maps that follow the picture's edges. Heatmaps are refined at the picture's size, and all that is read off
        them follows; labels are the largest refined similarity. `similarity`, and with it a point's, stays as it is.

        Args:
            method: "pamr" (Araslanov & Roth 2020, with NACLIP's values), see `fastloc.imaging.pamr.refine`; or "propagate" (PEARL's
                text-aware Laplacian propagation), see `fastloc.imaging.propagation.propagate`.
            settings: of "pamr" iterations=10, dilations=(8, 16) and budget, its working memory in bytes; of "propagate" the fields of
                `fastloc.imaging.propagation.Propagation`: iterations=25, grid=80, affinity, budget.

        Raises FastlocError for another method or setting, a value out of range, and a propagation that would take more than its budget.
        """
        return replace(self, refinement=refined_heatmaps.refinement(method, settings))

    @cached_property
    def _refined(self) -> NDArray[Any] | None:
        """The refined similarity [T, H, W], where there is a refinement."""
        if self.refinement is None:
            return None
        how = self.refinement, self.order, self.reverse
        return refined_heatmaps.similarity_maps(self.similarity, self.geometry, np.asarray(self.picture), *how)


def _part(source: maps.Heat | NDArray[np.float32], dtype: np.dtype[Any], rows: slice, columns: slice) -> NDArray[Any]:
    if isinstance(source, maps.Heat):
        return heat_arrays.array_of(source, dtype, rows, columns)
    part = source[:, rows, columns]
    return heat_arrays.to_steps(part) if dtype == np.uint8 else part.astype(dtype)
