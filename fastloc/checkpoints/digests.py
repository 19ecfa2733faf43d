"""Digest of an image tower, which binds files to the checkpoint that they were made for."""

from torch import Tensor

from fastloc.checkpoints import resnet_weights, vit_weights
from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.hierarchical import weights as hierarchical_weights
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.utils.hashing import tower_digest

__all__ = ["digest"]


def digest(weights: AnyWeights) -> str:
    """The SHA-256 of an image tower's weights, whatever device they are on: see `fastloc.utils.hashing.tower_digest`."""
    return tower_digest({name: tensor.float().cpu().numpy() for name, tensor in _named(weights).items()})


def _named(weights: AnyWeights) -> dict[str, Tensor]:
    if isinstance(weights, HierarchicalWeights):
        return hierarchical_weights.named_tensors(weights)
    return resnet_weights.named_tensors(weights) if isinstance(weights, ResNetWeights) else vit_weights.named_tensors(weights)
