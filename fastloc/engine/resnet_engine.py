"""The engine of CLIP's ResNets: one tower and one recipe on one device, executed by a plan, called like
`fastloc.engine.vit_engine.Engine`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fastloc.checkpoints.resnet_weights import ResNetWeights, folded
from fastloc.engine import triton_ops
from fastloc.engine.base import BaseEngine, Shape
from fastloc.engine.frame_patches import patches_of
from fastloc.engine.plan import DTYPES, Plan
from fastloc.engine.plan_options import choose_resnet
from fastloc.functional import readout, resnet
from fastloc.functional.frame_patches import frame_tables, pixel_scale
from fastloc.functional.output import Output
from fastloc.recipes import Recipe


class ResNetTower:
    """A ResNet on a device in a dtype, which the engines of several recipes share."""

    def __init__(self, weights: ResNetWeights, device: torch.device, dtype: str) -> None:
        self.dtype = dtype
        # folded before it is rounded to a smaller dtype
        self.weights = folded(weights).to(device, DTYPES[dtype])


class ResNetEngine(BaseEngine):
    """Runs one recipe on one ResNet, see `BaseEngine`. Grad-CAM's maps are not negative.

    Raises:
        RecipeError: the method does not exist on ResNets. PlanError: a setting that is unknown, or impossible on this device.
    """

    tower: ResNetTower

    def __init__(self, tower: ResNetTower, recipe: Recipe, settings: Mapping[str, str]) -> None:
        super().__init__(tower, recipe, settings)
        self.prepared = resnet.prepare(tower.weights, recipe)

    def _plan(self, batch: int, size: tuple[int, int]) -> Plan:
        return choose_resnet(self.device, self.tower.weights.spec, self.recipe, batch, size, self.settings)

    def _pass(self, shape: Shape) -> "ResNetPass":
        return ResNetPass(self, shape)

    def _check(self, pixels: Tensor) -> None:
        resnet.check_pixels(pixels)


class ResNetPass:
    """One shape's pass. It holds every tensor that it reads besides its inputs, because a captured graph needs them."""

    def __init__(self, engine: ResNetEngine, shape: Shape) -> None:
        self.prepared, self.recipe, self.shape = engine.prepared, engine.recipe, shape
        weights, geometry = self.prepared.weights, shape.geometry
        spec, size = weights.spec, geometry.input if geometry else (shape.pixels[-2], shape.pixels[-1])
        self.table = resnet.position_table(weights, (size[0] // spec.patch[0], size[1] // spec.patch[1]), self.recipe)
        self.frames = frame_tables(geometry, spec.patch, spec.mean, spec.interpolation) if geometry else None
        self.cls = shape.background or readout.needs_cls(self.recipe.readout, shape.texts)
        self.cosine = triton_ops.cosine if shape.plan.readout == "triton" else readout.cosine
        # a frame's bytes stand in patches as (byte - 128) / 64; the convolutions read (byte / 255 - mean) / std
        self.factor, self.offset = (each.to(weights.device, weights.dtype) for each in pixel_scale(spec.mean, spec.std))

    def __call__(self, pixels: Tensor, texts: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = resnet.features(self.prepared.weights, pixels if self.shape.geometry is None else self.normalised(pixels))

        def read(out: Output, words: Tensor) -> Tensor:
            return readout.similarity(out, words, self.recipe.readout, empty, self.cosine)

        beside = empty if self.shape.background else None
        return resnet.answer(self.prepared, x, self.table, texts, read, cls=self.cls, beside=beside)

    def normalised(self, frames: Tensor) -> Tensor:
        """Normalised pixels [B, 3, h, w] of uint8 frames [B, H, W, 3], resized on their device."""
        geometry, weights = self.shape.geometry, self.prepared.weights
        assert geometry is not None
        spec, (h, w) = weights.spec, geometry.grid(weights.spec.patch)
        patches = patches_of(
            frames, geometry, spec.patch, spec.mean, spec.interpolation, weights.dtype,
            bgr=self.shape.bgr, fused=self.shape.plan.frames == "triton",
        )  # fmt: skip
        cut = patches.reshape(len(frames), h, w, 3, *spec.patch).permute(0, 3, 1, 4, 2, 5)
        return cut.reshape(len(frames), 3, *geometry.input) * self.factor + self.offset
