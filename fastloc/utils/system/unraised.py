"""Errors that code in C meets in a call back into Python, and cannot raise."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["memory_errors_raised"]


@contextmanager
def memory_errors_raised() -> Iterator[None]:
    """Context at whose end a MemoryError is raised that code inside could not raise, whatever it made or raised in its place.

    FreeType in matplotlib reads a font by a function of Python's. Where that finds no memory, Python says that it ignores the error, and a
    letter is missing from the plot, or a RuntimeError speaks of glyphs. Not for several threads at once: the hook is the process's own.
    """
    met, usual = list[Any](), sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, MemoryError):
            # nothing of the frames is kept
            met.append(None)
        else:
            usual(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    except Exception as error:
        if met:
            raise MemoryError from error
        raise
    finally:
        sys.unraisablehook = usual
    if met:
        raise MemoryError
