"""A MemoryError that nothing could raise is raised behind the block, and other errors are not."""

import sys
from collections.abc import Callable

import pytest

from fastloc.utils.system.unraised import memory_errors_raised


class Ending:
    """An object whose end raises, which Python prints and ignores."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def lost(error: Exception) -> None:
    ending = Ending(error)
    del ending


def also(error: Exception) -> Callable[[], None]:
    def work() -> None:
        lost(MemoryError())
        raise error

    return work


def test_lost_memory_errors() -> None:
    usual = sys.unraisablehook
    with pytest.raises(MemoryError), memory_errors_raised():
        lost(MemoryError())
    # what the library says in its place
    with pytest.raises(MemoryError) as caught, memory_errors_raised():
        also(RuntimeError("failed to load glyph"))()
    assert str(caught.value.__cause__) == "failed to load glyph" and sys.unraisablehook is usual


def test_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    with memory_errors_raised():
        lost(KeyError("x"))
    assert seen == [KeyError]
    with pytest.raises(RuntimeError, match="of ours"), memory_errors_raised():
        raise RuntimeError("of ours")
