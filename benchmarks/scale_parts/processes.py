"""Commands as a user starts them, and what they and their children hold in memory."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
FASTLOC = (sys.executable, "-P", "-m", "fastloc")
# seconds that a process has to end by itself
PATIENCE = 20.0


class CommandError(Exception):
    """A command that failed: its exit status and the last line that it wrote."""


def tree(root: int) -> set[int]:
    """A process and all below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # the name, in brackets, may hold anything
                parents[int(entry.name)] = int((entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found, before = {root}, 0
    while len(found) > before:
        before = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found


def resident_mb(root: int) -> float:
    """Resident memory of a process and all below it, pages that they share counted once a process."""
    pages = 0
    for process in tree(root):
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
        except (OSError, IndexError):
            continue
    return pages * PAGE / 1e6


@dataclass
class Memory:
    """(seconds since its beginning, MB) of a process and its children, taken down by a thread of its own."""

    process: int
    every: float = 0.5
    samples: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> "Memory":
        self._stop, self._began = threading.Event(), time.time()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        while True:
            if (now := resident_mb(self.process)) > 0:
                self.samples.append((time.time() - self._began, now))
            if self._stop.wait(self.every):
                return

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_mb(self) -> float | None:
        return max((value for _, value in self.samples), default=None)


@contextmanager
def started(command: Sequence[Any], log: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is ended with all of its children when the block is left; its output goes to the log."""
    with log.open("ab") as output:
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                   start_new_session=True, **more)  # fmt: skip
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]", patience: float = PATIENCE) -> None:
    """Ask it to end, wait, and kill what is left of its group and of its children, some of which are in groups of their own."""
    children: set[int] = set()
    if process.poll() is None:
        children = tree(process.pid) - {process.pid}
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    process.wait()


def checked(process: "subprocess.Popen[bytes]", log: Path, timeout: float) -> None:
    """Wait for a process. Raises CommandError if it fails or does not end in time."""
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise CommandError(f"not done after {timeout:.0f} s: {last_line(log)}") from None
    if status:
        raise CommandError(f"exit status {status}: {last_line(log)}")


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"
