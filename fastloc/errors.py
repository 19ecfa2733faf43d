"""Every error fastloc raises on purpose: one clear message that names the thing, its value and the rule or fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "FastlocError", "FastlocWarning", "ImageError", "ModelError", "PlanError", "RecipeError", "ServiceError", "TextError", "VideoError",
    "unknown",
]  # fmt: skip

# characters of a name that a message shows
LONGEST = 100


class FastlocError(ValueError):
    """Base of every error raised on purpose; catch this one to catch them all."""


class ImageError(FastlocError):
    """A picture that cannot be read, or that is not a picture."""


class ModelError(FastlocError):
    """A model that is not known, cannot be loaded, or lacks a part that a call needs."""


class PlanError(FastlocError):
    """A way of execution that is not known, or not possible on this device, with this model or at this shape."""


class RecipeError(FastlocError):
    """A method that is not known, or whose parameters do not fit together."""


class ServiceError(FastlocError):
    """A service that cannot be reached, refuses a call, or answers in another form."""


class TextError(FastlocError):
    """A prompt that cannot be used."""


class VideoError(FastlocError):
    """A video, camera or stream that cannot be read, or a video that cannot be written."""


class FastlocWarning(UserWarning):
    """A warning of a call that succeeded; the command line prints it as a note."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is not in a table: the nearest matches first, then every known name in the table's order.

    >>> unknown("method", "gme", ["clearclip", "gem"])
    "unknown method 'gme': did you mean 'gem'? known methods: clearclip, gem"
    """
    names = list(known)
    # compare without case, so that 'GEM' finds 'gem'
    by_lower = {each.lower(): each for each in names}
    # of a long name its beginning: it may come from a file, and is compared with every known one
    if isinstance(name, str) and len(name) > LONGEST:
        name = f"{name[:LONGEST]}…"
    near = [by_lower[each] for each in difflib.get_close_matches(str(name).lower(), list(by_lower), n=2, cutoff=0.6)]
    guess = f" did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown {kind} {name!r}:{guess} known {_plural(kind)}: {', '.join(names) or 'none'}"


def _plural(kind: str) -> str:
    if kind.endswith("y") and kind[-2:-1] not in "aeiou":
        return kind[:-1] + "ies"
    return kind + ("es" if kind.endswith(("s", "x", "ch", "sh")) else "s")
