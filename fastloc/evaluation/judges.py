"""The interfaces of a run: the model that is evaluated, and the judge that makes rows of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastloc.evaluation.rows import Row
from fastloc.evaluation.samples import Sample
from fastloc.imaging.geometry import Geometry

__all__ = ["Judge", "Subject", "most_together"]

# pixels of the inputs that go through a model at once, by kind of device
_TOGETHER = {"cpu": 8 * 224 * 224, "cuda": 64 * 224 * 224}

Prepared = TypeVar("Prepared")


class Subject(Protocol):
    """A model with a method, as a judge asks it: an engine of PyTorch, or an exported file."""

    method: str
    model: str
    digest: str  # of the weights, or of the file
    patch: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    logit_scale: float
    size: tuple[int, int] | None  # the only input size it takes; None: any multiple of the patch
    device: torch.device
    order: str  # of the min-max of one text's map, "grid" or "picture": see `fastloc.imaging.heatmaps.ORDERS`
    shares: bool  # grids are shares of a softmax over the texts already

    def geometry(self, picture: tuple[int, int]) -> Geometry:
        """The geometry of a picture of (height, width) in an input of its own size and fit."""

    def pixels(self, picture: Image.Image, geometry: Geometry) -> Tensor:
        """One normalised input [3, h, w], float32 on the CPU, resized as the model asks."""

    def embeddings(self, texts: Sequence[str]) -> NDArray[Any]:
        """Embeddings [T, E] of texts."""

    def similarity(self, pixels: Tensor, texts: Sequence[str], words: Sequence[str] = ()) -> Tensor:
        """Similarity grids [B, T, h, w], float32 at least, on the device, of normalised pixels [B, 3, H, W]. words: for the background, in
        methods that share patches out among texts (CLIPer)."""


class Judge(Protocol[Prepared]):
    """Makes rows of samples in two steps. Both must give the same for the same chunk, whatever ran before."""

    def prepare(self, sample: Sample) -> Prepared:
        """The work on a picture that needs no model; threads call it side by side."""

    def judge(self, prepared: Sequence[Prepared]) -> list[Row]:
        """The rows of one chunk of pictures, in their order; windows of several pictures share batches."""


def most_together(device: torch.device, pixels: int) -> int:
    """Inputs of so many pixels that go through a model at once: a fixed number, so that rows do not depend on a machine's speed."""
    return max(_TOGETHER.get(device.type, _TOGETHER["cuda"]) // pixels, 1)
