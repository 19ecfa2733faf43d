"""Check of resources that should stay flat: slopes over time with their errors, of memory, threads and files of this process."""

import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
Floats = NDArray[np.float64]
PAGE = os.sysconf("SC_PAGE_SIZE")


def held() -> dict[str, float]:
    """Resources of this process now: resident memory in MB, memory blocks of Python objects, threads and open files.

    Blocks are counted behind a collection: it also empties the lists of free tuples and the like, which fill for minutes and are no leak.
    """
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * PAGE / 1e6
    return {"rss_mb": resident, "blocks": float(sys.getallocatedblocks()), "threads": float(threading.active_count()),
            "files": float(len(os.listdir("/proc/self/fd")))}  # fmt: skip


class Trend:
    """Values over time, in seconds. Its memory is allocated at the beginning, or it would itself be the growth."""

    def __init__(self, room: int = 1 << 16) -> None:
        self._held, self._count = np.ones((2, room)), 0

    @property
    def times(self) -> Floats:
        return self._held[0, : self._count]

    @property
    def values(self) -> Floats:
        return self._held[1, : self._count]

    def add(self, time: float, value: float) -> None:
        if self._count == self._held.shape[1]:
            self._held = np.concatenate([self._held, np.ones_like(self._held)], axis=1)
        self._held[:, self._count] = time, value
        self._count += 1

    def fields(self, name: str, warm: float, until: float = np.inf) -> Row:
        """After the first `warm` seconds, and up to a time: the slope in units a minute with its standard error, and what the values are.

        The error is that of twenty means of stretches of equal length, since values near each other are alike.
        """
        times, values = self.times, self.values
        kept = (times >= times[0] + warm) & (times <= until) if len(times) else np.zeros(0, bool)
        times, values = times[kept], values[kept]
        if len(times) < 3:
            return {name: None}
        count = min(20, len(times))
        parts = list(zip(np.array_split(times, count), np.array_split(values, count), strict=True))
        slope, error = sloped(np.array([part[0].mean() for part in parts]), np.array([part[1].mean() for part in parts]))
        return {name: float(np.median(values)), f"{name}_slope": 60 * slope, f"{name}_slope_error": 60 * error,
                f"{name}_first": float(values[0]), f"{name}_last": float(values[-1]), f"{name}_most": float(values.max())}  # fmt: skip


def sloped(times: Any, values: Any) -> tuple[float, float]:
    """Slope of the least squares line, and its standard error."""
    x = times - times.mean()
    width = float((x**2).sum())
    slope = float((x * (values - values.mean())).sum()) / width
    rest = values - values.mean() - slope * x
    return slope, float(np.sqrt((rest**2).sum() / max(len(x) - 2, 1) / width))


class Watch:
    """Takes down what the process holds, from time to time, by a thread of its own.

    What there is at its beginning is put out of the collector's sight meanwhile, so that a collection takes a moment and not a second.
    """

    def __init__(self, every: float = 1.0) -> None:
        self.every, self.trends = every, {name: Trend(1 << 12) for name in held()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            now, values = time.monotonic(), held()
            for name, value in values.items():
                self.trends[name].add(now, value)

    def __enter__(self) -> "Watch":
        gc.collect()
        gc.freeze()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        gc.unfreeze()

    def fields(self, warm: float, until: float = np.inf) -> Row:
        """`Trend.fields` of all that is held."""
        return {key: value for name, trend in self.trends.items() for key, value in trend.fields(name, warm, until).items()}
