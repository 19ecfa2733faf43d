"""The similarity at which heat reaches a threshold, to the last bit: masks and labels compare a map with it and make no heat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.bilinear import Bilinear
from fastloc.imaging.heatmaps import Heat

__all__ = ["Turning", "turning_of"]

Floats = NDArray[Any]


# arrays have no single truth
@dataclass(frozen=True, eq=False)
class Turning:
    """Maps whose heat reaches a threshold from a value on.

    Attributes:
        least: [T, 1, 1], the least value of each map that is on the upper side; infinite where none is
        reverse: True where heat reaches the threshold below it
    """

    maps: Bilinear
    least: Floats
    reverse: bool

    def __getitem__(self, index: list[int]) -> Turning:
        """Of some texts, in this order."""
        if index == list(range(len(self.least))):
            return self
        return Turning(replace(self.maps, values=self.maps.values[index]), self.least[index], self.reverse)

    def warm(self, values: Floats, texts: slice | int, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Bool of the values' shape, into out where given: True where the heat of values [t, n, w], or of one text [n, w], reaches it."""
        compare = np.less if self.reverse else np.greater_equal
        found: NDArray[np.bool_] = compare(values, self.least[texts], out=out)
        return found

    def sides(self, low: Floats, high: Floats, margin: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of blocks whose values lie between low and high [T, n, m], each off by less than a margin: True where the whole block is warm,
        and where the whole block is cold."""
        above, below = low - margin >= self.least, high + margin < self.least
        return (below, above) if self.reverse else (above, below)


def turning_of(heat: Heat, threshold: float) -> Turning:
    """Values at which the heat of maps without logit_scale reaches a threshold. Rounding keeps values in order, so halving finds them."""
    values = heat.maps.values
    kind = np.int32 if values.dtype == np.float32 else np.int64
    # floats by their order; between `low`, which is below, and `high`, which is not
    infinite = int(np.array(np.inf, values.dtype).view(kind))
    low, high = (np.full(len(values), end, object) for end in (-infinite - 1, infinite))
    while (high - low > 1).any():
        middle = (low + high) // 2
        with np.errstate(over="ignore", invalid="ignore"):
            reached = heat.of(_float(middle, kind, values.dtype)[:, None, None], slice(None))[:, 0, 0] >= threshold
        upper = reached != heat.reverse
        low, high = np.where(upper, low, middle), np.where(upper, middle, high)
    return Turning(heat.maps, _float(high, kind, values.dtype)[:, None, None], heat.reverse)


def _float(place: NDArray[Any], kind: type[np.signedinteger[Any]], dtype: np.dtype[Any]) -> Floats:
    """The floats at places of their order, where 0.0 is at 0 and -0.0 at -1."""
    size = np.where(place < 0, -1 - place, place).astype(kind).view(dtype)
    made: Floats = np.where(place < 0, -size, size)
    return made
