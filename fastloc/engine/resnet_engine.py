"""The engine of CLIP's ResNets: one tower and one recipe on one device, executed by a plan, called like
`fastloc.engine.vit_engine.Engine`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fastloc.checkpoints.resnet_weights import ResNetWeights, folded
from fastloc.engine import triton_ops
from fastloc.engine.base import BaseEngine, Shape
from fastloc.engine.frame_patches import FramePixels
from fastloc.engine.plan import DTYPES, Plan
from fastloc.engine.plan_options import choose_resnet
from fastloc.functional import readout, resnet
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
        self.frames = (
            FramePixels(geometry, spec.patch, spec.mean, spec.std, spec.interpolation, weights.dtype, weights.device) if geometry else None
        )
        self.cls = shape.background or readout.needs_cls(self.recipe.readout, shape.texts)
        self.cosine = triton_ops.cosine if shape.plan.readout == "triton" else readout.cosine

    def __call__(self, pixels: Tensor, texts: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if self.frames is not None:
            pixels = self.frames(pixels, bgr=self.shape.bgr, fused=self.shape.plan.frames == "triton")
        x = resnet.features(self.prepared.weights, pixels)
        if self.prepared.form.relevance:
            return resnet.relevance(self.prepared, x, self.table, texts, empty if self.shape.background else None)
        out = resnet.encode(self.prepared, x, self.table, cls=self.cls)
        compared = torch.cat([texts, empty[None]]) if self.shape.background and empty is not None else texts
        return readout.similarity(out, texts, self.recipe.readout, empty, self.cosine), readout.scores(out, compared)
