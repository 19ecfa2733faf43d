"""The call that all localizers share: pictures of mixed sizes in batches of one input size, results in the order of the pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar, overload

from PIL import Image

from fastloc.errors import FastlocError, ImageError
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.images import MAX_PIXELS, load
from fastloc.imaging.picture_sources import is_many, pictures
from fastloc.imaging.reduced_picture import MARGIN, check_decode
from fastloc.results.batching import chunks, name_of
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result
from fastloc.utils.described import Described

__all__ = ["BATCH", "BaseLocalizer"]

# pictures that go through a model at once
BATCH = 8
# batches that `iterate` reads at once, so that pictures of several sizes fill theirs
AHEAD = 4

# a localizer's own form of the texts of a call
Texts = TypeVar("Texts")


class BaseLocalizer(Described, ABC, Generic[Texts]):
    """A localizer: one call from pictures and texts to results. `batch` is the number of pictures that its model takes at once.

    It pickles as its constructor arguments, and loads its model again where it is unpickled; so does `copy.deepcopy`.
    """

    batch: int

    @overload
    def __call__(
        self, images: Sequence[Any], texts: str | Sequence[str] | None = None, *, bgr: bool = ..., max_pixels: int = ..., decode: str = ...
    ) -> list[Result]: ...
    @overload
    def __call__(
        self, images: Any, texts: str | Sequence[str] | None = None, *, bgr: bool = ..., max_pixels: int = ..., decode: str = ...
    ) -> Result: ...
    def __call__(
        self, images: Any, texts: str | Sequence[str] | None = None, *, bgr: bool = False, max_pixels: int = MAX_PIXELS,
        decode: str = "full",
    ) -> Result | list[Result]:  # fmt: skip
        """Locate every text in every picture.

        Args:
            images: one picture: a path, an address, bytes, a PIL picture, an array or tensor (see `fastloc.imaging.images.load`); or
                several, of mixed sizes: a list or another iterable of these, a batch, a folder, a pattern or a list file (see
                `fastloc.imaging.picture_sources.pictures`). Of very many, `iterate` gives one result after the other.
            texts: one prompt or several; None for all the texts that an exported file has. The class says what its texts are. A text
                that is given twice is computed once, and answered in each place.
            bgr: True where arrays and tensors are blue, green, red, as OpenCV's are; other pictures are refused then.
            max_pixels: the most pixels of a decoded file.
            decode: "full", or "reduced": JPEG files far larger than the model's input are decoded at a half, a quarter or an eighth, with
                `reduced_picture.MARGIN` times the input's pixels a side left at least. Places stay exact; similarities move a little. The
                result's picture is full: it is decoded at its first use.

        Returns: one Result for one picture, else a list of one Result each, in order.

        Raises:
            ImageError: a picture that cannot be read, or that the model does not take. TextError: no prompt, or one that cannot be used.
        """
        check_decode(decode)
        chosen = self._texts(texts)
        if not is_many(images):
            return self._load_and_locate([images], chosen, bgr, max_pixels, decode)[0]
        return self._load_and_locate(list(pictures(images)), chosen, bgr, max_pixels, decode)

    def iterate(
        self, images: Any, texts: str | Sequence[str] | None = None, *, bgr: bool = False, max_pixels: int = MAX_PIXELS,
        decode: str = "full",
    ) -> Iterator[Result]:  # fmt: skip
        """The results of any number of pictures, one after the other, in order: a call whose pictures and results are never all in memory.

        Pictures are read some batches ahead. Arguments are those of a call; raises TextError at once, and ImageError when a bad picture's
        turn comes, which ends it. `attempts` goes on.
        """
        return _until_error(self.attempts(images, texts, bgr=bgr, max_pixels=max_pixels, decode=decode))

    def attempts(
        self, images: Any, texts: str | Sequence[str] | None = None, *, bgr: bool = False, max_pixels: int = MAX_PIXELS,
        decode: str = "full",
    ) -> Iterator[Result | ImageError]:  # fmt: skip
        """As `iterate`; a picture that cannot be used has its ImageError in its place, and all others have their results.

        An ImageError among the pictures is handed on in its place too.
        """
        check_decode(decode)
        chosen = self._texts(texts)
        many = is_many(images)
        return self._attempts(pictures(images) if many else iter([images]), chosen, bgr, max_pixels, decode, many)

    def _attempts(
        self, source: Iterator[Any], texts: Texts, bgr: bool, max_pixels: int, decode: str, many: bool
    ) -> Iterator[Result | ImageError]:
        enough, first = self.enough if decode == "reduced" else None, 0
        # one picture a call has no batch to fill
        while window := list(islice(source, AHEAD * self.batch if self.batch > 1 else 1)):
            opened = [_opened(image, f"picture {first + i}" if many else None, bgr, max_pixels, enough) for i, image in enumerate(window)]
            first += len(window)
            yield from self._answers(opened, texts, [name_of(image) for image in window])

    def _answers(
        self, opened: Sequence[Image.Image | ImageError], texts: Texts, names: Sequence[str]
    ) -> Iterator[Result | ImageError]:
        good = [(i, each) for i, each in enumerate(opened) if not isinstance(each, ImageError)]
        try:
            located = iter(self.locate([each for _, each in good], texts, [names[i] for i, _ in good]))
        except FastlocError as error:
            if len(opened) > 1:
                # a fault of one picture is not one of its neighbours
                for each, name in zip(opened, names, strict=True):
                    yield from self._answers([each], texts, [name])
            elif isinstance(error, ImageError):
                yield error
            else:
                raise
            return
        for each in opened:
            yield each if isinstance(each, ImageError) else next(located)

    def encode_texts(self, texts: str | Sequence[str] | None) -> Texts:
        """The texts of a call in the localizer's own form, which `locate` takes. May run beside other calls.

        Raises TextError as a call does.
        """
        return self._texts(texts)

    def locate(self, images: Sequence[Image.Image], texts: Texts, names: Sequence[str]) -> list[Result]:
        """Locate texts, in the localizer's own form, in RGB pictures with these names."""
        geometries = [self.place(picture, name) for picture, name in zip(images, names, strict=True)]
        results: dict[int, Result] = {}
        for chunk in chunks(geometries, self.batch):
            found = self._predict([images[i] for i in chunk], [geometries[i] for i in chunk], texts)
            for i, prediction in zip(chunk, found, strict=True):
                results[i] = prediction.result(images[i], names[i])
        return [results[i] for i in range(len(images))]

    def _load_and_locate(self, images: Sequence[Any], texts: Texts, bgr: bool, max_pixels: int, decode: str) -> list[Result]:
        enough = self.enough if decode == "reduced" else None
        # among several, one without a path has its number in errors
        loaded = [
            load(image, f"picture {i}" if len(images) > 1 else None, bgr=bgr, max_pixels=max_pixels, enough=enough)
            for i, image in enumerate(images)
        ]
        return self.locate(loaded, texts, [name_of(image) for image in images])

    def enough(self, picture: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that suffice of a picture of (height, width) in a file, see `fastloc.imaging.images.load`: all of one that
        the model does not take, which `place` then says."""
        try:
            height, width = self._geometry(picture, "").resized
        except ImageError:
            return picture
        return MARGIN * height, MARGIN * width

    def place(self, picture: Image.Image, name: str = "") -> Geometry:
        """The picture's geometry in the model's input. Raises ImageError, with the name, for a picture that the model does not take."""
        try:
            return self._geometry(picture.size[::-1], name)
        except ImageError as error:
            # among several pictures the name says which
            raise ImageError(f"{name}: {error}" if name and name not in str(error) else str(error)) from None

    @abstractmethod
    def _texts(self, texts: str | Sequence[str] | None) -> Texts:
        """The texts of a call in the localizer's own form. Raises TextError for texts that it cannot use."""

    @abstractmethod
    def _geometry(self, picture: tuple[int, int], name: str) -> Geometry:
        """The geometry in the model's input of a picture of (height, width); `name` is the picture's, for errors."""

    @abstractmethod
    def _predict(self, images: list[Image.Image], geometries: list[Geometry], texts: Texts) -> list[Prediction]:
        """Similarities of at most `batch` pictures whose geometries have one input size."""


def _opened(
    image: Any, name: str | None, bgr: bool, max_pixels: int, enough: Callable[[tuple[int, int]], tuple[int, int]] | None
) -> Image.Image | ImageError:
    if isinstance(image, ImageError):
        return image
    try:
        return load(image, name, bgr=bgr, max_pixels=max_pixels, enough=enough)
    except ImageError as error:
        return error


def _until_error(found: Iterator[Result | ImageError]) -> Iterator[Result]:
    for each in found:
        if isinstance(each, ImageError):
            raise each
        yield each
