"""Runs steps one after the other, each in a process of its own, and keeps what has finished."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastloc.bench import peer_environments
from fastloc.bench.schema import slug
from fastloc.errors import FastlocError
from fastloc.utils import hardware
from fastloc.utils.atomic_write import write_whole
from record_parts.staleness import Repository, stale
from record_parts.step import GIVEN, OUT, Step

LEDGER, WORK, RESULTS = "benchmarks/records/steps.json", "build/records", "benchmarks/results"
# seconds between two looks at the load, and of grace for a step that is asked to end
PAUSE, GRACE = 5.0, 10.0


class Runner:
    """Runs the steps of a checkout.

    machine: the folder of this machine's runs. folders: those that steps ask the caller for, by their names. limit: the load average above
    which no timed step starts, and wait: for how many seconds it is waited for. load, say: the load average now, and where words go.
    """

    def __init__(self, root: Path, steps: Sequence[Step], machine: str, folders: Mapping[str, str], limit: float, wait: float,
                 load: Callable[[], float] = lambda: os.getloadavg()[0], say: Callable[[str], None] = print) -> None:  # fmt: skip
        self.repository, self.steps, self.machine, self.folders = Repository(root), steps, machine, folders
        self.limit, self.wait, self.load, self.say = limit, wait, load, say
        self.root, self.ledger = root, root / LEDGER
        self.finished: dict[str, Any] = json.loads(self.ledger.read_text(encoding="utf-8")) if self.ledger.is_file() else {}

    def reasons(self) -> dict[str, str]:
        """The reason to run, by the names of the steps that are stale."""
        found = {step.name: stale(step, self.repository, self.finished.get(step.name, {}), self._machine(step)) for step in self.steps}
        return {name: why for name, why in found.items() if why}

    def _machine(self, step: Step) -> str:
        gpus = hardware.gpus() if "gpu" in step.needs else ()
        return slug(gpus[0].name) if gpus else self.machine

    def missing(self, step: Step) -> str:
        """The requirements that a step lacks, "" for none."""
        return ", ".join(words for need in step.needs if (words := _missing(need, self.folders)))

    def seconds(self, step: Step) -> float:
        """About what a step takes: what it took the last time, or what its options ask for; 0 where nobody knows."""
        return float(self.finished.get(step.name, {}).get("seconds", step.seconds))

    def run(self, budget: float) -> list[str]:
        """Run what is stale within so many seconds; the names of the steps that failed.

        Raises:
            FastlocError: the machine is busy, the code differs from its commit, or another call is at work.
        """
        ends, failed = time.monotonic() + budget, []
        with self._alone() as lock:
            reasons = self.reasons()
            for step in (each for each in self.steps if each.name in reasons):
                left, takes = max(ends - time.monotonic(), 0.0), self.seconds(step)
                if lacks := self.missing(step):
                    self.say(f"{step.name}: left out, it needs {lacks}")
                elif left <= takes:
                    self.say(f"{step.name}: left for the next call, as {left:.0f} s are left, and it takes about {takes:.0f} s")
                else:
                    self._ready(step)
                    self.say(f"{step.name}: {reasons[step.name]}")
                    if why := self._step(step, ends - time.monotonic(), lock):
                        self.say(f"{step.name}: {why}")
                        failed.append(step.name)
        return failed

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """The lock of this checkout. A step holds it too, so that one that outlives a killed call keeps the next call out."""
        (self.root / WORK).mkdir(parents=True, exist_ok=True)
        with (self.root / WORK / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FastlocError("records.py must run once at a time, and another call or its step is at work; wait for it") from None
            yield lock.fileno()

    def _ready(self, step: Step) -> None:
        """Refuse code that no commit holds, and wait for a machine that does nothing else."""
        if edited := self.repository.edited(step.code):
            raise FastlocError(f"the code of a record must be committed, got changes in {', '.join(edited[:3])}; commit them first")
        ends = time.monotonic() + self.wait
        while step.timed and (now := self.load()) > self.limit:
            if time.monotonic() >= ends:
                raise FastlocError(f"the load average must be at most {self.limit:g} for {step.name}, got {now:.1f}; end what else runs, "
                                   "or wait for longer with --wait")  # fmt: skip
            time.sleep(min(PAUSE, self.wait))

    def _step(self, step: Step, left: float, lock: int) -> str:
        """Run a step and take its records over; the reason of its failure, "" for none."""
        out, log = self.root / WORK / step.name, self.root / WORK / f"{step.name}.log"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        command = [sys.executable, "-P", *step.arguments({**self.folders, OUT.strip("{}"): str(out)})]
        load, commit, began = self.load(), self.repository.head(), time.monotonic()
        with log.open("w", encoding="utf-8") as lines:
            status = _ended(command, self.root, lines, left, lock)
        if status is None:
            return f"ended, its time is over after {left:.0f} s; nothing of it is kept"
        if status:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return f"failed with exit status {status}: {said[-1] if said else 'it said nothing'} ({log})"
        if any(OUT in each for each in step.command):
            self._take(out, self.root / step.writes[0])
        self.finished[step.name] = {
            "command": list(step.command), "commit": commit, "day": time.strftime("%Y-%m-%d", time.gmtime()),
            "seconds": round(time.monotonic() - began, 1), "load_before": round(load, 2),
        }  # fmt: skip
        rows = ",\n".join(f' "{name}": {json.dumps(each)}' for name, each in sorted(self.finished.items()))
        self.ledger.parent.mkdir(exist_ok=True)
        write_whole(self.ledger, lambda file: file.write(f"{{\n{rows}\n}}\n".encode()))
        return ""

    def _take(self, out: Path, record: Path) -> None:
        """Move the rows of a finished run to their record: a file, or the machine's folder of a name of their own."""
        for file in sorted(out.glob("*/*.jsonl")):
            target = record if record.suffix else record / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = file.read_bytes()
            write_whole(target, lambda made, content=content: made.write(content))  # type: ignore[misc]
        shutil.rmtree(out)


def _ended(command: list[str], root: Path, lines: Any, left: float, lock: int) -> int | None:
    """The exit status of a command, None where its time was over. It and what it started are ended with this process's own end."""
    process = subprocess.Popen(command, cwd=root, stdout=lines, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(lock,))
    try:
        return process.wait(None if left == float("inf") else max(left, 0.0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _missing(need: str, folders: Mapping[str, str]) -> str:
    if need in GIVEN:
        return "" if need in folders else f"--with {need}=FOLDER"
    if need == "peers":
        try:
            for name in ("pinned", "newest"):
                peer_environments.python_of(name)
        except FastlocError:
            return "`make peers`"
        return ""
    if need == "gpu":
        return "" if hardware.gpus() else "a GPU"
    if need == "chromium":
        return "" if shutil.which("chromium") else "chromium"
    return "" if find_spec(need) else f"the package {need}"
