"""The lines of a parser that inputs have reached: a trace of its own modules, which is dropped for functions that are known whole."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

__all__ = ["Lines"]

# a trace makes a parser several times slower: after so many inputs without a new line, one in so many is traced
PATIENCE, EVERY = 300, 8


class Lines:
    """Lines of these modules that run between `begin` and `end`.

    Attributes:
        seen: (file, line) of each that has run
        known: (file, line) of each line inside a function
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.seen: set[tuple[str, int]] = set()
        self.known: set[tuple[str, int]] = set()
        self._left: dict[CodeType, set[int]] = {}
        self._count = self._last = self._before = 0
        for name in modules:
            found = importlib.util.find_spec(name)
            if found is None or found.origin is None:
                raise ValueError(f"covers must name modules, got {name!r}")
            with open(found.origin, "rb") as file:
                whole = compile(file.read(), found.origin, "exec")
            # what runs once, at the import, is no part of a parser
            self.known |= {(found.origin, line) for code in _functions(whole) for line in _lines(code)}
        self._files = {file for file, _ in self.known}

    def begin(self) -> int:
        """Start the trace, if this input has one; returns the count of lines so far."""
        if len(self.seen) != self._before:
            self._before, self._last = len(self.seen), self._count
        if self._count - self._last < PATIENCE or self._count % EVERY == 0:
            sys.settrace(self._enter)
        self._count += 1
        return len(self.seen)

    def end(self) -> None:
        """Stop the trace."""
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        left = self._left.get(code)
        if left is None:
            left = self._left[code] = set(_lines(code)) if code.co_filename in self._files else set()
        return self._line if left else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            left = self._left[frame.f_code]
            if frame.f_lineno in left:
                left.discard(frame.f_lineno)
                self.seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


def _functions(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            # the body of a class runs at the import too
            if each.co_flags & 2:
                yield each
            yield from _functions(each)


def _lines(code: CodeType) -> Iterator[int]:
    yield from {line for *_, line in code.co_lines() if line is not None and line != code.co_firstlineno}
