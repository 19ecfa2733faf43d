"""The child of one target: it runs input after input, measures each, and tells its end."""

from __future__ import annotations

import ctypes
import os
import resource
import time
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fastloc.errors import FastlocError
from fuzzing.lines import Lines
from fuzzing.target import Target

__all__ = ["Outcome", "main"]

# characters of a message; bytes that a library may print; warnings of one input
LINE, PRINTED, WARNINGS = 1000, 2000, 3
MEBI = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """The end of one input.

    Attributes:
        kind: "ok", "refused", or the fault: "raw", "lines", "memory", "flood", "hang", "died"
        what: the message or the fault
        place: the line of code that a fault comes from
        seconds, peak: time, and resident bytes above those before
        news: lines of the parser that no input before has reached
    """

    kind: str
    what: str = ""
    place: str = ""
    seconds: float = 0.0
    peak: int = 0
    news: int = 0

    @property
    def fault(self) -> tuple[str, str] | None:
        """The kind and place of a fault, which distinguish it from other faults; None for an answer or a refusal."""
        return None if self.kind in ("ok", "refused") else (self.kind, self.place)


def main(target: Target, link: Connection, folder: Path) -> None:
    """Send the seeds, then answer ("run", input) with an `Outcome` and ("report", None) with lines, until the link closes."""
    log = os.open(folder / "printed", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    lines, sizes = Lines(target.covers), _Sizes()
    seeds = target.seeds()
    for seed in seeds:
        _run(target, seed, folder, lines, sizes, log)
    # the first run imports for seconds, so that the parent counts from here
    link.send(seeds)
    # what libraries reserve on their first use is there now
    limit = sizes.read("VmSize") + target.memory * 4 * MEBI
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            order, content = link.recv()
        except EOFError:
            return
        link.send(_run(target, content, folder, lines, sizes, log) if order == "run" else (lines.seen & lines.known, lines.known))


def _run(target: Target, content: bytes, folder: Path, lines: Lines, sizes: _Sizes, log: int) -> Outcome:
    before, printed, begun = sizes.begin(), os.fstat(log).st_size, time.perf_counter()
    seen = lines.begin()
    kind, what, place = "ok", "", ""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        # meant for the developers of a library, and hidden by Python
        warnings.simplefilter("ignore", DeprecationWarning)
        # as in fastloc's programs, see `fastloc.utils.exit_status`
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        try:
            target.run(content, folder)
        except FastlocError as error:
            kind, what, place = "refused", str(error), _place(error)
            if _of_memory(error):
                kind = "memory"
            elif "\n" in what or len(what) > LINE or not what.isprintable():
                kind = "lines"
        except BaseException as error:
            kind, what, place = "raw", f"{type(error).__name__}: {error}"[:LINE], f"{type(error).__name__} {_place(error)}"
        finally:
            lines.end()
    seconds, peak = time.perf_counter() - begun, max(0, sizes.read("VmHWM") - before)
    if kind in ("ok", "refused"):
        size = os.fstat(log).st_size - printed
        if peak > target.memory * MEBI:
            kind, what, place = "memory", f"{peak // MEBI} MiB for {len(content):,} bytes: {what}", place
        elif len(noted) > WARNINGS:
            first = noted[0]
            kind, what, place = "flood", f"{len(noted)} warnings: {first.message}"[:LINE], f"{first.filename}:{first.lineno}"
        elif size > PRINTED:
            kind, what, place = "flood", f"{size:,} bytes printed: {os.pread(log, 200, printed)!r}", ""
    return Outcome(kind, what, place, seconds, peak, len(lines.seen) - seen)


class _Sizes:
    """Sizes of this process, bytes, through files that stay open: they are read for every input."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)

    def begin(self) -> int:
        """Forget the highest size so far; returns the present one, without freed memory, which an input could take unseen."""
        self._trim(0)
        os.pwrite(self._clear, b"5", 0)
        return self.read("VmRSS")

    def read(self, name: str) -> int:
        """The size of this name."""
        after = os.pread(self._status, 8192, 0).partition(f"\n{name}:".encode())[2]
        return int(after.split(None, 1)[0]) << 10


def _of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(error: BaseException) -> str:
    """The innermost line of fastloc's own code."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        where = Path(frame.filename).as_posix()
        for room in ("/fastloc/", "/kernels/", "/export/"):
            if room in where and "site-packages" not in where:
                return f"{room.strip('/')}/{where.rpartition(room)[2]}:{frame.lineno}"
    return ""
