"""Pictures -> what a file takes in, for the ranges of its activations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastloc import images
from fastloc.export.options import Options
from fastloc.golden import unit_texts
from fastloc.manifest import Input, Model
from fastloc.preprocess import INTERPOLATIONS

if TYPE_CHECKING:
    from fastloc.localizer import Localizer

Feeds = list[dict[str, NDArray[Any]]]


def inputs_of(localizer: "Localizer", model: Model, declared: Input, options: Options, pictures: Sequence[Any]) -> Feeds:
    """One call's inputs for every `batch` pictures, the last filled up with repetitions.

    Raises:
        ImageError: a picture cannot be read.
    """
    arrays = [_input(localizer, model, declared, picture) for picture in pictures]
    size = declared.batch or 1
    # a batch is of one size
    groups: dict[tuple[int, ...], list[NDArray[Any]]] = {}
    for array in arrays:
        groups.setdefault(array.shape, []).append(array)
    feeds = []
    for group in groups.values():
        for start in range(0, len(group), size):
            chunk = group[start : start + size]
            feeds.append({declared.name: np.stack([chunk[i % len(chunk)] for i in range(size)])})
    if not options.texts:
        texts = unit_texts(0, options.count or 2, model.embed)
        feeds = [{**feed, "text_embeddings": texts} for feed in feeds]
    return feeds


def _input(localizer: "Localizer", model: Model, declared: Input, source: Any) -> NDArray[Any]:
    picture = images.load(source)
    if declared.frame is not None:
        # a picture of another size stands for what a camera of that size would see
        high, wide = declared.frame
        frame = picture.resize((wide, high), INTERPOLATIONS["bicubic"])
        array: NDArray[Any] = declared.laid_out(np.asarray(frame)[None], model)[0]
        return array
    geometry = declared.geometry(picture.size[::-1], model.patch)
    pixels = localizer.pixels(picture, geometry).numpy()
    if declared.kind == "bytes":
        mean, std = (np.array(each, np.float32).reshape(3, 1, 1) for each in (model.mean, model.std))
        pixels = (pixels * std + mean) * 255
    return pixels[::-1].copy() if declared.bgr else pixels
