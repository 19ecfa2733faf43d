"""The settings of a client, and the check of its requests."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastloc.errors import FastlocError, unknown
from fastloc.live.limits import Limits
from fastloc.live.messages import Refused
from fastloc.video.temporal import MAPS

__all__ = ["Settings", "changed"]

# similarities nearer to each other are one: a range between them is rounding noise
NEAREST = 1e-6


@dataclass(frozen=True, slots=True)
class Settings:
    """The choices of one client.

    Attributes:
        texts, methods: in order
        background: texts that the others are compared with, by default `temporal.BACKGROUND`
        smooth: half-life in seconds
        maps: a row of `temporal.MAPS`, or the similarities (cold, hot) of heat 0 and 1
        threshold: the share of full heat from which a pixel is in a box
        boxes: True for boxes in the answers
    """

    texts: tuple[str, ...]
    methods: tuple[str, ...]
    background: tuple[str, ...] = ()
    smooth: float = 0.0
    maps: str | tuple[float, float] = "frame"
    threshold: float = 0.5
    boxes: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings."""
        return asdict(self)


def changed(now: Settings, asked: Mapping[str, Any], limits: Limits, methods: tuple[str, ...]) -> Settings:
    """The settings with the requested values in their place, of the types of `messages.Asked`. Raises Refused, and then nothing changes."""
    values = {}
    for field, value in asked.items():
        try:
            values[field] = _CHECKS[field](field, value, limits, methods) if field in _CHECKS else value
        except FastlocError as error:
            raise Refused(field, str(error)) from None
    return replace(now, **values)


def _texts(field: str, value: Sequence[str], limits: Limits, methods: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(" ".join(each.split()) for each in value if each.strip()))
    if not found and field == "texts":
        raise FastlocError("say what to look for, such as: cat")
    if len(found) > limits.texts:
        raise FastlocError(f"texts must be at most {limits.texts} at a time, got {len(found)}")
    for text in found:
        if len(text) > limits.letters:
            raise FastlocError(f"{text[:20] + '…'!r} must have at most {limits.letters} letters, got {len(text)}")
        # controls, and halves of surrogate pairs
        for letter in text:
            if unicodedata.category(letter) in ("Cc", "Cs"):
                raise FastlocError(f"{text[:40]!r} must hold letters and signs alone, got U+{ord(letter):04X}; leave that out")
    return found


def _methods(field: str, value: Sequence[str], limits: Limits, methods: tuple[str, ...]) -> tuple[str, ...]:
    if not value or len(value) > limits.methods or len(set(value)) < len(value):
        raise FastlocError(f"methods must be 1 to {limits.methods} different ones at a time")
    for name in value:
        if name not in methods:
            raise FastlocError(unknown("method", name[:40], methods))
    return tuple(value)


def _maps(field: str, value: str | tuple[float, float], limits: Limits, methods: tuple[str, ...]) -> str | tuple[float, float]:
    if isinstance(value, str):
        if value not in MAPS:
            raise FastlocError(unknown("way of scaling", value[:40], MAPS))
        return value
    if not value[1] - value[0] >= NEAREST:
        raise FastlocError(f"a range must be two similarities, the colder one first and at least {NEAREST:g} apart, got {value!r}")
    return value


_CHECKS: dict[str, Callable[[str, Any, Limits, tuple[str, ...]], Any]] = {
    "texts": _texts, "methods": _methods, "background": _texts, "maps": _maps,
}  # fmt: skip
