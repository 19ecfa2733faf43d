"""What a client has chosen, and the check of what it asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastloc.errors import FastlocError, unknown
from fastloc.live.limits import Limits
from fastloc.video.temporal import MAPS

__all__ = ["Refused", "Settings", "changed"]

# half-life of the longest memory, seconds
LONGEST = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What one client has chosen.

    texts, methods  in order
    background      what the texts are held against, by default `temporal.BACKGROUND`
    smooth          half-life in seconds
    maps            a row of `temporal.MAPS`, or the similarities (cold, hot) of heat 0 and 1
    threshold       the share of full heat from which a pixel is in a box
    boxes           whether boxes are wanted
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


class Refused(FastlocError):
    """A setting that cannot be: `field` names the input beside which the page shows it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def changed(now: Settings, asked: dict[str, Any], limits: Limits, methods: tuple[str, ...]) -> Settings:
    """The settings with what is asked for in their place. Raises Refused, and then nothing changes."""
    values = {}
    for field, value in asked.items():
        if field not in _CHECKS:
            raise Refused("", unknown("setting", field, _CHECKS))
        try:
            values[field] = _CHECKS[field](field, value, limits, methods)
        except FastlocError as error:
            raise Refused(field, str(error)) from None
    return replace(now, **values)


def _texts(field: str, value: Any, limits: Limits, methods: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise FastlocError("a list of texts is wanted")
    found = tuple(dict.fromkeys(" ".join(each.split()) for each in value if each.strip()))
    if not found and field == "texts":
        raise FastlocError("say what to look for, such as: cat")
    if len(found) > limits.texts:
        raise FastlocError(f"{len(found)} texts; at most {limits.texts} are looked for at a time")
    for text in found:
        if len(text) > limits.letters:
            raise FastlocError(f"{text[:20] + '…'!r} has {len(text)} letters; at most {limits.letters} are read")
    return found


def _methods(field: str, value: Any, limits: Limits, methods: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len(value) > limits.methods or len(set(map(str, value))) < len(value):
        raise FastlocError(f"one to {limits.methods} different methods are shown at a time")
    for name in value:
        if name not in methods:
            raise FastlocError(unknown("method", name, methods))
    return tuple(value)


def _number(least: float, most: float) -> Callable[[str, Any, Limits, tuple[str, ...]], float]:
    def check(field: str, value: Any, limits: Limits, methods: tuple[str, ...]) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise FastlocError(f"{field} is {value!r}; a number from {least:g} to {most:g} is wanted")
        return float(value)

    return check


def _maps(field: str, value: Any, limits: Limits, methods: tuple[str, ...]) -> str | tuple[float, float]:
    if isinstance(value, str):
        if value not in MAPS:
            raise FastlocError(unknown("way of scaling", value, MAPS))
        return value
    numbers = isinstance(value, list) and len(value) == 2 and all(type(each) in (int, float) and math.isfinite(each) for each in value)
    if not numbers or not value[0] < value[1]:
        raise FastlocError(f"a range is two similarities, the colder one first, not {value!r}")
    return float(value[0]), float(value[1])


def _switch(field: str, value: Any, limits: Limits, methods: tuple[str, ...]) -> bool:
    if not isinstance(value, bool):
        raise FastlocError(f"{field} is {value!r}; true or false is wanted")
    return value


_CHECKS: dict[str, Callable[[str, Any, Limits, tuple[str, ...]], Any]] = {
    "texts": _texts, "methods": _methods, "background": _texts, "smooth": _number(0, LONGEST), "maps": _maps,
    "threshold": _number(0.05, 1), "boxes": _switch,
}  # fmt: skip
