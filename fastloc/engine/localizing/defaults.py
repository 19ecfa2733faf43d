"""The fields and the input size that a model and a method choose where nobody gives them."""

from __future__ import annotations

from typing import Any

from fastloc.checkpoints import loading
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.imaging.geometry import both_sides
from fastloc.recipes.official import NATIVE

__all__ = ["USUAL_SIZE", "default_size", "recommended_of"]

# GEM's input size; models of a larger native size keep theirs
USUAL_SIZE = 448


def recommended_of(source: loading.Source, method: str) -> dict[str, Any]:
    """The fields of a method's recipe that the model's own configuration recommends."""
    of_all = {name: source.recommended[name] for name in ("position",) if name in source.recommended}
    return {**of_all, **source.recommended.get("recipes", {}).get(method, {})}


def default_size(source: loading.Source, official: int | str | None) -> int | tuple[int, int]:
    if official is None and "size" in source.recommended:
        return int(source.recommended["size"])
    if isinstance(official, int):
        sides = official, official
    else:
        own = official == NATIVE or isinstance(source.spec, HierarchicalSpec)
        sides = source.spec.image if own else both_sides([max(USUAL_SIZE, side) for side in source.spec.image])
    height, width = (max(side // step, 1) * step for side, step in zip(sides, source.spec.patch, strict=True))
    return height if height == width else (height, width)
