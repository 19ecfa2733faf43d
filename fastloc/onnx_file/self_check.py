"""Self-check: a random share of a program's calls is answered again by another plan, and a difference beyond rounding is reported.

`fastloc verify` runs inputs that it knows, once; this runs while a program works, on what it is asked. The room of a runtime supplies the
other plan (`fastloc.engine.self_check.second_plan`, `fastloc.runtime.second_session`); the limits are those of goldens.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, ModelError, unknown, warn
from fastloc.onnx_file.golden import LEAST_AGREEMENT, MAP_TOLERANCES, TOLERANCES, Golden, OutputComparison, Sample, compare
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.schema import first_line

__all__ = ["LIMITS", "TENTH", "Limits", "SelfCheck", "share_of", "size_of"]

Array = NDArray[Any]
Outputs = Mapping[str, Array]

# the share of calls that are checked where no other is given
TENTH = 0.1
# of a check alone: an input that nothing makes again
_NO_GOLDEN = Golden(0, 1, (1, 1), 0, {})


@dataclass(frozen=True)
class Limits:
    """The largest distance of two plans of one dtype: of similarities and cosines, of heatmaps on average, the share of other labels."""

    similarity: float
    heatmaps: float
    labels: float


LIMITS = {dtype: Limits(TOLERANCES[dtype], MAP_TOLERANCES[dtype], 1 - LEAST_AGREEMENT[dtype]) for dtype in TOLERANCES}
LIMITS["float64"] = LIMITS["float32"]
# three bits fewer than float16
LIMITS["bfloat16"] = Limits(8 * LIMITS["float16"].similarity, 8 * LIMITS["float16"].heatmaps, 8 * LIMITS["float16"].labels)


def share_of(value: float | bool | None) -> float:
    """The share of calls to check: 0 for None, False and 0, a tenth for True. Raises FastlocError for what is no share."""
    if value is None or value is False:
        return 0.0
    if value is True:
        return TENTH
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise FastlocError(f"self_check must be a share of the calls from 0 to 1, or True for {TENTH}, got {value!r}; False leaves it off")
    return float(value)


class SelfCheck:
    """Draws calls at random, compares their outputs with another plan's, and counts. Threads may share it.

    The first difference beyond the limit, and the first call that the other plan cannot answer, give a FastlocWarning each; all count.

    Args:
        share: of the calls that are drawn, above 0 and at most 1.
        method: the method's name, for the warning.
        dtype: of the checked plan, a key of `LIMITS`.
        score: the recipe's read-out. A "relevance" has no unit, and as a share of a softmax its size is steeper than half precision: the
            mean error of its maps counts, each over its own largest value.
        seed: of the draw; None for another draw in every process.

    Raises FastlocError for another dtype.

    Attributes:
        calls, checked, different, unanswered: numbers of calls, of those that were answered again, of those that differ by more than the
            limit, and of those that the other plan could not answer
        largest: the largest error, in multiples of its limit
        listener: called after each comparison with True where the two agree; a service counts so
    """

    def __init__(self, share: float, method: str, dtype: str, score: str = "cosine", seed: int | None = None) -> None:
        if dtype not in LIMITS:
            raise FastlocError(unknown("dtype", dtype, LIMITS))
        self.share, self.method, self.dtype, self.score = share, method, dtype, score
        self.calls = self.checked = self.different = self.unanswered = 0
        self.largest = 0.0
        self.listener: Callable[[bool], None] | None = None
        self._random = random.Random(seed)
        self._lock = renewed_after_fork(threading.Lock())

    def drawn(self) -> bool:
        """Count a call; True if it is one of those to check."""
        with self._lock:
            self.calls += 1
            return self._random.random() < self.share

    def index(self, count: int) -> int:
        """One of `count` pictures, at random."""
        with self._lock:
            return self._random.randrange(count)

    def again(self, found: Callable[[], Outputs], other: Callable[[], Outputs]) -> None:
        """Compare the outputs of a call with the other plan's, arrays by name: float32, or uint8 labels.

        What goes wrong in the other plan is counted and warned of; the call itself has its answer.
        """
        try:
            expected = other()
            outputs = found()
        # a device out of memory is a RuntimeError
        except (FastlocError, RuntimeError, MemoryError) as failure:
            with self._lock:
                self.unanswered += 1
                first = self.unanswered == 1
            if first:
                self._warn(f"self-check: the other plan cannot answer a call of method {self.method!r} ({first_line(failure)})")
            return
        error, limit, output = max(self._errors(outputs, expected), key=lambda each: each[0] / each[1], default=(0.0, 1.0, ""))
        equal = error <= limit
        with self._lock:
            self.checked += 1
            self.different += not equal
            self.largest = max(self.largest, error / limit)
            first = not equal and self.different == 1
        if self.listener is not None:
            self.listener(equal)
        if first:
            self._warn(
                f"self-check: {output} of method {self.method!r}, {size_of(outputs)}, is off by {error:.1e} from another plan's, and "
                f"{limit:.0e} is allowed for {self.dtype}; results of this device may be wrong: `fastloc verify` and `fastloc doctor` look "
                "for the reason"
            )

    def describe(self) -> dict[str, Any]:
        """The settings and the counts as plain data for JSON."""
        names = ("share", "method", "dtype", "calls", "checked", "different", "unanswered", "largest")
        with self._lock:
            found = {name: getattr(self, name) for name in names}
        # JSON has no infinity
        return found | {"largest": found["largest"] if math.isfinite(found["largest"]) else None, "limit": LIMITS[self.dtype].similarity}

    def __str__(self) -> str:
        """One line of the counts."""
        found = self.describe()
        more = f", {found['unanswered']} could not be answered again" if found["unanswered"] else ""
        worst = "NaN" if found["largest"] is None else f"{found['largest']:.1%} of the limit for {self.dtype}"
        return (
            f"self-check of {self.method}: {found['checked']} of {found['calls']} calls were answered again by another plan{more}; "
            f"{found['different']} differ (largest difference {worst})"
        )

    def _errors(self, found: Outputs, expected: Outputs) -> Iterator[tuple[float, float, str]]:
        """(error, limit, output) of each output; an infinite error where the two cannot be compared."""
        limits = LIMITS[self.dtype]
        try:
            rows = compare_outputs(found, expected)
        except ModelError:
            yield math.inf, limits.similarity, "similarity"
            return
        for row in rows:
            if row.output == "labels":
                yield 1 - (row.agreement or 0.0), limits.labels, row.output
            elif row.output == "heatmaps":
                yield row.mean_error or 0.0, limits.heatmaps, row.output
            elif row.output == "similarity" and self.score == "relevance":
                apart = np.abs(_by_largest(found[row.output]) - _by_largest(expected[row.output])).mean()
                yield float(apart), limits.similarity, row.output
            else:
                yield row.max_error or 0.0, limits.similarity, row.output

    def _warn(self, text: str) -> None:
        warn(text, stacklevel=2)


def compare_outputs(found: Outputs, expected: Outputs) -> list[OutputComparison]:
    """The comparison of outputs by name with another plan's. Raises ModelError where one is missing, of another shape or not finite."""
    if not all(np.isfinite(each).all() for each in expected.values()):
        raise ModelError("outputs of the other plan must be finite, got NaN or infinite numbers")
    samples = {name: Sample.take(each if each.dtype == np.uint8 else each.astype(np.float32)) for name, each in expected.items()}
    return compare(Golden(**{**vars(_NO_GOLDEN), "outputs": samples}), found)


def _by_largest(maps: Array) -> Array:
    """Maps [B, T, h, w], each divided by its largest value, float64; maps of zeros stay."""
    values = maps.astype(np.float64)
    scaled: Array = values / np.maximum(np.abs(values).max((2, 3), keepdims=True), 1e-30)
    return scaled


def size_of(outputs: Outputs) -> str:
    """The size of a call for messages: "3 texts on a grid of 14 x 14"."""
    shape: Sequence[int] = outputs["similarity"].shape if "similarity" in outputs else ()
    return f"{shape[1]} texts on a grid of {shape[2]} x {shape[3]}" if len(shape) == 4 else "one picture"
