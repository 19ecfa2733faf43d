"""Digest of an image tower, which binds files to the checkpoint that they were made for."""

from fastloc.checkpoints import resnet_weights, vit_weights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_weights import Weights
from fastloc.utils.hashing import tower_digest

__all__ = ["digest"]


def digest(weights: Weights | ResNetWeights) -> str:
    """The SHA-256 of an image tower's weights, whatever device they are on: see `fastloc.utils.hashing.tower_digest`."""
    named = resnet_weights.named_tensors(weights) if isinstance(weights, ResNetWeights) else vit_weights.named_tensors(weights)
    return tower_digest({name: tensor.float().cpu().numpy() for name, tensor in named.items()})
