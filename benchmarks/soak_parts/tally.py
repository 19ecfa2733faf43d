"""The work of a process of the soak so far, in a file that the run reads: counts by name, what was wrong, and its heap in use."""

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fastloc.utils.atomic_write import replacing
from soak_parts.held import heap_in_use

__all__ = ["Tally", "read"]

# faults that are kept in words, and seconds between two files
KEPT, WRITTEN = 20, 10.0


class Tally:
    """Counts from any thread. The file is replaced now and then, and at the end of the `with` block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counts: Counter[str] = Counter()
        self._problems: list[str] = []
        self._lock = threading.Lock()
        self._written = 0.0

    def add(self, name: str, count: int = 1) -> None:
        """Count on."""
        with self._lock:
            self._counts[name] += count
            self._write(time.monotonic() - self._written > WRITTEN)

    def problem(self, text: str) -> None:
        """Take down what is wrong; of very many the first."""
        with self._lock:
            self._counts["wrong"] += 1
            if len(self._problems) < KEPT:
                self._problems.append(text[:400])

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._write(True)

    def _write(self, due: bool) -> None:
        if due:
            self._written = time.monotonic()
            with replacing(self.path) as part:
                found = {"counts": self._counts, "problems": self._problems, "heap_mb": heap_in_use()}
                part.write_text(json.dumps(found), encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """The newest file of a worker: {"counts": {name: number}, "problems": [text], "heap_mb": its heap in use, or None}; empty before its
    first."""
    if not path.exists():
        return {"counts": {}, "problems": [], "heap_mb": None}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
