"""Every call of a piece of work fails once: the first in the first run, the second in the second, until a run meets no fault any more."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import count
from pathlib import Path

from faulty.child import Ended, carried_out
from faulty.plan import KINDS, Kind

__all__ = ["Subject", "contents", "faults_of"]

Contents = dict[str, bytes]


def either(old: Contents, new: Contents, now: Contents) -> str:
    """All files are the old ones, or all are the new ones."""
    return "" if now in (old, new) else f"neither old nor new: {_named(old, new, now)}"


def each(old: Contents, new: Contents, now: Contents) -> str:
    """Every file is an old one or a new one, and none that was there is lost."""
    halves = [name for name, content in now.items() if content not in (old.get(name), new.get(name))]
    lost = [name for name in old if name not in now]
    return f"half written: {halves}, lost: {lost}" if halves or lost else ""


def growing(old: Contents, new: Contents, now: Contents) -> str:
    """Every file is a new one, or its beginning."""
    halves = [name for name, content in now.items() if content != old.get(name) and not new.get(name, b"").startswith(content)]
    return f"no beginning of the whole: {halves}" if halves else ""


def _named(old: Contents, new: Contents, now: Contents) -> dict[str, str]:
    return {name: "old" if content == old.get(name) else "new" if content == new.get(name) else "other" for name, content in now.items()}


@dataclass(frozen=True)
class Subject:
    """A piece of work that writes.

    work: does it in a folder, as often as it is called, with one outcome. before: puts what is there before. whole: what may be there after
    a fault, "" or what is wrong. kept: patterns of files that a fault may leave for good. quiet: a fault is no error, as of a cache. step:
    every how many calls one fails, of work that has many of a kind.
    """

    work: Callable[[Path], object]
    before: Callable[[Path], object] = lambda folder: None
    whole: Callable[[Contents, Contents, Contents], str] = either
    kept: tuple[str, ...] = ()
    quiet: bool = False
    step: int = 1


def contents(folder: Path, kept: tuple[str, ...] = ()) -> Contents:
    """The bytes of all files, without those that match, and without unfinished ones."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not (_unfinished(name) or any(fnmatch(name, each) for each in kept))}


def faults_of(subject: Subject, name: str, folder: Path) -> Iterator[str]:
    """The faults that a kind brings to light, in words."""
    kind = KINDS[name]
    good = folder / "good"
    good.mkdir(parents=True)
    subject.before(good)
    ended = carried_out(lambda: subject.work(good))
    if ended.status:
        yield f"without a fault: status {ended.status}: {ended.printed}"
        return
    new = contents(good, subject.kept)
    for nth in count(1, subject.step):
        place = folder / str(nth)
        place.mkdir()
        subject.before(place)
        old = contents(place, subject.kept)
        ended = carried_out(lambda place=place: subject.work(place), kind, nth)  # type: ignore[misc]
        now = contents(place, subject.kept)
        found = [*_ended(ended, kind, subject), *_left(place, kind, ended), *_whole(subject, old, new, now, ended)]
        if ended.fired:
            found += _again(subject, place, new)
        yield from (f"{name}, call {nth} ({ended.fired}): {each}" for each in found)
        shutil.rmtree(place)
        if not ended.fired:
            return


def _ended(ended: Ended, kind: Kind, subject: Subject) -> Iterator[str]:
    if kind.error is None and ended.fired:
        if ended.status != -signal.SIGKILL:
            yield f"it was to be killed, and its status is {ended.status}: {ended.printed}"
        return
    if ended.status not in (0, 1) or "Traceback" in ended.printed:
        yield f"status {ended.status}: {ended.printed}"
    errors = [line for line in ended.printed.splitlines() if line.startswith("fastloc: error: ")]
    if ended.status == 1 and len(errors) != 1:
        yield f"one line must say what is wrong, got {errors or ended.printed}"
    if ended.status and (subject.quiet or not ended.fired):
        yield f"status {ended.status}: {ended.printed}"


def _left(place: Path, kind: Kind, ended: Ended) -> Iterator[str]:
    """Names of unfinished files that are left, unless nothing could be removed any more."""
    if kind.error is None or kind.lasting or ended.fired in ("remove", "remove_tree"):
        return
    left = [path.name for path in place.rglob("*") if _unfinished(path.name)]
    if left:
        yield f"unfinished files are left: {left}"


def _whole(subject: Subject, old: Contents, new: Contents, now: Contents, ended: Ended) -> Iterator[str]:
    wrong = subject.whole(old, new, now)
    if wrong:
        yield wrong
    if ended.status == 0 and not subject.quiet and now != new:
        yield f"it says that all is well, and it is not: {_named(old, new, now)}"


def _again(subject: Subject, place: Path, new: Contents) -> Iterator[str]:
    again = carried_out(lambda: subject.work(place))
    if again.status:
        yield f"the next run ends with {again.status}: {again.printed}"
    now = contents(place, subject.kept)
    if now != new:
        differing = [name for name in {**now, **new} if now.get(name) != new.get(name)]
        yield f"the next run ends with other files: {differing}"
    left = [path.name for path in place.rglob("*") if _unfinished(path.name)]
    if left:
        yield f"the next run leaves unfinished files: {left}"


def _unfinished(name: str) -> bool:
    return ".part" in name and any(part.endswith(".part") for part in name.split("/"))
