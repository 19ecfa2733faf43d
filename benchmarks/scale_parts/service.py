"""`fastloc serve` and the naive handler under one client to many: throughput, times, queue, refusals, memory."""

import asyncio
import io
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scale_parts import pictures
from scale_parts.budget import Budget, rounds
from scale_parts.growth import WARM, slope
from scale_parts.load import Asked, answer_of, load
from scale_parts.processes import FASTLOC, CommandError, Memory, last_line, started

Row = dict[str, Any]
HERE = Path(__file__).parent
CLIENTS = (1, 4, 16, 64)
TEXTS, DISTINCT = 3, 12
# seconds until a server answers
START = 120.0
_ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|localhost|0\.0\.0\.0):(\d+)")


@dataclass(frozen=True)
class Server:
    """A row of the table: `part` is the name it is chosen by."""

    name: str
    part: str
    command: tuple[Any, ...]
    # it says at /metrics what waits and how large its batches are
    watched: bool = False
    # numbers of clients, where it is not asked by all of them
    clients: tuple[int, ...] = ()


SERVERS = (
    Server("fastloc serve", "serve", (*FASTLOC, "serve", "--port", 0), watched=True),
    # fewer than the most clients, so that some are refused
    Server("fastloc serve, queue 16", "serve", (*FASTLOC, "serve", "--port", 0, "--queue", 16), watched=True, clients=CLIENTS[-1:]),
    Server("naive, in the loop", "naive", (sys.executable, "-P", HERE / "naive_app.py")),
    Server("naive, in threads", "naive", (sys.executable, "-P", HERE / "naive_app.py", "--threads")),
)


def run(parts: Sequence[str], seconds: float, budget: Budget, folder: Path, clients: Sequence[int] = CLIENTS) -> Iterator[Row]:
    """A row a server, round and number of clients. Servers take turns; each is started afresh."""
    folder.mkdir(parents=True)
    texts, asked = pictures.texts(TEXTS), requests(folder)
    for number, server in rounds([each for each in SERVERS if each.part in parts], budget):
        head = {"part": server.part, "contender": server.name, "model": "embedded", "weights": "trained", "round": number, "texts": TEXTS,
                "picture": list(pictures.REQUEST)}  # fmt: skip
        log = folder / "server.log"
        try:
            with served(server, log) as (url, process):
                for count in server.clients or clients:
                    with Memory(process) as memory:
                        row = asyncio.run(load(url, count, seconds, asked, texts, server.watched))
                    yield {**head, **row, "peak_mb": memory.peak_mb}
        except CommandError as error:
            yield {**head, "failed": str(error)}


def soak(seconds: float, folder: Path) -> Iterator[Row]:
    """One row: a service under the most clients for long, every answer checked, and the slope of its memory in MB a minute."""
    folder.mkdir(parents=True)
    server, texts, asked = SERVERS[0], pictures.texts(TEXTS), requests(folder)
    head = {"part": "soak", "contender": server.name, "model": "embedded", "weights": "trained", "round": 0, "texts": TEXTS,
            "picture": list(pictures.REQUEST)}  # fmt: skip
    try:
        with served(server, folder / "server.log") as (url, process), Memory(process) as memory:
            row = asyncio.run(load(url, CLIENTS[-1], seconds, asked, texts, server.watched))
    except CommandError as error:
        yield {**head, "failed": str(error)}
        return
    kept = memory.samples[int(WARM * len(memory.samples)) :]
    minutes, mb = (np.array([each[axis] for each in kept]) for axis in (0, 1))
    yield {**head, **row, **slope("memory", minutes / 60, mb), "peak_mb": memory.peak_mb}


def requests(folder: Path) -> list[Asked]:
    """Pictures as JPEG, and what a localizer in this process answers to each."""
    from fastloc.engine.localizer import Localizer

    localizer, found = Localizer(), []
    for path in pictures.write(folder / "requests", DISTINCT, pictures.REQUEST, DISTINCT):
        content = path.read_bytes()
        found.append(Asked(content, answer_of(localizer(Image.open(io.BytesIO(content)), pictures.texts(TEXTS)).to_dict())))
    return found


@contextmanager
def served(server: Server, log: Path) -> Iterator[tuple[str, int]]:
    """A server's address and process, once it says where it listens. Raises CommandError if it ends or takes too long."""
    log.unlink(missing_ok=True)
    with started(server.command, log) as process:
        until = time.monotonic() + START
        while not (address := _ADDRESS.search(log.read_text(encoding="utf-8", errors="replace"))):
            if process.poll() is not None or time.monotonic() > until:
                raise CommandError(f"{server.name} did not start: {last_line(log)}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{address[1]}", process.pid
