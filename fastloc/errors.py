"""Every error fastloc raises on purpose: one clear message that names the thing, its value and the rule or fix; and its warnings."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = [
    "FastlocError", "FastlocWarning", "ImageError", "ModelError", "PlanError", "RecipeError", "ServiceError", "TextError", "VideoError",
    "heard", "unknown", "warn",
]  # fmt: skip

# characters of a name that a message shows
LONGEST = 100
# warnings of one module that Python may remember to have shown
REMEMBERED = 512

_listener: ContextVar[list[str] | None] = ContextVar("listener", default=None)


class FastlocError(ValueError):
    """Base of every error raised on purpose; catch this one to catch them all. It pickles with all that it says."""

    def __reduce__(self) -> tuple[object, ...]:
        # not by calling the class, whose arguments may be others than the message
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[FastlocError], args: tuple[object, ...], state: dict[str, object]) -> FastlocError:
    made = kind.__new__(kind, *args)
    made.__dict__.update(state)
    return made


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


def warn(message: str, stacklevel: int = 1) -> None:
    """Give a FastlocWarning, as `warnings.warn(message, FastlocWarning, stacklevel)` called in place of this function does.

    Python remembers each message that it has shown in the module that is blamed for it, for ever. Messages that hold texts or names of
    pictures are without number, so they are forgotten here from time to time, and may then be shown again. Within `heard` nothing is shown.
    """
    if (listener := _listener.get()) is not None:
        listener.append(message)
        return
    warnings.warn(message, FastlocWarning, stacklevel=stacklevel + 1)
    try:
        blamed = sys._getframe(stacklevel).f_globals
    # beyond the outermost frame Python blames this module
    except ValueError:
        blamed = vars(sys)
    remembered = blamed.get("__warningregistry__")
    if remembered is not None and len(remembered) > REMEMBERED:
        remembered.clear()


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect the messages of `warn` of this thread (of this task, in asyncio), in place of showing them.

    `warnings.catch_warnings` changes the filters of the whole process, and where two threads are within it at once it leaves them changed.
    """
    found: list[str] = []
    token = _listener.set(found)
    try:
        yield found
    finally:
        _listener.reset(token)


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
