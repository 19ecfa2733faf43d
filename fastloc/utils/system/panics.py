"""Errors that are no `Exception`: a panic of a library in Rust, or a SystemExit where no program is to end.

A thread that lets one through ends silently, and whoever waits for its answer waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastloc.errors import FastlocError

__all__ = ["as_exception", "contained"]

P = ParamSpec("P")
T = TypeVar("T")


def as_exception(error: BaseException) -> Exception:
    """The error itself, or a FastlocError that names it in the place of one that is no Exception, and would end the caller's program."""
    if isinstance(error, Exception):
        return error
    made = FastlocError(f"a library ended the work ({type(error).__name__}: {' '.join(str(error).split()) or 'without a word'})")
    # its traceback shows where
    made.__cause__ = error
    return made


def contained(work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
    """Do the work. Raises its errors, those that are no Exception as FastlocError: for threads, whose errors others wait for."""
    try:
        return work(*arguments, **more)
    except Exception:
        raise
    except BaseException as error:
        raise as_exception(error) from error
