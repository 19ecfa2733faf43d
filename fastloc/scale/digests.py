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
    if source is not None:
        from fastloc.checkpoints.digests import digest

        return digest(source.weights)
    tensors = localizer.split.module.state_dict()
    return tower_digest({name: tensor.float().cpu().numpy() for name, tensor in tensors.items()})
