"""Results as JSON, from which the same result is rebuilt with the picture: a service writes it and its clients read it."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import ORDERS
from fastloc.imaging.refined_heatmaps import AnyRefinement, refinement
from fastloc.results.result import Result
from fastloc.utils.schema import count, one_of

__all__ = ["FORMAT", "Located", "to_wire"]

# the format that `to_wire` writes; another number is another meaning of its fields
FORMAT = 1
# the longest side of a picture or an input that an answer may speak of
_LONGEST = 1 << 24


def to_wire(result: Result, threshold: float = 0.5, *, score: float | None = None) -> dict[str, Any]:
    """`result.to_dict(threshold, score=score)`, and beside it the similarity's bytes and the whole geometry, as `Located` reads them."""
    grid = np.ascontiguousarray(result.similarity, "<f4")
    similarity = {"shape": list(grid.shape), "dtype": "<f4", "data": base64.b64encode(grid.tobytes()).decode("ascii")}
    return {**result.to_dict(threshold, score=score), "geometry": asdict(result.geometry), "similarity": similarity}


@dataclass(frozen=True)
class _Grid:
    """The similarity [T, h, w], float32, little-endian; `data` is base64 in JSON."""

    shape: tuple[int, int, int]
    dtype: Literal["<f4"]
    data: bytes

    def __post_init__(self) -> None:
        for side in self.shape:
            count("shape", side, _LONGEST)
        size = 4 * int(np.prod(self.shape, dtype=object))
        if len(self.data) != size:
            raise FastlocError(f"data must be the {size} bytes of shape {list(self.shape)}, got {len(self.data)}")

    def array(self) -> NDArray[np.float32]:
        return np.frombuffer(self.data, self.dtype).reshape(self.shape).astype(np.float32)


@dataclass(frozen=True)
class _Geometry:
    picture: tuple[int, int]
    input: tuple[int, int]
    fit: str
    resized: tuple[int, int]
    corner: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("picture", "input", "resized"):
            for side in getattr(self, name):
                count(name, side, _LONGEST)
        for side, pixels, resized in zip(self.corner, self.input, self.resized, strict=True):
            count("corner", side, _LONGEST, -_LONGEST)
            if not -pixels < side < resized:
                raise FastlocError(f"corner must leave a part of the picture in the input, from {1 - pixels} to {resized - 1}, got {side}")


@dataclass(frozen=True)
class _ReadOut:
    order: str
    logit_scale: float | None
    reverse: bool

    def __post_init__(self) -> None:
        one_of("order", self.order, ORDERS)


@dataclass(frozen=True)
class _Refinement:
    """The settings of a row of `REFINEMENTS`; those of the other row are not there."""

    iterations: int
    budget: int
    method: str = "pamr"
    dilations: tuple[int, ...] | None = None
    grid: int | None = None
    affinity: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        self.made()

    def made(self) -> AnyRefinement:
        settings = {name: value for name, value in asdict(self).items() if name != "method" and value is not None}
        return refinement(self.method, settings)


@dataclass(frozen=True)
class _Text:
    text: str
    score: float | None
    image_score: float | None


@dataclass(frozen=True)
class Located:
    """The fields of one written result that `result` needs; its peaks and boxes are read off again, and are the same."""

    method: str
    model: str
    texts: list[_Text]
    similarity: _Grid
    geometry: _Geometry
    readout: _ReadOut
    limits: list[tuple[float, float]] | None
    refinement: _Refinement | None
    no_scores: str | None

    def result(self, picture: Image.Image, name: str = "") -> Result:
        """The Result on the picture that was sent, RGB and upright.

        Raises:
            FastlocError: the fields do not fit together, or are of a picture of another size.
        """
        return Result(
            picture=picture,
            texts=tuple(each.text for each in self.texts),
            similarity=self.similarity.array(),
            geometry=Geometry(**asdict(self.geometry)),
            order=self.readout.order,
            logit_scale=self.readout.logit_scale,
            reverse=self.readout.reverse,
            method=self.method,
            model=self.model,
            name=name,
            scores=_of_all([each.score for each in self.texts]),
            image_scores=_of_all([each.image_score for each in self.texts]),
            no_scores=self.no_scores or "",
            refinement=None if self.refinement is None else self.refinement.made(),
            limits=None if self.limits is None else np.array(self.limits, np.float32),
        )


def _of_all(values: list[float | None]) -> NDArray[np.float32] | None:
    """One number for each text, float32 [T], or None where a text has none."""
    there = [value for value in values if value is not None]
    return np.array(there, np.float32) if len(there) == len(values) else None
