"""The rows of two runs in pairs of one picture each, without holding them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

from fastloc.errors import FastlocError
from fastloc.evaluation import rows
from fastloc.evaluation.rows import Row

__all__ = ["RowPairs", "read_rows"]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, one after the other, without a last line that is not whole. Raises FastlocError: not readable, or damaged."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield rows.decoded(line, f"{path}:{number} is damaged")
    except OSError as error:
        raise FastlocError(f"{path} cannot be read: {error.strerror or error}") from error


class RowPairs:
    """Pairs of rows of one key, both without an error; `pictures` and `alone`, the rest of each side, count while they are read.

    What waits for its other half is held: nothing where both sides have the same order.
    """

    def __init__(self, first: Iterable[Row], second: Iterable[Row]) -> None:
        self._sides = (first, second)
        self.pictures, self.alone = 0, [0, 0]

    def __iter__(self) -> Iterator[tuple[Row, Row]]:
        waiting: tuple[dict[str, Row], dict[str, Row]] = ({}, {})
        for both in zip_longest(*self._sides):
            for side, row in enumerate(both):
                if row is None:
                    continue
                if row.key not in waiting[1 - side]:
                    waiting[side][row.key] = row
                    continue
                other = waiting[1 - side].pop(row.key)
                yield from self._pair((other, row) if side else (row, other))
        for side, rest in enumerate(waiting):
            self.alone[side] += sum(not row.error for row in rest.values())

    def _pair(self, both: tuple[Row, Row]) -> Iterator[tuple[Row, Row]]:
        errors = [bool(row.error) for row in both]
        if not any(errors):
            self.pictures += 1
            yield both
        elif not all(errors):
            self.alone[errors.index(False)] += 1
