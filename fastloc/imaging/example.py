"""Examples: a picture, or a box in one, as the query in place of a text."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.images import load

__all__ = ["Example", "cell_shares"]

# which of the box's patches count, and how much
WEIGHTS = {
    "contrast": "all alike, less the mean of the patches outside the box",
    "box": "all alike",
    "map": "by the heat of their own mean, so that what fills the corners of a box counts less",
}
_TYPED = re.compile(r"(?P<image>.+?):(?P<box>-?\d+(?:,-?\d+){3})(?:=(?P<words>.+))?")

Box = tuple[float, float, float, float]


class Example(str):
    """An example stands where a text does: `localizer(picture, ["a cat", Example("mug.jpg", (120, 40, 260, 300))])`.

    The localizer reads the example's own patch features under the method that looks for them, takes their mean in the box, and compares
    patches with it as it does with a text's embedding. All patches of a picture have much in common, and a text has nothing of that: it is
    taken off with the mean of the patches outside the box, unless `weights` says otherwise. A method that reads no patch features (Grad-CAM
    and its kin) takes the image embedding of the box's content. The string is the example's name, as results show it.

    Args:
        image: anything that `fastloc.imaging.images.load` takes.
        box: (x0, y0, x1, y1) in pixels of the upright picture, x1 and y1 exclusive; None for the whole picture.
        words: a text to mix in, such as "a red mug".
        share: of the example in the mixture with the words, above 0, at most 1; the rest is theirs.
        weights: a key of `WEIGHTS`.
        name: by default the picture's file name and the box.

    Raises:
        ImageError: the picture cannot be read. FastlocError: a box that is none, or lies outside the picture; values out of range.
    """

    picture: Image.Image
    box: Box
    words: str
    share: float
    weights: str
    # of everything above
    key: str

    def __new__(
        cls, image: Any, box: Sequence[float] | None = None, *, words: str = "", share: float = 0.5, weights: str = "contrast",
        name: str | None = None,
    ) -> Example:  # fmt: skip
        picture = load(image)
        if weights not in WEIGHTS:
            raise FastlocError(unknown("weights of an example", weights, WEIGHTS))
        if not (isinstance(share, int | float) and 0 < share <= 1):
            raise FastlocError(f"share must be above 0 and at most 1, got {share!r}; 0.5 mixes example and words half and half")
        found = _box(box, picture.size)
        made = super().__new__(cls, name if name is not None else _name(image, None if box is None else found))
        made.picture, made.box, made.words, made.share, made.weights = picture, found, words.strip(), float(share), weights
        about = repr((picture.size, found, made.words, made.share, weights)).encode()
        made.key = hashlib.sha256(about + picture.tobytes()).hexdigest()
        return made

    @classmethod
    def typed(cls, text: str, **more: Any) -> Example:
        """The example that `PICTURE`, `PICTURE:X0,Y0,X1,Y1` or `PICTURE:X0,Y0,X1,Y1=WORDS` names. Raises as the class does."""
        parts = _TYPED.fullmatch(text)
        if parts is None:
            return cls(text, **more)
        return cls(parts["image"], tuple(int(each) for each in parts["box"].split(",")), words=parts["words"] or "", **more)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.picture, self.box, self.words, self.share, self.weights, str(self))

    def __hash__(self) -> int:
        return str.__hash__(self)

    def __eq__(self, other: object) -> bool:
        """Two examples are equal if they are of the same pixels, box and options; an example and a text never are."""
        return isinstance(other, Example) and self.key == other.key

    def __ne__(self, other: object) -> bool:
        return not self == other

    @property
    def crop(self) -> Image.Image:
        """The part of the picture in the box."""
        x0, y0, x1, y1 = self.box
        return self.picture.crop((math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)))


def _again(picture: Image.Image, box: Box, words: str, share: float, weights: str, name: str) -> Example:
    return Example(picture, box, words=words, share=share, weights=weights, name=name)


def _box(box: Sequence[float] | None, size: tuple[int, int]) -> Box:
    width, height = size
    if box is None:
        return 0.0, 0.0, float(width), float(height)
    try:
        x0, y0, x1, y1 = (float(each) for each in box)
    except (TypeError, ValueError):
        raise FastlocError(f"box must be four numbers (x0, y0, x1, y1), got {box!r}") from None
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise FastlocError(f"box must lie in the picture of {width} x {height} pixels, x0 < x1 and y0 < y1, got {tuple(box)}")
    return x0, y0, x1, y1


def _name(image: Any, box: Box | None) -> str:
    name = PurePath(image).name if isinstance(image, str | PurePath) else "example"
    return name if box is None else f"{name}:{','.join(f'{each:g}' for each in box)}"


def cell_shares(geometry: Geometry, grid: tuple[int, int], box: Box) -> NDArray[np.float64]:
    """The share of each patch that the box covers, float64 [h, w]. Raises FastlocError where a crop hides all of the box."""
    (x0, y0), (x1, y1) = geometry.to_input([box[:2], box[2:]])
    axes = zip((y0, x0), (y1, x1), grid, geometry.input, strict=True)
    rows, columns = (_covered(low, high, cells, side) for low, high, cells, side in axes)
    shares: NDArray[np.float64] = rows[:, None] * columns
    if not shares.any():
        raise FastlocError(f"box must lie where the model looks, got {box}, which fit {geometry.fit!r} cuts off; use fit 'stretch'")
    return shares


def _covered(low: float, high: float, cells: int, side: int) -> NDArray[np.float64]:
    """The share of each cell along an axis that lies between low and high, in pixels of the input."""
    edges = np.linspace(0, side, cells + 1)
    covered: NDArray[np.float64] = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * (cells / side)
    return covered
