"""The kinds of image tower and the engine of each, so that a localizer need not know its tower's kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from fastloc.errors import RecipeError, warn
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
    blocks: spec -> the number of last blocks that a local path can change; 0 for a tower without such blocks.
    """

    tower: Callable[[Any, torch.device, str], Any]
    engine: Callable[[Any, Recipe, Mapping[str, str]], Any]
    check: Callable[[Recipe, Any, str], None]
    plan: Callable[[torch.device, Any, Recipe, int, tuple[int, int], Mapping[str, str]], Plan]
    blocks: Callable[[Any], int] = lambda spec: 0

    def at_depth(self, recipe: Recipe, spec: Any, name: str) -> Recipe:
        """The recipe with as many changed blocks as the tower has, where a method's own number is more: with a FastlocWarning.

        It is for a number that nobody gave; one that you give is never made smaller, and `check` refuses it. name: the model's.
        """
        most = self.blocks(spec)
        if not most or recipe.blocks <= most:
            return recipe
        warn(
            f"method {recipe.name!r} changes the last {recipe.blocks} blocks, and {name} has {most} to change: it changes these; "
            f"blocks={most} (--blocks {most}) says so without this note",
            stacklevel=4,
        )
        return replace(recipe, blocks=most)


def _check_blocks(recipe: Recipe, spec: ModelSpec, name: str) -> None:
    if recipe.blocks > spec.layers:
        most = spec.layers
        raise RecipeError(f"method {recipe.name!r}: blocks must be at most the {most} of {name}, got {recipe.blocks}; give blocks={most}")


def _choose(device: torch.device, spec: ModelSpec, recipe: Recipe, batch: int, size: tuple[int, int], settings: Mapping[str, str]) -> Plan:
    return plan_options.choose(PlanRequest(device, spec, recipe, batch, size), settings)


KINDS: dict[type, TowerKind] = {
    Weights: TowerKind(Tower, Engine, _check_blocks, _choose, lambda spec: spec.layers),
    ResNetWeights: TowerKind(ResNetTower, ResNetEngine, resnet.check, plan_options.choose_resnet),
    HierarchicalWeights: TowerKind(
        hierarchical.HierarchicalTower, hierarchical.HierarchicalEngine, forms.check, hierarchical.choose, lambda spec: spec.attending
    ),
}


def tower_kind(weights: AnyWeights) -> TowerKind:
    """The kind of tower that these weights belong to."""
    return KINDS[type(weights)]
