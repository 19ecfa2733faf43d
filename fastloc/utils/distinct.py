"""Distinct rows of a table: a repeated row is computed once, and its result is copied to each of its positions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Distinct", "distinct", "distinct_rows"]


@dataclass(frozen=True)
class Distinct:
    """Positions of the distinct keys. first: each one's first position; index: for every position, the number of its distinct key."""

    first: list[int]
    index: list[int]


def distinct(keys: Sequence[Hashable]) -> Distinct | None:
    """The distinct keys, in order; None where all are distinct."""
    seen: dict[Hashable, int] = {}
    first: list[int] = []
    index: list[int] = []
    for i, key in enumerate(keys):
        if key not in seen:
            seen[key] = len(first)
            first.append(i)
        index.append(seen[key])
    return None if len(first) == len(keys) else Distinct(first, index)


def distinct_rows(array: NDArray[Any]) -> Distinct | None:
    """The distinct rows of an array [T, ...], compared by their bytes; None where all are distinct."""
    return None if len(array) < 2 else distinct([row.tobytes() for row in np.ascontiguousarray(array)])
