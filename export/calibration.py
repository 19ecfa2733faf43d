"""Pictures -> the inputs of a file, to calibrate the ranges of its activations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.imaging import images
from fastloc.onnx_file.golden import unit_texts
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime.inputs import geometry_of, picture_input

Feeds = list[dict[str, NDArray[Any]]]
# the batch for a file that takes any number of pictures
TEXTS = 2


def inputs_of(manifest: Manifest, pictures: Sequence[Any]) -> Feeds:
    """One call's inputs for every `batch` pictures; the last call repeats pictures to fill its batch.

    Raises:
        ImageError: a picture cannot be read.
    """
    size = manifest.input.batch or 1
    # all pictures of a batch have one size
    groups: dict[tuple[int, ...], list[NDArray[Any]]] = {}
    for source in pictures:
        array = _input(manifest, images.load(source))
        groups.setdefault(array.shape, []).append(array)
    chunks = [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]
    feeds = [{manifest.input.name: np.stack([chunk[i % len(chunk)] for i in range(size)])} for chunk in chunks]
    if manifest.texts.baked:
        return feeds
    texts = unit_texts(0, manifest.texts.count or TEXTS, manifest.model.embed)
    return [{**feed, "text_embeddings": texts} for feed in feeds]


def _input(manifest: Manifest, picture: Image.Image) -> NDArray[Any]:
    if manifest.input.frame is not None:
        # a picture of another size is resized to the camera's size
        height, width = manifest.input.frame
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return picture_input(manifest, picture, geometry_of(manifest, picture.size[::-1], None, "the file"))
