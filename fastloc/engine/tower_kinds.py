"""The kinds of image tower and the engine of each, so that a localizer need not know its tower's kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine import plan_options
from fastloc.engine.hierarchical import engine as hierarchical
from fastloc.engine.plan import Plan, PlanRequest
from fastloc.engine.resnet_engine import ResNetEngine, ResNetTower
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.errors import RecipeError
from fastloc.functional import resnet
from fastloc.functional.hierarchical import forms
from fastloc.recipes import Recipe

AnyTower = Tower | ResNetTower | hierarchical.HierarchicalTower
AnyEngine = Engine | ResNetEngine | hierarchical.HierarchicalEngine


@dataclass(frozen=True)
class TowerKind:
    """One kind of image tower, as the functions that serve it.

    tower: (weights, device, dtype) -> the tower on its device.
    engine: (tower, recipe, settings) -> the engine.
    check: (recipe, spec, the model's name) raises RecipeError for a recipe that does not fit.
    plan: (device, spec, recipe, batch, size, settings) -> the plan, before there is an engine.
    """

    tower: Callable[[Any, torch.device, str], Any]
    engine: Callable[[Any, Recipe, Mapping[str, str]], Any]
    check: Callable[[Recipe, Any, str], None]
    plan: Callable[[torch.device, Any, Recipe, int, tuple[int, int], Mapping[str, str]], Plan]


def _check_blocks(recipe: Recipe, spec: ModelSpec, name: str) -> None:
    if recipe.blocks > spec.layers:
        raise RecipeError(f"method {recipe.name!r}: blocks must be at most the {spec.layers} of {name}, got {recipe.blocks}")


def _choose(device: torch.device, spec: ModelSpec, recipe: Recipe, batch: int, size: tuple[int, int], settings: Mapping[str, str]) -> Plan:
    return plan_options.choose(PlanRequest(device, spec, recipe, batch, size), settings)


KINDS: dict[type, TowerKind] = {
    Weights: TowerKind(Tower, Engine, _check_blocks, _choose),
    ResNetWeights: TowerKind(ResNetTower, ResNetEngine, resnet.check, plan_options.choose_resnet),
    HierarchicalWeights: TowerKind(hierarchical.HierarchicalTower, hierarchical.HierarchicalEngine, forms.check, hierarchical.choose),
}


def tower_kind(weights: AnyWeights) -> TowerKind:
    """The kind of tower that these weights belong to."""
    return KINDS[type(weights)]
