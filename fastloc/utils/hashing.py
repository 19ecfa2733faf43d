"""Digests that bind files to one another: text embeddings to the image tower they are compared with, exports to their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["short", "tower_digest"]


def tower_digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """The SHA-256 of a tower's weights, "sha256:" and 64 hexadecimal digits.

    Over the names in sorted order, each with its shape and its numbers as little-endian float32: the same weights have the same digest in
    any order, in any memory layout, and in any dtype whose values float32 holds exactly.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        shape = ",".join(map(str, array.shape))
        # what ends each part keeps a name from running into the numbers of another
        digest.update(f"{name}\0float32[{shape}]\0".encode())
        digest.update(np.ascontiguousarray(array, "<f4").data)
    return f"sha256:{digest.hexdigest()}"


def short(digest: str) -> str:
    """A digest as messages show it: its first twelve digits."""
    return digest.removeprefix("sha256:")[:12]
