"""The main figure of a run in progress, without intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastloc.evaluation.metrics.measures import MEASURES, main_measure
from fastloc.evaluation.metrics.summary import sums_of
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.rows import Row

__all__ = ["Tally"]


class Tally:
    """Counts rows as they come. classes: names, () of free phrases; protocol: that the rows are judged under."""

    def __init__(self, classes: Sequence[str], protocol: Protocol) -> None:
        self.protocol = protocol
        self.rows = self.failed = 0
        self._sums = sums_of(protocol.task, len(classes))
        self._total = np.zeros(self._sums.width)

    def add(self, row: Row) -> None:
        """Count one picture. Raises FastlocError for a label that is no class."""
        self.rows += 1
        self.failed += bool(row.error)
        if not row.error:
            self._total += self._sums.of(row)

    def __str__(self) -> str:
        """The figure in words, such as "mIoU 43.1", or "" where nothing is counted yet."""
        figures = {name: float(value) for name, value in self._sums.figures(self._total).items() if not np.isnan(value)}
        name = main_measure(self.protocol.task, self.protocol.absent, self.protocol.threshold, set(figures))
        return f"{MEASURES[name].title} {100 * figures[name]:.1f}" if name else ""
