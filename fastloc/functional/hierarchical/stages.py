"""The maps of a tower's stages, for every family."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from fastloc.functional.hierarchical import convnext, fastvit, swin

__all__ = ["MAPS", "last"]

# (trunk, pixels) -> the maps of all stages one by one, the last one the head's, by the families of
# `fastloc.checkpoints.hierarchical.families`
MAPS: dict[str, Callable[[Any, Tensor], Iterator[Tensor]]] = {"ConvNeXt": convnext.maps, "FastViT": fastvit.maps, "Swin": swin.maps}


def last(maps: Iterator[Tensor]) -> Tensor:
    """The last of a tower's maps; earlier ones are let go, where a list holds them all."""
    found = next(maps)
    for each in maps:
        found = each
    return found
