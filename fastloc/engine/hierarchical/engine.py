"""The engine of hierarchical towers: one tower and one recipe on one device, executed by a plan, called like
`fastloc.engine.vit_engine.Engine`.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine.hierarchical.map_engine import Answer, MapEngine, MapTower
from fastloc.engine.plan import Chosen, Plan, PlanOption, PlanRequest, make_plan
from fastloc.engine.plan_options import OPTIONS, SHARED
from fastloc.functional.hierarchical import forms
from fastloc.functional.similarity import Read
from fastloc.recipes import Recipe

__all__ = ["HierarchicalEngine", "HierarchicalTower", "choose"]

_ONE_STAGE = "blocks of one stage at most are changed, each projected at once"


class HierarchicalTower(MapTower):
    """A hierarchical tower on a device in a dtype, which the engines of several recipes share."""


class HierarchicalEngine(MapEngine):
    """Runs one recipe on one hierarchical tower, see `MapEngine`."""

    prepared: forms.Prepared

    def _plan(self, batch: int, size: tuple[int, int]) -> Plan:
        return choose(self.device, self.tower.weights.spec, self.recipe, batch, size, self.settings)

    def _check(self, pixels: Tensor) -> None:
        forms.check_pixels(pixels, self.tower.weights.spec)

    def _prepare(self) -> forms.Prepared:
        return forms.prepare(self.tower.weights, self.recipe)

    def answer(self, size: tuple[int, int]) -> Answer:
        prepared = self.prepared

        def answer(pixels: Tensor, texts: Tensor, read: Read, cls: bool, beside: Tensor | None) -> tuple[Tensor, Tensor | None]:
            similarity, cosines, _ = forms.answer(prepared, pixels, texts, read, cls=cls, beside=beside)
            return similarity, cosines

        return answer


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
