"""Digest of an image tower, which binds files to the checkpoint that they were made for."""

from fastloc.checkpoints.vit_weights import Weights, named_tensors
from fastloc.utils.hashing import tower_digest

__all__ = ["digest"]


def digest(weights: Weights) -> str:
    """The SHA-256 of an image tower's weights, whatever device they are on: see `fastloc.utils.hashing.tower_digest`."""
    return tower_digest({name: tensor.float().cpu().numpy() for name, tensor in named_tensors(weights).items()})
