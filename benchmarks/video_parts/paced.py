"""Sources that keep time, and engines that are slower or quicker than they are."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.geometry import fit
from fastloc.results.prediction import Prediction

Pixels = NDArray[np.uint8]


def paced(pictures: Iterable[Any], rate: float, seconds: float = float("inf")) -> Iterator[Any]:
    """Pictures in real time, `rate` a second, as a camera gives them; late ones at once. Ends after so many seconds."""
    began = time.monotonic()
    for number, picture in enumerate(pictures):
        due = began + number / rate
        if due > began + seconds:
            return
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        yield picture


def endless(make: Callable[[], Iterable[Pixels]]) -> Iterator[Pixels]:
    """A clip over and over."""
    while True:
        yield from make()


class Slow:
    """A localizer that sleeps before it answers, so many seconds; asked as the one that it wraps."""

    def __init__(self, localizer: Any, seconds: float) -> None:
        self.localizer, self.seconds = localizer, seconds
        self.logit_scale = getattr(localizer, "logit_scale", 100.0)

    def encode_texts(self, texts: Any) -> Any:
        return self.localizer.encode_texts(texts)

    def predict_frame(self, frame: Any, ready: Any, bgr: bool = False) -> Prediction:
        time.sleep(self.seconds)
        found: Prediction = self.localizer.predict_frame(frame, ready, bgr)
        return found

    def __call__(self, picture: Any, texts: Any) -> Any:
        time.sleep(self.seconds)
        return self.localizer(picture, texts)


class Nothing:
    """A localizer that takes no time: the same similarities for every frame."""

    logit_scale = 100.0

    def __init__(self, grid: int = 12) -> None:
        self.grid = grid

    def encode_texts(self, texts: Any) -> Any:
        return tuple(texts)

    def predict_frame(self, frame: Any, ready: Any, bgr: bool = False) -> Prediction:
        height, width = frame.shape[:2]
        where = fit((height, width), 8 * self.grid, (8, 8), "stretch")
        similarity = np.linspace(0, 1, len(ready) * self.grid**2, dtype=np.float32).reshape(len(ready), self.grid, self.grid)
        return Prediction(texts=ready, similarity=similarity, geometry=where, order="picture", method="nothing")

    def __call__(self, picture: Any, texts: Any) -> Any:
        return self.predict_frame(np.asarray(picture), tuple(texts)).result(picture)
