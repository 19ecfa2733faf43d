"""Every call of a piece of work fails once: the first in the first run, the second in the second, until a run meets no fault any more."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import count
from operator import eq
from pathlib import Path

from faulty import memory
from faulty.child import RAISED, Ended, carried_out
from faulty.plan import KINDS, Kind

__all__ = ["Subject", "contents", "faults_of"]

Contents = dict[str, bytes]
# allocations of a piece of work that fail, evenly spread: it has thousands to millions
PLACES = 120
# as what C code of the interpreter and of libraries ends that lost a MemoryError, pybind11 in words of its own
LOST = ("SystemError: ", "TypeError: ", "AttributeError: ", "RuntimeError: Unable to convert call argument ")


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
    a fault, "" or what is wrong. short, same: the same behind a fault of memory, where a run goes on another way, and whether two ends are
    as good as equal then. kept: patterns of files that a fault may leave for good. quiet: a fault is no error, as of a cache. step: every
    how many calls one fails, of work that has many of a kind; of memory, one of so many of `PLACES`. most: of the calls that fail, evenly
    spread, in place of every one.
    """

    work: Callable[[Path], object]
    before: Callable[[Path], object] = lambda folder: None
    whole: Callable[[Contents, Contents, Contents], str] = either
    short: Callable[[Contents, Contents, Contents], str] | None = None
    same: Callable[[Contents, Contents], bool] = eq
    kept: tuple[str, ...] = ()
    quiet: bool = False
    step: int = 1
    most: int | None = None


def contents(folder: Path, kept: tuple[str, ...] = ()) -> Contents:
    """The bytes of all files, without those that match, and without unfinished ones."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not (_unfinished(name) or any(fnmatch(name, each) for each in kept))}


def faults_of(subject: Subject, name: str, folder: Path, only: int | None = None) -> Iterator[str]:
    """The faults that a kind brings to light, in words. only: the one call that fails, of all."""
    kind = KINDS[name]
    good = folder / "good"
    good.mkdir(parents=True)
    subject.before(good)
    ended = carried_out(lambda: subject.work(good))
    if ended.status:
        yield f"without a fault: status {ended.status}: {ended.printed}"
        return
    # what the next children find imported takes them no time, and is no allocation of theirs
    memory.imported(list(ended.modules))
    new = contents(good, subject.kept)
    for nth in _places(subject, kind, folder) if only is None else [only]:
        place = folder / str(nth)
        place.mkdir()
        subject.before(place)
        old = contents(place, subject.kept)
        ended = carried_out(lambda place=place: subject.work(place), kind, nth)  # type: ignore[misc]
        now = contents(place, subject.kept)
        found = [*_ended(ended, kind, subject), *_left(place, kind, ended), *_whole(subject, kind, old, new, now, ended)]
        if ended.fired:
            found += _again(subject, kind, place, new)
        yield from (f"{name}, call {nth} ({ended.fired}): {each}" for each in found)
        shutil.rmtree(place)
        if not ended.fired:
            return


def _places(subject: Subject, kind: Kind, folder: Path) -> Iterable[int]:
    """The numbers of the calls that fail, one a run: every `step`th until a run has no fault; of memory, `PLACES` of all, or `most`."""
    if not kind.memory and subject.most is None:
        return count(1, subject.step)
    place = folder / "count"
    place.mkdir()
    subject.before(place)
    ended = carried_out(lambda: subject.work(place), kind, 0)
    shutil.rmtree(place)
    if subject.most is not None and ended.count:
        # the first and the last one too: the last is where a file gets its name
        return sorted({1 + round(each * (ended.count - 1) / max(1, subject.most - 1)) for each in range(subject.most)})
    return range(1, ended.count + 1, max(1, ended.count // PLACES) * subject.step)


def _ended(ended: Ended, kind: Kind, subject: Subject) -> Iterator[str]:
    if kind.error is None and ended.fired:
        if ended.status != -signal.SIGKILL:
            yield f"it was to be killed, and its status is {ended.status}: {ended.printed}"
        return
    if kind.memory == "interpreter" and _of_the_interpreter(ended):
        return
    said = "" if "Exception ignored in" in ended.printed and kind.memory else ended.printed
    if ended.status not in (0, 1) or "Traceback" in said:
        yield f"status {ended.status}: {ended.printed}"
    errors = [line for line in ended.printed.splitlines() if line.startswith("fastloc: error: ")]
    if ended.status == 1 and len(errors) != 1:
        yield f"one line must say what is wrong, got {errors or ended.printed}"
    if kind.memory and errors and "memory" not in errors[0]:
        yield f"nothing says that memory ran out: {errors}"
    # a cache that cannot be written is none; memory that runs out is nobody's fault, and ends what goes on
    if ended.status and ((subject.quiet and not kind.memory) or not ended.fired):
        yield f"status {ended.status}: {ended.printed}"


def _of_the_interpreter(ended: Ended) -> bool:
    """True for ends of a failed allocation that no code of ours can mend: C code that lost the MemoryError, and says that a type or an
    attribute is wrong, or nothing; C code that did not look for one, and crashed; and a fault outside the command."""
    last = (ended.printed.strip().splitlines() or [""])[-1]
    lost = last.startswith(LOST) or (last.startswith("MemoryError") and "in _status" not in ended.printed)
    return (ended.status == RAISED and lost) or ended.status in (-signal.SIGSEGV, -signal.SIGABRT)


def _left(place: Path, kind: Kind, ended: Ended) -> Iterator[str]:
    """Names of unfinished files that are left, unless nothing could be removed any more."""
    if kind.error is None or kind.lasting or ended.status < 0 or ended.fired in ("remove", "remove_tree"):
        return
    left = [path.name for path in place.rglob("*") if _unfinished(path.name)]
    if left:
        yield f"unfinished files are left: {left}"


def _whole(subject: Subject, kind: Kind, old: Contents, new: Contents, now: Contents, ended: Ended) -> Iterator[str]:
    wrong = (subject.short or subject.whole if kind.memory else subject.whole)(old, new, now)
    if wrong:
        yield wrong
    if ended.status == 0 and not subject.quiet and not _same(subject, kind)(new, now):
        yield f"it says that all is well, and it is not: {_named(old, new, now)}"


def _again(subject: Subject, kind: Kind, place: Path, new: Contents) -> Iterator[str]:
    again = carried_out(lambda: subject.work(place))
    if again.status:
        yield f"the next run ends with {again.status}: {again.printed}"
    now = contents(place, subject.kept)
    if not _same(subject, kind)(new, now):
        differing = [name for name in {**now, **new} if now.get(name) != new.get(name)]
        yield f"the next run ends with other files: {differing}"
    left = [path.name for path in place.rglob("*") if _unfinished(path.name)]
    if left:
        yield f"the next run leaves unfinished files: {left}"


def _same(subject: Subject, kind: Kind) -> Callable[[Contents, Contents], bool]:
    return subject.same if kind.memory else eq


def _unfinished(name: str) -> bool:
    return ".part" in name and any(part.endswith(".part") for part in name.split("/"))
