"""The plan of CLIP's ResNets: one way for what is a transformer's choice, the shared options for the rest."""

from collections.abc import Mapping
from typing import cast

import torch

from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine.plan import Plan, PlanOption, PlanRequest, make_plan
from fastloc.engine.plan_options import OPTIONS
from fastloc.recipes import Recipe

_ONE_POOL = "a ResNet has one attention, its pool's"

# fields that a ResNet shares with transformers, whose options ask for device, dtype, batch and embedding width alone
_SHARED = ("dtype", "readout", "frames", "launch")
RESNET_OPTIONS = {
    **{name: OPTIONS[name] for name in _SHARED},
    "attention": (PlanOption("sdpa", f"{_ONE_POOL}: PyTorch's fused attention"),),
    "projection": (PlanOption("per-block", _ONE_POOL),),
    "schedule": (PlanOption("per-block", _ONE_POOL),),
    "norm": (PlanOption("torch", "BatchNorm is folded into the convolutions"),),
    "activation": (PlanOption("torch", "ReLU is one kernel of PyTorch's already"),),
}


def choose(device: torch.device, spec: ResNetSpec, recipe: Recipe, batch: int, size: tuple[int, int], settings: Mapping[str, str]) -> Plan:
    """The plan of a recipe for a batch of inputs of (height, width). Raises PlanError, see `fastloc.engine.plan.make_plan`."""
    # the options of `RESNET_OPTIONS` read what both kinds of spec have
    return make_plan(PlanRequest(device, cast(ModelSpec, spec), recipe, batch, size), settings, RESNET_OPTIONS)
