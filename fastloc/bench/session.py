"""One group of contenders, measured in turns: prepared, judged, timed A B C C B A …, judged again, and written down row by row."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fastloc.bench import correctness_gate
from fastloc.bench.cases import Case
from fastloc.bench.schema import ENCODER, Row
from fastloc.bench.stats import percentiles, ratio_interval
from fastloc.bench.worker_pool import REST, WorkerError, WorkerProcess

# a turn lasts about so long, in seconds, unless one call does: short calls are timed many times in a row
TURN, MOST_CALLS = 0.05, 50
# seconds of a call from which on there is no warming up, and the answer is not computed twice
SLOW = 8.0
# rounds that a time needs at least, and at most
LEAST, MOST = 5, 200


@dataclass
class Contender:
    """One way to do the work of a group, and the measurements of it so far.

    start: gives its process, started if it is not there. precision: a row of `gate.ALLOWED`. check: what its answer must be: "grids",
    "encoder", or "" where nothing can be compared. row: its columns.
    """

    label: str
    start: Callable[[], WorkerProcess]
    case: Case
    row: Row
    precision: str = "float32"
    check: str = "grids"
    failed: str = ""
    prepared: dict[str, Any] = field(default_factory=dict)
    verdict: correctness_gate.Verdict | None = None
    # milliseconds of the calls of each turn
    model: list[list[float]] = field(default_factory=list)
    whole: list[list[float]] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    # calls a turn; slow: whether one takes so long that none is made without need
    calls: int = 1
    slow: bool = False

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        return self.start().ask(do, self.label, **more)


@dataclass
class Group:
    """Contenders that are measured in turns."""

    name: str
    contenders: list[Contender]
    # whether the whole way from a frame to heatmaps is timed too
    whole: bool = True
    least: int = LEAST
    # labels that the others' times are divided by
    against: Sequence[str] = (ENCODER,)


class References:
    """The float32 reference's answers, each computed once."""

    def __init__(self, folder: Path, inputs: Callable[[Case, tuple[int, int]], str]) -> None:
        self.folder, self.inputs = folder, inputs
        self._kept: dict[str, np.ndarray[Any, Any]] = {}

    def case(self, one: Contender) -> Case:
        """The case at which its answer is to be compared: its own, or a smaller one where the reference would take too much memory now."""
        size = correctness_gate.fitting(one.case)
        return one.case if not one.check or size == one.case.size else one.case.at(size, self.inputs(one.case, size))

    def judge(self, one: Contender, at: Case) -> correctness_gate.Verdict:
        """The verdict of its answer to this case, which it has prepared."""
        file = self.folder / "answer.npy"
        one.ask("answer", file=str(file))
        return correctness_gate.judged(np.load(file), self._reference(at, one.check), one.precision)

    def _reference(self, case: Case, check: str) -> np.ndarray[Any, Any]:
        key = repr((check, case.weights, case.method, sorted(case.changes.items()), case.inputs))
        if key not in self._kept:
            # one group needs one or two of them
            while len(self._kept) > 2:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = correctness_gate.grids(case, check)
        return self._kept[key]


def measure(group: Group, seconds: float, references: References, add: Callable[[Row], object], say: Callable[[str], None]) -> None:
    """Measure a group for about so many seconds of calls, and add a row for each contender, also for one that failed.

    Interrupted (KeyboardInterrupt), it writes what it has before it passes the interrupt on.
    """
    try:
        for one in group.contenders:
            say(f"{group.name}: {one.label}")
            _attempt(one, lambda one=one: _prepare(one, references, group.whole))  # type: ignore[misc]
        _rounds(group, seconds, say)
        for one in group.contenders:
            _attempt(one, lambda one=one: _after(one, references))  # type: ignore[misc]
            if one.prepared:
                _attempt(one, lambda one=one: one.ask("drop"))  # type: ignore[misc]
    finally:
        for one in group.contenders:
            if one.failed or one.model:
                add(_row(one, group))


def _attempt(one: Contender, work: Callable[[], object]) -> None:
    """Do a step unless the contender has failed; an error becomes its reason of failure."""
    if one.failed:
        return
    try:
        work()
    except WorkerError as error:
        one.failed = str(error)


def _prepare(one: Contender, references: References, whole: bool) -> None:
    one.row["versions"] = one.start().hello["versions"]
    at = references.case(one)
    if at is not one.case:
        one.prepared = one.ask("prepare", case=at.to_dict())
        _judge(one, references, at)
        one.row.setdefault("checked", f"at {at.size[0]}x{at.size[1]}, about the largest for which the reference has memory")
    if not one.failed:
        one.prepared = one.ask("prepare", case=one.case.to_dict())
        one.prepared["whole"] = one.prepared["whole"] and whole
    if at is one.case:
        _judge(one, references, at)
    if not one.failed:
        _warm(one)


def _warm(one: Contender) -> None:
    """Calls that do not count; their time decides how many make a turn."""
    spent = one.ask("go", what="model", count=1)["ms"]
    one.slow = spent[0] > SLOW * 1000
    if one.slow:
        return
    spent += one.ask("go", what="model", count=1)["ms"]
    one.calls = max(1, min(MOST_CALLS, round(TURN * 1000 / max(min(spent), 1e-3))))
    if one.prepared["whole"]:
        one.ask("go", what="whole", count=1)


def _judge(one: Contender, references: References, at: Case) -> None:
    if not one.check or not one.prepared["answers"]:
        one.row["checked"] = "cost only"
        return
    one.verdict = references.judge(one, at)
    if one.verdict.refused:
        one.failed = one.verdict.refused


def _rounds(group: Group, seconds: float, say: Callable[[str], None]) -> None:
    began = time.perf_counter()
    for done in range(MOST):
        running = [one for one in group.contenders if not one.failed]
        if not running or (done >= group.least and time.perf_counter() - began > seconds):
            return
        # there and back: nobody has the same one before it, nor the first place, in every round
        for one in running if done % 2 == 0 else reversed(running):
            _attempt(one, lambda one=one: one.model.append(_turn(one, "model")))  # type: ignore[misc]
            if one.prepared["whole"]:
                _attempt(one, lambda one=one: one.whole.append(_turn(one, "whole")))  # type: ignore[misc]
        say(f"{group.name}: round {done + 1}")


def _turn(one: Contender, what: str) -> list[float]:
    time.sleep(REST)
    spent: list[float] = one.ask("go", what=what, count=one.calls if what == "model" else max(1, one.calls // 4))["ms"]
    return spent


def _after(one: Contender, references: References) -> None:
    """Checks after the timing: the answer once more, and the memory of a call."""
    # what was compared at a smaller size is not prepared any more
    if one.verdict is not None and "checked" not in one.row and not one.slow:
        _judge(one, references, one.case)
    if not one.failed:
        one.memory = one.ask("memory", again=not one.slow)


def _row(one: Contender, group: Group) -> Row:
    row: Row = {**one.row, "group": group.name, **one.prepared.get("told", {})}
    if one.verdict is not None:
        row["allowed"] = one.verdict.allowed
        row["error"] = one.verdict.error if np.isfinite(one.verdict.error) else None
    if one.failed:
        return {**row, "failed": one.failed}
    row |= percentiles([ms for turn in one.model for ms in turn])
    if one.whole:
        row |= percentiles([ms for turn in one.whole for ms in turn], "end_") | {"frame": list(one.case.frame)}
    row |= {"rounds": len(one.model), "calls": sum(map(len, one.model)), "ratios": _ratios(one, group), **one.memory}
    if row.get("floor_ms"):
        row["achieved"] = row["floor_ms"] / row["ms"]
    return row | {name: one.prepared[name] for name in ("first_ms", "loaded_mb")}


def _ratios(one: Contender, group: Group) -> dict[str, list[float]]:
    """Time of a contender over that of each one it is compared with."""
    others = [each for each in group.contenders if each is not one and each.label in group.against and not each.failed and each.model]
    return {other.label: list(ratio(one, other)) for other in others}


def ratio(one: Contender, other: Contender) -> tuple[float, float, float]:
    """The time of one contender over that of another, with its 95 % interval, of the rounds that both had."""
    count = min(len(one.model), len(other.model))
    ours, theirs = ([median(turn) for turn in each.model[:count]] for each in (one, other))
    return ratio_interval(ours, theirs)
