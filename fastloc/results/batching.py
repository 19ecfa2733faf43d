"""Pictures of mixed sizes in batches of one input size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastloc.imaging.geometry import Geometry

__all__ = ["chunks", "name_of"]


def name_of(picture: Any) -> str:
    """The source's path as you gave it; "" for a source without one."""
    return str(picture) if isinstance(picture, str) or hasattr(picture, "__fspath__") else ""


def chunks(geometries: Sequence[Geometry], batch: int) -> Iterator[list[int]]:
    """Indices of pictures of one input size, at most `batch` at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, geometry in enumerate(geometries):
        groups.setdefault(geometry.input, []).append(i)
    for group in groups.values():
        for start in range(0, len(group), batch):
            yield group[start : start + batch]
