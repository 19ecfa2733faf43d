"""A campaign against one target: inputs until the time is up, each fault once, smaller, and kept in a file."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzzing import child
from fuzzing.child import Outcome
from fuzzing.target import Target

__all__ = ["HANG", "Found", "Process", "Report", "campaign", "minimised"]

# seconds of an input, seconds for the seeds, bytes of an input
HANG, SEEDS, LARGEST = 5.0, 120.0, 1 << 20
# runs and seconds to make a failing input smaller
RUNS, PATIENCE = 400, 8.0
# inputs beside the seeds that are kept because they reach new lines
KEPT = 256


class Process:
    """A child that runs inputs of one target. A context manager; a child that hung or died is replaced."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.folder = tempfile.TemporaryDirectory()
        self.seeds: list[bytes] = []
        self._start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self.folder.cleanup()

    def run(self, content: bytes) -> Outcome:
        """The end of one input: also "hang" after HANG seconds, and "died" for a child that is gone."""
        self.send(content)
        return self.receive()

    def send(self, content: bytes) -> None:
        """Start one input, whose end `receive` returns."""
        # a child that is gone shows in `receive`
        with suppress(OSError):
            self._link.send(("run", content))

    def receive(self) -> Outcome:
        """The end of the input that `send` started."""
        try:
            if self._link.poll(HANG):
                found: Outcome = self._link.recv()
                return found
            outcome = Outcome("hang", f"no end after {HANG:g} s", seconds=HANG)
        except (EOFError, OSError):
            self._process.join(HANG)
            outcome = Outcome("died", f"the process ended with status {self._process.exitcode}")
        self._end()
        self._start()
        return outcome

    def lines(self) -> tuple[set[Any], set[Any]]:
        """Lines of the parser that ran, and all."""
        self._link.send(("report", None))
        found: tuple[set[Any], set[Any]] = self._link.recv()
        return found

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._link, other = context.Pipe()
        self._process = context.Process(target=_child, args=(self.target, other, self._link, Path(self.folder.name)), daemon=True)
        self._process.start()
        other.close()
        if not self._link.poll(SEEDS):
            raise RuntimeError(f"{self.target.name}: no seeds after {SEEDS:g} s")
        try:
            self.seeds = self._link.recv()
        except EOFError:
            printed = (Path(self.folder.name) / "printed").read_text(errors="replace")
            raise RuntimeError(f"{self.target.name}: the child ended before its seeds:\n{printed}") from None

    def _end(self) -> None:
        self._link.close()
        self._process.kill()
        self._process.join()


def _child(target: Target, link: Connection, parents: Connection, folder: Path) -> None:
    parents.close()
    child.main(target, link, folder)


@dataclass(frozen=True)
class Found:
    """A fault and the smallest input with it."""

    target: str
    outcome: Outcome
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.outcome.kind}-{hashlib.sha256(self.content).hexdigest()[:10]}.bin"


@dataclass
class Report:
    """The figures of one target: inputs that ran, seconds, those that were accepted, faults, lines of the parser that ran, and all."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    accepted: int = 0
    faults: list[Found] = field(default_factory=list)
    reached: int = 0
    lines: int = 0
    # lines of each file that no input reached
    unreached: dict[str, list[int]] = field(default_factory=dict)
    slowest: float = 0.0
    peak: int = 0


def campaign(target: Target, seconds: float, seed: int) -> Report:
    """Run the seeds, then mutations of them and of inputs that reached new lines, until the time is up."""
    draw, report, begun = random.Random(f"{seed} {target.name}"), Report(target.name), time.monotonic()
    known: set[tuple[str, str]] = set()
    with Process(target) as process:
        corpus = list(process.seeds)
        if not corpus:
            raise RuntimeError(f"{target.name} has no seeds")
        waiting = list(corpus)
        begun = time.monotonic()
        following: bytes | None = waiting.pop()
        while following is not None:
            content = following
            process.send(content)
            # the next input is made while the child runs this one
            if waiting:
                following = waiting.pop()
            else:
                going = time.monotonic() - begun < seconds
                following = target.mutate(draw, draw.choice(corpus), corpus)[:LARGEST] if going else None
            outcome = process.receive()
            report.inputs += 1
            report.accepted += outcome.kind == "ok"
            report.slowest, report.peak = max(report.slowest, outcome.seconds), max(report.peak, outcome.peak)
            if outcome.news and outcome.fault is None and len(corpus) < len(process.seeds) + KEPT:
                corpus.append(content)
            if outcome.fault is not None and outcome.fault not in known:
                known.add(outcome.fault)
                # a machine that is busy makes an input slow once
                if process.run(content).fault == outcome.fault:
                    smaller = minimised(content, lambda made, fault=outcome.fault: process.run(made).fault == fault)  # type: ignore[misc]
                    report.faults.append(Found(target.name, outcome, smaller))
        seen, all_lines = process.lines()
    report.seconds = time.monotonic() - begun
    report.reached, report.lines = len(seen), len(all_lines)
    for file, line in sorted(all_lines - seen):
        report.unreached.setdefault(file, []).append(line)
    return report


def minimised(content: bytes, fails: Callable[[bytes], bool], runs: int = RUNS, patience: float = PATIENCE) -> bytes:
    """A smaller input that still fails: ever smaller pieces are left out, within so many runs and seconds."""
    end, size = time.monotonic() + patience, max(1, len(content) // 2)
    while size and runs > 0 and time.monotonic() < end:
        at = 0
        while at < len(content) and runs > 0 and time.monotonic() < end:
            runs -= 1
            made = content[:at] + content[at + size :]
            if fails(made):
                content = made
            else:
                at += size
        size //= 2
    return content
