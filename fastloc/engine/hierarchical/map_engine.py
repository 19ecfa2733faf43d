"""The base of the engines of towers that end in a map of cells and not in a row of tokens: CLIP's ResNets and hierarchical towers."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fastloc.engine import triton_ops
from fastloc.engine.base import BaseEngine, Shape
from fastloc.engine.frame_patches import FramePixels
from fastloc.engine.plan import DTYPES
from fastloc.functional import readout
from fastloc.functional.output import Output
from fastloc.functional.similarity import Read
from fastloc.recipes import Recipe

__all__ = ["Answer", "MapEngine", "MapPass", "MapTower"]

# pixels [B, 3, H, W], texts [T, E], the read-out of patch features, whether to compare the image embedding, and a text [E] that only it is
# compared with -> similarities [B, T, h, w] and the image embedding's cosines, or None
Answer = Callable[[Tensor, Tensor, Read, bool, Tensor | None], tuple[Tensor, Tensor | None]]


class MapTower:
    """A tower of `fastloc.engine.tower_kinds` on a device in a dtype, which the engines of several recipes share."""

    def __init__(self, weights: Any, device: torch.device, dtype: str) -> None:
        self.dtype = dtype
        # folded before it is rounded to a smaller dtype
        self.weights = weights.folded().to(device, DTYPES[dtype])


class MapEngine(BaseEngine):
    """Runs one recipe on one such tower, see `BaseEngine`. Grad-CAM's maps are not negative.

    Raises:
        RecipeError: the method does not exist on this kind of tower. PlanError: a setting that is unknown, or impossible on this device.
    """

    tower: MapTower

    def __init__(self, tower: MapTower, recipe: Recipe, settings: Mapping[str, str]) -> None:
        super().__init__(tower, recipe, settings)
        self.prepared = self._prepare()

    @abstractmethod
    def _prepare(self) -> Any:
        """The tower, folded for the recipe. Raises RecipeError, see the class."""

    @abstractmethod
    def answer(self, size: tuple[int, int]) -> Answer:
        """The method on inputs of (height, width). It holds every tensor that it reads besides its arguments."""

    def _pass(self, shape: Shape) -> "MapPass":
        return MapPass(self, shape)


class MapPass:
    """One shape's pass. It holds every tensor that it reads besides its inputs, because a captured graph needs them."""

    def __init__(self, engine: MapEngine, shape: Shape) -> None:
        self.recipe, self.shape = engine.recipe, shape
        weights, geometry = engine.prepared.weights, shape.geometry
        spec = weights.spec
        self.answer = engine.answer(geometry.input if geometry else (shape.pixels[-2], shape.pixels[-1]))
        self.frames = (
            FramePixels(geometry, spec.patch, spec.mean, spec.std, spec.interpolation, weights.dtype, weights.device) if geometry else None
        )
        self.cls = shape.background or readout.needs_cls(self.recipe.readout, shape.texts)
        self.cosine = triton_ops.cosine if shape.plan.readout == "triton" else readout.cosine

    def __call__(self, pixels: Tensor, texts: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if self.frames is not None:
            pixels = self.frames(pixels, bgr=self.shape.bgr, fused=self.shape.plan.frames == "triton")

        def read(out: Output, words: Tensor) -> Tensor:
            return readout.similarity(out, words, self.recipe.readout, empty, self.cosine)

        return self.answer(pixels, texts, read, self.cls, empty if self.shape.background else None)
