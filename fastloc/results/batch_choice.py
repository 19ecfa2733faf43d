"""The number of pictures that go through a model at once, found by measuring it on the work itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.errors import FastlocError
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import exhausted

if TYPE_CHECKING:
    from PIL import Image

    from fastloc.results.base_localizer import BaseLocalizer

__all__ = ["AUTO", "SAMPLE", "BatchChoice", "choose_batch", "find_batch", "fixed_batch"]

AUTO = "auto"
LARGEST = 64
# the search begins no new measurement after so many seconds, and repeats none more than so often
SECONDS, ROUNDS = 6.0, 5
# a larger batch has to be worth more than the scatter of a few timings
WITHIN = 0.03
# sizes one after the other that bring nothing, after which no larger one is tried
FUTILE = 2
# share of the free memory that the next size may need by the growth so far
SHARE = 0.5
# pictures that sizes are measured on
SAMPLE = 8


@dataclass(frozen=True)
class BatchChoice:
    """A chosen number of pictures a call. rates: pictures a second of each number that was measured. why: the reason, in one line."""

    batch: int
    rates: Mapping[int, float]
    why: str

    def __str__(self) -> str:
        return f"batch {self.batch}: {self.why}"


def find_batch(
    work: Callable[[int], int], *, largest: int = LARGEST, seconds: float = SECONDS, clock: Callable[[], float] = time.perf_counter,
    memory: Callable[[], tuple[int, int] | None] | None = None,
) -> BatchChoice:  # fmt: skip
    """The smallest of 1, 2, 4 … pictures a call whose pictures a second are within 3 % of the best.

    Sizes double until two in a row bring nothing, the time is over, or the next one may not fit into memory; then those that were tried are
    measured again in turns while there is time, and the best time of each counts.

    Args:
        work: does the work with so many pictures a call, and returns the number of pictures that it worked on.
        largest: the most pictures a call.
        seconds: after which nothing more is measured.
        clock: seconds.
        memory: bytes that the process has needed at most, and bytes that are free; None where they are not known.

    Raises what `work` raises for one picture; a larger size that fails is not chosen.
    """
    memory = memory or _memory
    begun, before = clock(), memory()
    # what is built at the first call is not measured
    work(1)
    rates: dict[int, float] = {}
    end, size = f"{largest} is the most", 1
    while size <= largest:
        if size > 1 and not _fits(before, memory()):
            end = f"{size} may not fit into memory"
            break
        try:
            for _ in range(2):
                _measure(rates, work, size, clock)
                if clock() - begun > seconds:
                    break
        except (FastlocError, MemoryError, RuntimeError) as error:
            if size == 1 or not (isinstance(error, FastlocError) or exhausted(error)):
                raise
            rates.pop(size, None)
            end = f"{size} failed ({first_line(error)})"
            break
        if clock() - begun > seconds:
            end = f"{seconds:g} s are over"
            break
        if _futile(rates):
            end = "larger ones bring nothing"
            break
        size *= 2
    for _ in range(ROUNDS):
        for each in rates:
            if clock() - begun > seconds:
                break
            _measure(rates, work, each, clock)
    chosen = _knee(rates)
    sizes, values = (" · ".join(each) for each in zip(*((str(n), f"{rate:.3g}") for n, rate in rates.items()), strict=True))
    return BatchChoice(chosen, rates, f"{sizes} a call: {values} pictures/s, the smallest within {WITHIN:.0%} of the best; {end}")


def choose_batch(localizer: BaseLocalizer[Any], pictures: Sequence[Image.Image], texts: Any) -> BatchChoice:
    """Choose and set a localizer's `batch` by measuring it on the first `SAMPLE` RGB pictures, with texts in the localizer's own form.

    An exported file of a fixed batch keeps it.
    """
    before, usable = localizer.batch, list(pictures[:SAMPLE])
    if (fixed := fixed_batch(localizer)) is not None:
        return fixed
    if not usable:
        localizer.batch = 1
        return BatchChoice(1, {}, "no picture to measure on")

    def work(size: int) -> int:
        localizer.batch = size
        localizer.locate(list(islice(cycle(usable), size)), texts, [""] * size)
        return size

    try:
        found = find_batch(work)
    except BaseException:
        localizer.batch = before
        raise
    localizer.batch = found.batch
    return found


def fixed_batch(localizer: Any) -> BatchChoice | None:
    """The batch of an exported file that takes one number of pictures; None of all others."""
    manifest = getattr(localizer, "manifest", None)
    if manifest is None or manifest.input.batch is None:
        return None
    return BatchChoice(manifest.input.batch, {}, f"{localizer.path} takes no other; `fastloc export --batch dynamic` writes one that does")


def _measure(rates: dict[int, float], work: Callable[[int], int], size: int, clock: Callable[[], float]) -> None:
    start = clock()
    count = work(size)
    rates[size] = max(rates.get(size, 0.0), count / max(clock() - start, 1e-9))


def _futile(rates: Mapping[int, float]) -> bool:
    """True if the last sizes were no better than the best before them."""
    values = list(rates.values())
    return len(values) > FUTILE and max(values[-FUTILE:]) <= (1 + WITHIN) * max(values[:-FUTILE])


def _knee(rates: Mapping[int, float]) -> int:
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= (1 - WITHIN) * best)


def _fits(before: tuple[int, int] | None, now: tuple[int, int] | None) -> bool:
    """True where twice of what has been needed since the beginning is at hand, and where nothing is known."""
    return before is None or now is None or 2 * (now[0] - before[0]) <= SHARE * now[1]


def _memory() -> tuple[int, int] | None:
    """Bytes that this process has held at most, and bytes that it can still have, in its container too; None outside Linux."""
    try:
        held, free = (_field(Path(path), name) for path, name in (("/proc/self/status", "VmHWM:"), ("/proc/meminfo", "MemAvailable:")))
    except (OSError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    # "max" is no number: no limit
    with suppress(OSError, ValueError):
        free = min(free, max(int((group / "memory.max").read_text("utf-8")) - int((group / "memory.current").read_text("utf-8")), 0))
    return held, free


def _field(path: Path, name: str) -> int:
    """A line of the kernel's, such as "VmHWM: 12 kB", in bytes."""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise ValueError(name)
