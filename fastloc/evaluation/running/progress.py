"""The display of a run: a bar on a terminal, else a line now and then, with pictures a second, the time left and the figures so far."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from fastloc.evaluation.rows import Row
from fastloc.evaluation.running.run import Report
from fastloc.evaluation.running.tally import Tally
from fastloc.utils import console
from fastloc.utils.terminal import say

__all__ = ["Shown", "shown"]

# seconds between two lines where there is no terminal
EVERY = 10.0


class Shown:
    """The state of a run, and its display."""

    def __init__(self, tallies: Mapping[str, Tally], pictures: int, bar: Progress | None) -> None:
        self.tallies, self.pictures, self._bar = tallies, pictures, bar
        self._began = self._last = time.monotonic()
        self._new = 0
        self._task = None if bar is None else bar.add_task("", total=pictures * len(tallies), figures="")

    def rows(self, name: str, found: Sequence[Row], new: bool) -> None:
        """Count rows of one method; new: they are made now."""
        tally = self.tallies[name]
        for row in found:
            tally.add(row)
        self._new += len(found) if new else 0
        done = sum(each.rows for each in self.tallies.values())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, figures=self._figures())
        elif new and time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            say(f"fastloc: {self._line(done)}", error=True)

    def _line(self, done: int) -> str:
        total, speed = self.pictures * len(self.tallies), self._new / (time.monotonic() - self._began)
        left = (total - done) / speed
        failed = sum(each.failed for each in self.tallies.values())
        parts = (f"{done:,} of {total:,}", f"{speed:.1f}/s", f"{left:.0f} s left", f"{failed:,} failed" if failed else "", self._figures())
        return ", ".join(filter(None, parts))

    def _figures(self) -> str:
        several = len(self.tallies) > 1
        return ", ".join(f"{name} {tally}" if several else str(tally) for name, tally in self.tallies.items() if str(tally))


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


@contextmanager
def shown(tallies: Mapping[str, Tally], pictures: int) -> Iterator[Report]:
    """A function to call with rows during a run; it shows the progress on standard error.

    tallies: of each method by name. pictures: the number for each method.
    """
    err = console.console(stderr=True)
    if not err.is_terminal:
        yield Shown(tallies, pictures, None).rows
        return
    columns = (BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn(), TextColumn("{task.fields[figures]}", markup=False))
    with Progress(*columns, console=err, transient=True, redirect_stdout=False) as bar:
        yield Shown(tallies, pictures, bar).rows
