"""The call that all localizers share: pictures of mixed sizes in batches of one input size, results in the order of the pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, overload

from PIL import Image

from fastloc.imaging import images as pictures
from fastloc.imaging.geometry import Geometry
from fastloc.results.batching import chunks, name_of
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result

__all__ = ["BATCH", "BaseLocalizer"]

# pictures that go through a model at once
BATCH = 8

# a localizer's own form of the texts of a call
Texts = TypeVar("Texts")


class BaseLocalizer(ABC, Generic[Texts]):
    """A localizer: one call from pictures and texts to results. `batch` is how many pictures its model takes at once."""

    batch: int

    @overload
    def __call__(self, images: Sequence[Any], texts: str | Sequence[str] | None = None, *, bgr: bool = ...) -> list[Result]: ...
    @overload
    def __call__(self, images: Any, texts: str | Sequence[str] | None = None, *, bgr: bool = ...) -> Result: ...
    def __call__(self, images: Any, texts: str | Sequence[str] | None = None, *, bgr: bool = False) -> Result | list[Result]:
        """Locate every text in every picture.

        Args:
            images: a path, a PIL picture, an array or tensor (see `fastloc.imaging.images.load`), or a list of these, of mixed sizes.
            texts: one prompt or several; None for all the texts that an exported file has. The class says what its texts are.
            bgr: whether arrays and tensors are blue, green, red, as OpenCV's frames are; other pictures are refused then.

        Returns: one Result, or for a list one Result each, in order.

        Raises:
            ImageError: a picture that cannot be read, or that the model does not take. TextError: no prompt, or one that cannot be used.
        """
        chosen = self._texts(texts)
        if isinstance(images, (list, tuple)):
            return self._load_and_locate(images, chosen, bgr)
        return self._load_and_locate([images], chosen, bgr)[0]

    def locate(self, images: Sequence[Image.Image], texts: Texts, names: Sequence[str]) -> list[Result]:
        """The same for RGB pictures, texts in the localizer's own form, and the pictures' names."""
        geometries = [self._geometry(picture.size[::-1], name) for picture, name in zip(images, names, strict=True)]
        results: dict[int, Result] = {}
        for chunk in chunks(geometries, self.batch):
            found = self._predict([images[i] for i in chunk], [geometries[i] for i in chunk], texts)
            for i, prediction in zip(chunk, found, strict=True):
                results[i] = prediction.result(images[i], names[i])
        return [results[i] for i in range(len(images))]

    def _load_and_locate(self, images: Sequence[Any], texts: Texts, bgr: bool) -> list[Result]:
        return self.locate([pictures.load(image, bgr=bgr) for image in images], texts, [name_of(image) for image in images])

    @abstractmethod
    def _texts(self, texts: str | Sequence[str] | None) -> Texts:
        """The texts of a call in the localizer's own form. Raises TextError for what it cannot use."""

    @abstractmethod
    def _geometry(self, picture: tuple[int, int], name: str) -> Geometry:
        """Where a picture of (height, width) lies in the model's input; `name` is the picture's, for errors."""

    @abstractmethod
    def _predict(self, images: list[Image.Image], geometries: list[Geometry], texts: Texts) -> list[Prediction]:
        """Similarities of at most `batch` pictures whose geometries have one input size."""
