"""The engine of hierarchical towers: one tower and one recipe on one device, executed by a plan, called like
`fastloc.engine.vit_engine.Engine`.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights, folded
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine import triton_ops
from fastloc.engine.base import BaseEngine, Shape
from fastloc.engine.frame_patches import FramePixels
from fastloc.engine.plan import DTYPES, Chosen, Plan, PlanOption, PlanRequest, make_plan
from fastloc.engine.plan_options import OPTIONS, SHARED
from fastloc.functional import readout
from fastloc.functional.hierarchical import forms
from fastloc.recipes import Recipe

__all__ = ["HierarchicalEngine", "HierarchicalPass", "HierarchicalTower", "choose"]

_ONE_STAGE = "blocks of one stage at most are changed, each projected at once"


class HierarchicalTower:
    """A hierarchical tower on a device in a dtype, which the engines of several recipes share."""

    def __init__(self, weights: HierarchicalWeights, device: torch.device, dtype: str) -> None:
        self.dtype = dtype
        # folded before it is rounded to a smaller dtype
        self.weights = folded(weights).to(device, DTYPES[dtype])


class HierarchicalEngine(BaseEngine):
    """Runs one recipe on one hierarchical tower, see `BaseEngine`. Grad-CAM's maps are not negative.

    Raises:
        RecipeError: the method does not exist on these towers. PlanError: a setting that is unknown, or impossible on this device.
    """

    tower: HierarchicalTower

    def __init__(self, tower: HierarchicalTower, recipe: Recipe, settings: Mapping[str, str]) -> None:
        super().__init__(tower, recipe, settings)
        self.prepared = forms.prepare(tower.weights, recipe)

    def _plan(self, batch: int, size: tuple[int, int]) -> Plan:
        return choose(self.device, self.tower.weights.spec, self.recipe, batch, size, self.settings)

    def _pass(self, shape: Shape) -> "HierarchicalPass":
        return HierarchicalPass(self, shape)

    def _check(self, pixels: Tensor) -> None:
        forms.check_pixels(pixels, self.tower.weights.spec)


class HierarchicalPass:
    """One shape's pass. It holds every tensor that it reads besides its inputs, because a captured graph needs them."""

    def __init__(self, engine: HierarchicalEngine, shape: Shape) -> None:
        self.prepared, self.recipe, self.shape = engine.prepared, engine.recipe, shape
        weights, geometry = self.prepared.weights, shape.geometry
        spec = weights.spec
        self.frames = (
            FramePixels(geometry, spec.patch, spec.mean, spec.std, spec.interpolation, weights.dtype, weights.device) if geometry else None
        )
        self.cls = shape.background or readout.needs_cls(self.recipe.readout, shape.texts)
        self.cosine = triton_ops.cosine if shape.plan.readout == "triton" else readout.cosine

    def __call__(self, pixels: Tensor, texts: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if self.frames is not None:
            pixels = self.frames(pixels, bgr=self.shape.bgr, fused=self.shape.plan.frames == "triton")
        if self.prepared.form.relevance:
            return forms.relevance(self.prepared, pixels, texts, empty if self.shape.background else None)
        out = forms.encode(self.prepared, pixels, cls=self.cls)
        compared = torch.cat([texts, empty[None]]) if self.shape.background and empty is not None else texts
        return readout.similarity(out, texts, self.recipe.readout, empty, self.cosine), readout.scores(out, compared)


def choose(
    device: torch.device, spec: HierarchicalSpec, recipe: Recipe, batch: int, size: tuple[int, int], settings: Mapping[str, str]
) -> Plan:
    """The plan of a hierarchical tower: one option for fields that only plain transformers choose, the shared options for the rest.

    size is (height, width). Raises PlanError, see `make_plan`.
    """
    # the options read what all kinds of spec have
    return make_plan(PlanRequest(device, cast(ModelSpec, spec), recipe, batch, size), settings, HIERARCHICAL_OPTIONS)


def _graphs(request: PlanRequest, chosen: Chosen) -> list[str]:
    graph = OPTIONS["launch"][0]
    if reasons := graph.impossible(request, chosen):
        return reasons
    return ["autograd goes back through the stages behind the one that is read"] if request.recipe.start < -1 else []


HIERARCHICAL_OPTIONS = {
    **{name: OPTIONS[name] for name in SHARED},
    "attention": (PlanOption("sdpa", "PyTorch's fused attention, in the stages that have one"),),
    "projection": (PlanOption("per-block", _ONE_STAGE),),
    "schedule": (PlanOption("per-block", _ONE_STAGE),),
    "norm": (PlanOption("torch", "BatchNorms are folded into the convolutions; LayerNorms are PyTorch's"),),
    "activation": (PlanOption("torch", "GELU is one kernel of PyTorch's already"),),
    "launch": (PlanOption("graph", OPTIONS["launch"][0].why, impossible=_graphs), OPTIONS["launch"][1]),
}
