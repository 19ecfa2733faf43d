"""The main figure of a run while it goes on, without intervals."""

from __future__ import annotations

import numpy as np

from fastloc.evaluation.rows import Row

__all__ = ["Tally"]

# the measure of questions that is shown, the first of these that there is
_MEASURES = ("iou", "hit", "auc")


class Tally:
    """Counts rows as they come. classes: how many labels there are."""

    def __init__(self, classes: int) -> None:
        self.rows = self.failed = 0
        # true and predicted pixels together, and those that are both
        self._either, self._both = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        self._measure, self._sum, self._answers = "", 0.0, 0

    def add(self, row: Row) -> None:
        """Count one picture."""
        self.rows += 1
        self.failed += bool(row.error)
        for true, predicted, pixels in row.counts:
            self._either[true] += pixels
            if true == predicted:
                self._both[true] += pixels
            elif predicted >= 0:
                self._either[predicted] += pixels
        for answer in row.answers:
            self._measure = self._measure or next((name for name in _MEASURES if name in answer.measures), "")
            if self._measure in answer.measures:
                self._sum += answer.measures[self._measure]
                self._answers += 1

    def __str__(self) -> str:
        """Such as "mIoU 43.1", or "" where nothing is counted yet."""
        if (seen := self._either > 0).any():
            return f"mIoU {100 * float((self._both[seen] / self._either[seen]).mean()):.1f}"
        return f"{self._measure} {self._sum / self._answers:.3f}" if self._answers else ""
