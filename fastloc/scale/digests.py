"""Digest of a localizer's weights, whichever kind it is."""

from __future__ import annotations

from typing import Any

from fastloc.utils.hashing import tower_digest

__all__ = ["weights_digest"]


def weights_digest(localizer: Any) -> str:
    """The SHA-256 of the weights that a picture goes through, "sha256:…"; of an exported file the one that its manifest states."""
    manifest, source = getattr(localizer, "manifest", None), getattr(localizer, "source", None)
    if manifest is not None:
        return str(manifest.model.weights)
    if source is None:
        tensors = localizer.split.module.state_dict()
    else:
        from fastloc.checkpoints import resnet_weights, vit_weights

        vit = isinstance(source.weights, vit_weights.Weights)
        tensors = (vit_weights if vit else resnet_weights).named_tensors(source.weights)
    return tower_digest({name: tensor.float().cpu().numpy() for name, tensor in tensors.items()})
