"""Pictures a second over files of 1080p: the command in one process and with Ray's actors, the plain loop, the model on ready tensors.

Contenders take turns, each in a fresh process. Of a command three things are kept: the whole time; the steady rate, from the times at which
it committed its shards; and the start, which is what the whole time has beyond the pictures at the steady rate.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scale_parts import pictures
from scale_parts.budget import Budget, rounds
from scale_parts.models import MODELS, Model
from scale_parts.processes import FASTLOC, CommandError, Memory, checked, last_line, started

Row = dict[str, Any]
HERE = Path(__file__).parent
BATCH, SHARDS, TEXTS = 4, 8, 3
# pictures that a thread of `fastloc batch` works on at a time, and that a shard has for every core at least
WINDOW = 2 * BATCH
# what a decoding thread is taken to read when a run's length is chosen: pictures of 1080p a second
DECODED = 60.0
TIMEOUT = 300.0


@dataclass(frozen=True)
class Work:
    """The work that all contenders of a model get."""

    model: Model
    folder: Path
    files: Path
    count: int
    shard: int
    seconds: float

    @property
    def texts(self) -> list[str]:
        return pictures.texts(TEXTS)


@dataclass(frozen=True)
class Contender:
    """A row of the table: `part` is the name it is chosen by."""

    name: str
    part: str
    run: Callable[[Work], Row]


def batch(work: Work, actors: int = 0) -> Row:
    """`fastloc batch`, its rows counted."""
    out = work.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [*FASTLOC, "batch", work.files, "-t", *work.texts, "-o", out, *work.model.arguments, "--batch", BATCH, "--shard", work.shard,
               *(["--ray", "--actors", actors] if actors else [])]  # fmt: skip
    row = _timed(command, work.folder / "batch.log")
    parts = committed(out)
    row |= {"pictures": work.count, "shard": work.shard, **rate(parts, work.shard, max(actors, 1)), **content(out)}
    expected = work.count * len(work.texts)
    if row["rows"] != expected:
        raise CommandError(f"{row['rows']} rows of {expected}")
    return _with_start(row)


def plain(work: Work) -> Row:
    """The plain loop."""
    command = [sys.executable, "-P", HERE / "plain_loop.py", work.files, work.folder / "plain.jsonl", "--model", work.model.name,
               "--size", *work.model.input, "--seconds", work.seconds, "-t", *work.texts]  # fmt: skip
    return _with_start(_row_of(command, work.folder / "plain.log"))


def ready(work: Work) -> Row:
    """The model on ready tensors."""
    tag = ["--pretrained", work.model.pretrained] if work.model.pretrained else []
    command = [sys.executable, "-P", HERE / "ready.py", "--model", work.model.name, *tag, "--size", *work.model.input, "--batch", BATCH,
               "--seconds", work.seconds, "-t", *work.texts]  # fmt: skip
    return _row_of(command, work.folder / "ready.log")


CONTENDERS = (
    Contender("one process", "process", batch),
    Contender("Ray, 1 actor", "ray", lambda work: batch(work, 1)),
    Contender("Ray, 2 actors", "ray", lambda work: batch(work, 2)),
    Contender("plain loop", "loop", plain),
)
ALONE = Contender("model alone", "process", ready)
# of the time: what the model bounds says more of batch and Ray
SHARES = {"ViT-B-16": 0.65, "embedded": 0.35}


def run(parts: Sequence[str], seconds: float, budget: Budget, folder: Path, models: Mapping[str, float] = SHARES) -> Iterator[Row]:
    """Rows of every contender of the chosen parts, round after round; a failure is a row with its reason.

    models: name -> its share of the time.
    """
    left = sum(models.values())
    for name, share in models.items():
        mine = budget.share(share, left)
        left -= share
        yield from _run(MODELS[name], parts, seconds, mine, folder / name)


def _run(model: Model, parts: Sequence[str], seconds: float, budget: Budget, folder: Path) -> Iterator[Row]:
    folder.mkdir(parents=True)
    work = Work(model, folder, folder / "pictures", 0, 0, seconds)
    # its rate decides the number of pictures of the others
    first = _row(ALONE, work, 0)
    yield first
    if "failed" in first:
        return
    shard = shard_size(first["steady"], seconds)
    work = replace(work, count=SHARDS * shard, shard=shard)
    pictures.write(work.files, work.count, pictures.FULL_HD)
    jobs = [*(each for each in CONTENDERS if each.part in parts), ALONE]
    for number, each in rounds(jobs, budget):
        if number or each is not ALONE:
            yield _row(each, work, number)


def _row(contender: Contender, work: Work, number: int) -> Row:
    model = work.model
    head = {"part": contender.part, "contender": contender.name, "model": model.name, "weights": model.weights, "round": number,
            "height": model.input[0], "width": model.input[1], "texts": TEXTS, "batch": BATCH,
            "picture": list(pictures.FULL_HD)}  # fmt: skip
    try:
        return {**head, **contender.run(work)}
    except CommandError as error:
        return {**head, "failed": str(error)}


def shard_size(model_rate: float, seconds: float) -> int:
    """Pictures of a shard, as many windows as there are cores or a multiple, so that SHARDS of them take about this long."""
    unit = WINDOW * (os.cpu_count() or 1)
    return max(unit, round(min(model_rate, DECODED) * seconds / SHARDS / unit) * unit)


def _timed(command: Sequence[Any], log: Path) -> Row:
    log.unlink(missing_ok=True)
    began = time.monotonic()
    with started(command, log) as process, Memory(process.pid) as memory:
        checked(process, log, TIMEOUT)
    return {"wall_s": time.monotonic() - began, "peak_mb": memory.peak_mb}


def _row_of(command: Sequence[Any], log: Path) -> Row:
    """Row of a script that prints its part of the row as JSON."""
    row = _timed(command, log)
    return {**row, **json.loads(last_line(log))}


def committed(out: Path) -> list[float]:
    """Times at which the finished shards were written, in order."""
    return sorted(path.stat().st_mtime for path in (out / "rows").glob("part-*.parquet"))


def rate(times: Sequence[float], shard: int, workers: int = 1) -> Row:
    """Pictures a second from the moment when every worker has done a shard until the last one is done."""
    if len(times) <= workers:
        return {"steady": None, "commits": len(times)}
    return {"steady": (len(times) - workers) * shard / (times[-1] - times[workers - 1]), "commits": len(times)}


def content(out: Path) -> Row:
    """Rows, their bytes, and the digest of the files: one process and many actors write the same."""
    from pyarrow import parquet

    digest, rows, size = hashlib.sha256(), 0, 0
    for path in sorted((out / "rows").glob("part-*.parquet")):
        digest.update(path.read_bytes())
        rows += parquet.ParquetFile(path).metadata.num_rows
        size += path.stat().st_size
    return {"rows": rows, "row_bytes": size, "rows_sha256": digest.hexdigest()[:16]}


def _with_start(row: Row) -> Row:
    if row["steady"]:
        row["start_s"] = row["wall_s"] - row["pictures"] / row["steady"]
    return row
