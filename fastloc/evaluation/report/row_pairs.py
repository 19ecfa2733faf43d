"""The rows of two runs in pairs of one picture each, without holding them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
    """Pairs of rows of one key, both without an error, in the order in which they are complete; each iteration reads them again.

    first, second: calls that give all rows of a run. alone: the number of pictures of each run without a pair in the last iteration. A row
    that waits for its other half is held in memory: none where both runs have the same order.
    """

    def __init__(self, first: Callable[[], Iterable[Row]], second: Callable[[], Iterable[Row]]) -> None:
        self._sides = (first, second)
        self.alone = (0, 0)

    def __iter__(self) -> Iterator[tuple[Row, Row]]:
        waiting: tuple[dict[str, Row], dict[str, Row]] = ({}, {})
        alone = [0, 0]
        for both in zip_longest(*(side() for side in self._sides)):
            for side, row in enumerate(both):
                if row is None:
                    continue
                if row.key not in waiting[1 - side]:
                    waiting[side][row.key] = row
                    continue
                other = waiting[1 - side].pop(row.key)
                if not row.error and not other.error:
                    yield (other, row) if side else (row, other)
                elif not (row.error and other.error):
                    alone[1 - side if row.error else side] += 1
        for side, rest in enumerate(waiting):
            alone[side] += sum(not row.error for row in rest.values())
        self.alone = (alone[0], alone[1])
