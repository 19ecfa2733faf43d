"""Memory and time of `fastloc batch` over very many small pictures: slopes with their errors, after a warm-up.

A run that is stopped by its time has done the pictures of its finished shards, whose number is in the row.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scale_parts import pictures
from scale_parts.processes import FASTLOC, CommandError, Memory, end, last_line, started
from scale_parts.throughput import committed, content
from video_parts.flat import sloped

Row = dict[str, Any]
PICTURES, SHARD, BATCH, TEXTS = 100_000, 256, 16, 2
# of the samples, that are left out at the beginning, and parts whose means the slope is drawn through
WARM, MEANS = 0.2, 20


def run(seconds: float, folder: Path, count: int = PICTURES, shard: int = SHARD) -> Iterator[Row]:
    """One row. It ends when all pictures are done, or after `seconds`."""
    folder.mkdir(parents=True)
    files, out, log = folder / "pictures", folder / "out", folder / "batch.log"
    pictures.write(files, count, pictures.SMALL)
    head = {"part": "growth", "contender": "one process", "model": "embedded", "weights": "trained", "round": 0, "texts": TEXTS,
            "batch": BATCH, "shard": shard, "picture": list(pictures.SMALL), "of": count}  # fmt: skip
    command = [*FASTLOC, "batch", files, "-t", *pictures.texts(TEXTS), "-o", out, "--batch", BATCH, "--shard", shard]
    began = time.time()
    with started(command, log) as process, Memory(process.pid) as memory:
        while process.poll() is None and time.time() - began < seconds:
            time.sleep(0.2)
        status = process.poll()
        end(process)
    if status:
        yield {**head, "failed": str(CommandError(f"exit status {status}: {last_line(log)}"))}
        return
    times = [each - began for each in committed(out)]
    yield {**head, "wall_s": time.time() - began, "complete": status == 0, **content(out), **slopes(times, shard, memory.samples),
           "peak_mb": memory.peak_mb}  # fmt: skip


def slopes(times: Sequence[float], shard: int, samples: Sequence[tuple[float, float]]) -> Row:
    """Slopes of memory, MB over 1000 pictures, and of a shard's time, percent over 1000 pictures, with standard errors.

    Args:
        times: seconds at which shards were committed, in order.
        samples: (seconds, MB).
    """
    done = shard * np.arange(1, len(times) + 1)
    row: Row = {"pictures": int(done[-1]) if len(times) else 0}
    if len(times) < 6:
        return row
    first = int(WARM * len(times))
    kept = [(float(np.interp(at, times, done)), mb) for at, mb in samples if times[first] <= at <= times[-1]]
    took = np.diff(times)[first:]
    row |= {"rate": shard / float(np.median(took)), **slope("shard_time", done[1:][first:] / 1000, 100 * took / np.median(took))}
    if len(kept) >= 3:
        row |= slope("memory", np.array([at for at, _ in kept]) / 1000, np.array([mb for _, mb in kept]))
    return row


def slope(name: str, x: Any, y: Any) -> Row:
    """Slope of means of stretches: values near each other are alike, and the error of single ones would be too small."""
    count = min(MEANS, len(x))
    means = [np.array([part.mean() for part in np.array_split(np.asarray(each, float), count)]) for each in (x, y)]
    found, error = sloped(*means)
    return {f"{name}_slope": found, f"{name}_slope_error": error, f"{name}_first": float(means[1][0]), f"{name}_last": float(means[1][-1])}
