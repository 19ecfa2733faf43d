"""A subject without a tower, pictures with blocks of colour, and a data set of classes alone: what judges of labels are tested with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize, unfold

from fastloc.evaluation.samples import Item, Sample
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.preprocess import prepare

__all__ = ["Classes", "Patches", "sample"]


class Patches:
    """Similarity of a patch's pixels, and a little of the window's, with a seeded vector a text, in float64. `batches` are their sizes."""

    method, model, digest = "patches", "none", ""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    logit_scale, size, device = 100.0, None, torch.device("cpu")

    def __init__(self, patch: tuple[int, int] = (8, 8), shares: bool = False, fit: str = "stretch") -> None:
        self.patch, self.shares, self.fit = patch, shares, fit
        self.batches: list[int] = []

    def similarity(self, pixels: Tensor, texts: Sequence[str], words: Sequence[str] = ()) -> Tensor:
        self.batches.append(len(pixels))
        features = unfold(pixels.double(), self.patch, stride=self.patch)
        features = normalize(features + features.mean(-1, keepdim=True) / 2, dim=1)
        grids = normalize(torch.from_numpy(self.embeddings(texts)), dim=1) @ features
        grids = (20 * grids).softmax(1) if self.shares else grids
        return grids.view(len(pixels), len(texts), pixels.shape[2] // self.patch[0], -1)

    def geometry(self, picture: tuple[int, int]) -> Geometry:
        return fit(picture, 6 * self.patch[0], self.patch, self.fit)

    def pixels(self, picture: Image.Image, geometry: Geometry) -> Tensor:
        return torch.from_numpy(prepare(picture, geometry, self.mean, self.std))

    def embeddings(self, texts: Sequence[str]) -> NDArray[np.float64]:
        length = 3 * self.patch[0] * self.patch[1]
        return np.stack([np.random.default_rng([len(text), *text.encode()]).normal(size=length) for text in texts])


@dataclass(frozen=True)
class Classes:
    """A data set that is not read."""

    classes: tuple[str, ...]
    background: bool = True
    name: str = "classes"
    task: str = "labels"

    def items(self) -> Sequence[Item]:
        return []

    def read(self, item: Item) -> Sample:
        raise NotImplementedError


def sample(size: tuple[int, int], classes: int, seed: int = 0) -> Sample:
    """A picture (height, width) of blocks and noise, and seeded labels, some ignored."""
    random = np.random.default_rng(seed)
    height, width = size
    blocks = random.integers(0, 256, (-(-height // 13), -(-width // 13), 3)).repeat(13, 0).repeat(13, 1)[:height, :width]
    noisy = np.clip(blocks + random.integers(-20, 21, (height, width, 3)), 0, 255).astype(np.uint8)
    return Sample(f"{height}x{width}-{seed}", Image.fromarray(noisy), random.integers(-1, classes, size).astype(np.int16))
