"""Pictures with texts and optional masks, the input of an analysis."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocError, ImageError
from fastloc.imaging import images, picture_files, picture_formats
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["Scene", "pictures", "samples"]


@dataclass(frozen=True, eq=False)
class Scene:
    """An RGB picture, texts whose objects are in it, texts whose objects are not, and bool masks [T, H, W] of the former or None."""

    name: str
    picture: Image.Image
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    masks: NDArray[np.bool_] | None


def samples() -> list[Scene]:
    """The scenes that ship with fastloc, with exact masks. The negatives of a scene are objects that only the others hold."""
    rows = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8"))
    every = list(dict.fromkeys(text for row in rows.values() for text in row["texts"]))
    scenes = []
    for name, row in rows.items():
        picture = images.load(SAMPLES / row["file"])
        masks = _masks(SAMPLES / row["mask"], picture, row["texts"])
        scenes.append(Scene(name, picture, tuple(row["texts"]), tuple(text for text in every if text not in row["texts"]), masks))
    return scenes


def pictures(
    files: Sequence[str | os.PathLike[str]], positives: Sequence[str], negatives: Sequence[str], folder: Path | None
) -> list[Scene]:
    """Your own pictures. folder: holds each picture's mask, <its stem>.png, whose value k marks the k-th positive text and 0 none.

    Raises:
        ImageError: a picture or mask that cannot be read or does not fit.
    """
    scenes = []
    for file in files:
        picture = images.load(file)
        stem = Path(file).stem
        masks = None if folder is None else _masks(folder / f"{stem}.png", picture, positives)
        scenes.append(Scene(stem, picture, tuple(positives), tuple(negatives), masks))
    return scenes


def _masks(file: Path, picture: Image.Image, texts: Sequence[str]) -> NDArray[np.bool_]:
    try:
        with picture_files.opened(file) as (content, _), picture_formats.identified(content, str(file)) as opened:
            # the size is checked before the pixels: a mask of another size is never decoded
            if opened.size != picture.size:
                width, height = opened.size
                raise ImageError(f"mask {file} must be {picture.height} x {picture.width} as its picture is, got {height} x {width}")
            values = np.asarray(opened)
    except ImageError:
        raise
    # decoders raise exceptions of many types on a corrupt file
    except Exception as error:
        pass_on(error)
        raise ImageError(f"mask {file} cannot be read: {error}") from error
    shape = picture.size[::-1]
    if values.shape != shape:
        raise ImageError(f"mask {file} must hold one number a pixel of the {shape[0]} x {shape[1]} picture, got {list(values.shape)}")
    if values.max() > len(texts):
        raise FastlocError(f"mask {file} must hold values up to {len(texts)}, one a positive text, got {values.max()}")
    return np.stack([values == k + 1 for k in range(len(texts))])
