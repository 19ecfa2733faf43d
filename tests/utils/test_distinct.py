"""A thing that is asked twice is computed once, and answered in each place."""

from __future__ import annotations

import numpy as np

from fastloc.utils.distinct import Distinct, distinct, distinct_rows


def test_distinct_keys() -> None:
    assert distinct("abc") is None and distinct("") is None
    assert distinct("abcab") == Distinct([0, 1, 2], [0, 1, 2, 0, 1])


def test_rows_by_their_bytes() -> None:
    rows = np.float32([[1, 2], [3, 4], [1, 2]])
    assert distinct_rows(rows) == Distinct([0, 1], [0, 1, 0])
    assert distinct_rows(rows[:2]) is None and distinct_rows(rows[:1]) is None
    # of one bit
    assert distinct_rows(np.float32([[1], [np.nextafter(np.float32(1), np.float32(2))]])) is None
