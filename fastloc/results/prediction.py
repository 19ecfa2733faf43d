"""Predictions: all fields of a `Result` but the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.imaging.geometry import Geometry
from fastloc.results.result import Result

__all__ = ["Prediction"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """One frame's similarities, float32 [T, h, w]; the fields are those of `fastloc.Result`."""

    texts: tuple[str, ...]
    similarity: Floats
    geometry: Geometry
    order: str
    logit_scale: float | None = None
    reverse: bool = False
    method: str = ""
    model: str = ""
    scores: Floats | None = None
    image_scores: Floats | None = None
    no_scores: str = ""
    limits: Floats | None = None

    @classmethod
    def of(cls, result: Result) -> Prediction:
        """The prediction that a result holds."""
        return cls(**{name: getattr(result, name) for name in cls.__dataclass_fields__})

    def result(self, picture: Image.Image, name: str = "") -> Result:
        """The Result on an RGB picture of the size that `geometry` was made for."""
        fields: dict[str, Any] = {each: getattr(self, each) for each in self.__dataclass_fields__}
        return Result(picture=picture, name=name, **fields)
