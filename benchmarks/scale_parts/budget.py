"""Time that parts share: each takes its part of what is left, and what one leaves over is the next one's."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Job = TypeVar("Job")


class Budget:
    """Seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._until - time.monotonic()

    def share(self, part: float, of: float) -> "Budget":
        """A part's share of the time left, where the parts to come count `of` in all."""
        return Budget(max(self.left, 0.0) * part / of)


def rounds(jobs: Sequence[Job], budget: Budget, most: int = 9) -> Iterator[tuple[int, Job]]:
    """(round, job): all jobs once, in turns, then again while what one took last time is left of the budget."""
    took: dict[int, float] = {}
    for number in range(most):
        for index, job in enumerate(jobs):
            if number and budget.left < took[index]:
                continue
            began = time.monotonic()
            yield number, job
            took[index] = time.monotonic() - began
        if budget.left < min(took.values(), default=0.0):
            return
