"""Progress of `fastloc video`: a bar while frames are processed, and the time spent on each kind of work."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from fastloc.utils import console


@dataclass
class Spent:
    """Seconds of work by kind, and the number of frames."""

    began: float = field(default_factory=perf_counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("decode", "model", "read-out", "draw", "encode"), 0.0))
    frames: int = 0

    def begin(self) -> None:
        """Start the clock."""
        self.began = perf_counter()

    @contextmanager
    def on(self, kind: str) -> Iterator[None]:
        """Count the time of this block as this kind."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += perf_counter() - start

    def line(self, counts: dict[str, int]) -> str:
        """Frames, frames a second, how much of the time each kind of work took, and whatever count is not 0."""
        passed = max(perf_counter() - self.began, 1e-9)
        frames = f"{self.frames} frame{'s' * (self.frames != 1)} in {passed:.1f} s, {self.frames / passed:.1f} fps"
        # side by side, so that they may add up to more than all
        busy = ", ".join(f"{kind} {seconds / passed:.0%}" for kind, seconds in self.seconds.items() if seconds)
        odd = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return "; ".join(filter(None, (frames, f"busy: {busy}" if busy else "", odd)))


class Bar:
    """One bar for all frames; nothing where standard error is no terminal, or shares it with data."""

    def __init__(self, bar: Progress | None, total: int | None) -> None:
        self._bar, self._total = bar, total
        self._task = bar.add_task("", total=total, count="") if bar else None

    def step(self, done: int, note: str = "") -> None:
        """Set the number of finished frames; the note stands behind the count."""
        if self._bar is not None and self._task is not None:
            # what a file says of its length may be too little
            total = None if self._total is None else max(self._total, done)
            count = f"{done}/{total}" if total else str(done)
            self._bar.update(self._task, completed=done, total=total, count=" ".join(filter(None, (count, note))))


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} fps")


@contextmanager
def bar(total: int | None, stdout_is_data: bool) -> Iterator[tuple[Console, Bar]]:
    """The console to print results on, which is standard error where data goes to standard output, and a bar."""
    out, err = console.console(stderr=stdout_is_data), console.console(stderr=True)
    if not err.is_terminal or (stdout_is_data and console.console().is_terminal):
        yield out, Bar(None, total)
        return
    columns = (BarColumn(), TextColumn("{task.fields[count]}"), _Speed(), TimeRemainingColumn())
    # two consoles on one terminal would write over each other
    with Progress(*columns, console=out if out.is_terminal else err, transient=True, redirect_stdout=False) as shown:
        yield out, Bar(shown, total)
