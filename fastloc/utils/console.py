"""Output of the commands: tables, paths, and a progress bar that never ends up in a pipe."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from fastloc.utils.terminal import printable

# columns of a table that nobody's terminal limits
PIPE_WIDTH = 160


class PrintableConsole(Console):
    """A console that shows names and texts in printable characters: nothing but its own styles moves the cursor or changes colours."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments, as rich asks for them."""
        for segment in super().render(renderable, options):
            yield segment if segment.control or segment.text.isprintable() else segment._replace(text=printable(segment.text))


class PrintableTable(Table):
    """A table whose cells are printable characters before columns are measured."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """See `rich.table.Table.add_row`."""
        super().add_row(*map(_printable_cell, cells), **options)


def _printable_cell(cell: RenderableType | None) -> RenderableType | None:
    if isinstance(cell, str):
        return printable(cell)
    if isinstance(cell, Text) and not cell.plain.isprintable():
        return Text(printable(cell.plain), cell.style)
    return cell


def console(stderr: bool = False) -> Console:
    """A console that prints text unchanged: no markup, no guessed colours, and no folding to 80 columns in a pipe."""
    made = PrintableConsole(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_WIDTH
    return made


def shown(path: str | Path) -> str:
    """The path on one line, in printable characters: file names may hold line ends, and bytes that are no text."""
    return printable(str(path)).replace("\n", "\\n")


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns in `right` are aligned to the right, and those but the last do not wrap."""
    made = PrintableTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=name in right, overflow="fold")
    return made


def finding(out: Console, title: str, found: dict[str, Any], written: list[Path]) -> None:
    """Print the location of each text. `found` is a `Result.to_dict()`, `written` the files that were made of it."""
    out.print(Text(title, "bold"), Text(f"{found['picture']['width']} x {found['picture']['height']}"), soft_wrap=True)
    rows = table("text", "x", "y", "box", "peak", "score", "similarity", right=("x", "y", "peak", "score", "similarity"))
    for each in found["texts"]:
        peak = each["peak"]
        score = "-" if each["score"] is None else f"{each['score']:.2f}"
        # a gradient is no cosine: it may be of any size
        numbers = (f"{peak['value']:.2f}", score, f"{peak['similarity']:.3g}")
        rows.add_row(Text(each["text"]), str(peak["x"]), str(peak["y"]), _boxes(each["boxes"]), *numbers)
    out.print(rows)
    if flat := [each["text"] for each in found["texts"] if each.get("flat")]:
        out.print(Text(f"flat, so that no place stands out: {', '.join(flat)}"), soft_wrap=True)
    if found["no_scores"]:
        out.print(Text(f"no scores: {found['no_scores']}"), soft_wrap=True)
    for path in written:
        out.print(f"written: {shown(path)}", soft_wrap=True)
    out.print()


def _boxes(boxes: list[dict[str, Any]]) -> str:
    """The box around the peak, and the number of other warm regions."""
    if not boxes:
        return "-"
    first = "{x0},{y0} to {x1},{y1}".format(**boxes[0])
    return first if len(boxes) == 1 else f"{first} and {len(boxes) - 1} more"


@contextmanager
def progress(total: int, stdout_is_data: bool) -> Iterator[tuple[Console, Callable[[], None]]]:
    """The console to print results on, and a function to call after each of `total` pieces of work.

    There is a bar if there are several pieces and standard error is a terminal. It shares the results' console where that is a
    terminal too: two consoles on one terminal would write over each other.
    """
    out, err = console(), console(stderr=True)
    if total < 2 or not err.is_terminal:
        yield out, lambda: None
        return
    bar_console = out if out.is_terminal and not stdout_is_data else err
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=bar_console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=total)
        yield out, lambda: bar.advance(task)
