"""Localizers of tiny exported files, which need no torch."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.onnx_file.golden import unit_texts
from fastloc.runtime.localizer import OnnxLocalizer
from onnx_files import EMBED, tiny_model

__all__ = ["NAMES", "TOWER", "tiny", "vectors"]

NAMES = ("cat", "dog", "a red car")
# what the tiny files' manifests call their text tower
TOWER = "b" * 64


def vectors(count: int = 3, seed: int = 7) -> NDArray[np.float32]:
    """The texts that the tiny files' goldens were made with."""
    return unit_texts(seed, count, EMBED)


def tiny(folder: Path, **kind: Any) -> OnnxLocalizer:
    """A tiny file, and texts for one that has none."""
    made = tiny_model(folder / "tiny.onnx", **kind)
    return OnnxLocalizer(folder / "tiny.onnx", embeddings=None if made.texts.baked else (NAMES, vectors()))
