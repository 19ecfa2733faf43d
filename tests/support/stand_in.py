"""A localizer without a model whose answers are known: the mean of a picture's pixels is where each similarity begins."""

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from fastloc.errors import ImageError
from fastloc.imaging.geometry import Geometry, fit
from fastloc.results.base_localizer import BaseLocalizer
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result

__all__ = ["StandIn", "frame", "value_of"]

SIZE = (16, 16)
# the mean of a picture that fails
BROKEN = 255


def frame(number: int) -> Any:
    """A grey frame of this number, 0 to 255."""
    return np.full((*SIZE, 3), number % 256, np.uint8)


def value_of(result: Any) -> int:
    """The number of the frame that a result of `StandIn` is of."""
    return round(float(np.asarray(result.similarity)[0, 0, 0]) * 255)


class StandIn(BaseLocalizer[list[str]]):
    """A localizer that takes `seconds` a call. It counts how many threads are in it at once, and fails for pictures of mean `BROKEN`."""

    def __init__(self, seconds: float = 0.0, batch: int = 4) -> None:
        self._describe(locals())
        self.seconds, self.batch, self.method = seconds, batch, "stand-in"
        self.source = SimpleNamespace(name="stand-in")
        self.inside, self.most = 0, 0
        self._lock = threading.Lock()

    def _texts(self, texts: str | Sequence[str] | None) -> list[str]:
        return [texts] if isinstance(texts, str) else list(texts or ())

    def _geometry(self, picture: tuple[int, int], name: str) -> Geometry:
        return fit(picture, SIZE, (8, 8), "stretch")

    def _predict(self, images: list[Image.Image], geometries: list[Geometry], texts: list[str]) -> list[Prediction]:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            time.sleep(self.seconds)
            numbers = [int(np.asarray(picture)[0, 0, 0]) for picture in images]
            if BROKEN in numbers:
                raise ImageError(f"a picture must not be of {BROKEN}; this is a test")
            return [self._one(number, geometry, texts) for number, geometry in zip(numbers, geometries, strict=True)]
        finally:
            with self._lock:
                self.inside -= 1

    def _one(self, number: int, geometry: Geometry, texts: list[str]) -> Prediction:
        grid = np.full((len(texts), 2, 2), number / 255, np.float32)
        return Prediction(texts=tuple(texts), similarity=grid, geometry=geometry, order="picture", method="stand-in")

    def predict_frame(self, pixels: Any, prompts: list[str], bgr: bool = False) -> Prediction:
        """One frame's answer."""
        return self.predict_frames([pixels], prompts, bgr)[0]

    def predict_frames(self, frames: Sequence[Any], prompts: list[str], bgr: bool = False) -> list[Prediction]:
        """The answers of several frames."""
        pictures = [Image.fromarray(np.asarray(each)) for each in frames]
        return self._predict(pictures, [self._geometry(picture.size[::-1], "") for picture in pictures], prompts)

    def answer(self, number: int, texts: Sequence[str]) -> Result:
        """The result of a call on a frame of this number."""
        return self(Image.fromarray(frame(number)), texts)
