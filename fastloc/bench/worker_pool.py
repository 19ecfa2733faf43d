"""The contenders' processes, seen from the one that measures: each is asked one thing at a time, and the others sleep."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastloc.bench.peers.protocol import PROTOCOL

# seconds until an answer is given up: importing, exporting and compiling take long
PATIENCE = 900.0
# an idle process's thread pool spins for a moment after its pass; the next one waits this long
REST = 0.05
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerError(Exception):
    """A worker's error, or the end of its process, in one line."""


class WorkerProcess:
    """One process that speaks `peers.protocol`.

    Args:
        command: how it is started. threads: that its libraries may use. log: the file for what it prints to standard error.
        environment: variables besides this process's own.

    Attributes: `hello`, its first line; `import_s`, the time until it came.

    Raises:
        WorkerError: it could not be started, or speaks another version of the protocol.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], threads: int, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        try:
            with log.open("w", encoding="utf-8") as errors:
                # a session of its own: Ctrl-C is for this process, which ends the others
                self.process = subprocess.Popen(
                    [str(each) for each in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                    env=os.environ | dict.fromkeys(_THREADS, str(threads)) | dict(environment or {}), start_new_session=True,
                    encoding="utf-8",
                )  # fmt: skip
        except OSError as error:
            raise WorkerError(f"its process could not be started: {error}") from error
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.hello = self._answer(PATIENCE)
        self.import_s = time.perf_counter() - began
        if self.hello.get("protocol") != PROTOCOL:
            self.close()
            raise WorkerError(f"its protocol must be {PROTOCOL}, got {self.hello.get('protocol')}")

    def ask(self, do: str, key: str, **more: Any) -> dict[str, Any]:
        """Send a request and return the process's answer.

        Raises:
            WorkerError: the process could not answer, it ended, or it took longer than PATIENCE.
        """
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps({"do": do, "key": key, **more}) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise WorkerError(self._ended()) from None
        found = self._answer(PATIENCE)
        if "failed" in found:
            raise WorkerError(found["failed"])
        return found

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def release(self) -> None:
        """Let the process end by itself; it is not waited for."""
        if self.process.stdin and not self.process.stdin.closed:
            # it may have gone
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def close(self) -> None:
        """End the process, if it does not so by itself."""
        self.release()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _answer(self, patience: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=patience)
        except queue.Empty:
            self.process.kill()
            raise WorkerError(f"it did not answer within {patience:.0f} s") from None
        if not line:
            raise WorkerError(self._ended())
        try:
            found = json.loads(line)
        except ValueError:
            raise WorkerError(f"it said {line.strip()[:80]!r}, which is not the protocol") from None
        return dict(found)

    def _ended(self) -> str:
        """Description of the process's end, with its last line of standard error."""
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "it no longer answers"
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if code == -signal.SIGKILL:
            how += " (out of memory?)"
        words = [line for line in self.log.read_text(errors="replace", encoding="utf-8").splitlines() if line.strip()]
        return f"its process ended {how}" + (f": {words[-1].strip()[:200]}" if words else "")
