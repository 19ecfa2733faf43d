"""Colours and signs of contenders, the same in every plot."""

from collections.abc import Iterable

from fastloc.bench.schema import ENCODER
from fastloc.utils.plotting import GREY, PALETTE

MARKERS = "osD^vPX*"
# those that most plots show have the same colour in each
_FIXED = {"torch": 0, "official": 1, "ort": 2, "triton": 3, "gem_torch": 4}


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: the encoder grey, usual contenders always the same, others what is left, from the start again if need be."""
    drawn = [name for name in dict.fromkeys(names) if name != ENCODER]
    found = {name: PALETTE[_FIXED[name]] for name in drawn if name in _FIXED}
    free = [colour for colour in PALETTE if colour not in found.values()] or list(PALETTE)
    others = [name for name in drawn if name not in found]
    return {ENCODER: GREY, **found, **{name: free[i % len(free)] for i, name in enumerate(others)}}


def markers(names: Iterable[str]) -> dict[str, str]:
    """A sign for each name, which differs where colours come again."""
    return {name: MARKERS[(i + i // len(PALETTE)) % len(MARKERS)] for i, name in enumerate(dict.fromkeys(names))}
