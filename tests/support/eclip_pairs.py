"""Pictures with captions, as ECLIP's trainer reads them in tests."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["NAMES", "encoded", "picture", "write_folder"]

NAMES = ("cat", "pizza", "red car", "banana", "owl", "bus", "dog", "tree", "clock", "pig")


def picture(seed: int, side: int = 40) -> Image.Image:
    """Noise of a seed, of side x side pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def encoded(index: int) -> Callable[[], bytes]:
    """The reader of a picture's file."""
    buffer = io.BytesIO()
    picture(index).save(buffer, "PNG")
    return buffer.getvalue


def write_folder(home: Path) -> Path:
    """Ten pictures and a table of captions, of which one picture has two."""
    home.mkdir()
    for index in range(10):
        picture(index).save(home / f"{index}.png")
    rows = [f"{index}.png,a photo of a {name}" for index, name in enumerate(NAMES)]
    (home / "captions.csv").write_text("\n".join(["image,caption", *rows, "3.png,one banana", ""]))
    return home
