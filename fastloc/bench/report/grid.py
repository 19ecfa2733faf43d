"""A table for terminals of any width: numbers are never wrapped; the columns that matter least are left out, and a note names them."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions
from rich.text import Text

_GAP = "  "
# a column of words is not folded to less, nor is a reason put beside its keys with less room
_LEAST_WORDS, _LEAST_REASON = 12, 40


@dataclass(frozen=True)
class Head:
    """A column. right: numbers stand in it. spare: the higher, the sooner it is left out for want of room; 0 never is."""

    name: str
    right: bool = True
    spare: int = 0


@dataclass(frozen=True)
class Line:
    """A row's cells, one for each head. why: stands, wrapped, in place of all cells after the keys."""

    cells: tuple[str, ...]
    why: str = ""


@dataclass
class Grid:
    """The table. keys: number of the first columns, which identify a row. notes: sentences below. Columns without a cell are not shown."""

    title: str
    heads: Sequence[Head]
    lines: list[Line]
    keys: int = 1
    notes: list[str] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for text, style in self.drawn(options.max_width):
            safe = text.encode(options.encoding, "replace").decode(options.encoding)
            yield Text(safe.rstrip(), style, no_wrap=True, overflow="ignore")

    def drawn(self, room: int) -> Iterator[tuple[str, str]]:
        """Each line of text and its style, in `room` characters."""
        shown, left_out = self._fitting(room)
        widths = self._widths(shown, room)
        for text in textwrap.wrap(self.title, room):
            yield text, "bold"
        heads = [textwrap.wrap(self.heads[i].name, widths[i]) for i in shown]
        for k in range(max(map(len, heads))):
            yield self._joined(shown, widths, [_at(head, k - max(map(len, heads)) + len(head)) for head in heads]), "dim"
        yield _GAP.join("─" * widths[i] for i in shown), "dim"
        for line in self.lines:
            yield from ((text, "") for text in self._row(line, shown, widths, room))
        notes = [*self.notes, *([f"left out for want of room: {', '.join(left_out)}"] if left_out else [])]
        for note in notes:
            yield from ((text, "dim") for text in textwrap.wrap(note, room, subsequent_indent="  "))

    def _fitting(self, room: int) -> tuple[list[int], list[str]]:
        """The columns that are shown, and the names of those that there is no room for."""
        shown = [i for i in range(len(self.heads)) if any(line.cells[i] for line in self.lines if i < self.keys or not line.why)]
        left_out = []
        while sum(self._width(i) for i in shown) + len(_GAP) * (len(shown) - 1) > room:
            dropped = max(shown, key=lambda i: (self.heads[i].spare, i))
            if not self.heads[dropped].spare:
                break
            shown.remove(dropped)
            left_out.append(dropped)
        return shown, [self.heads[i].name for i in sorted(left_out)]

    def _width(self, i: int) -> int:
        cells = [line.cells[i] for line in self.lines if i < self.keys or not line.why]
        # a head of several words may stand in two lines
        name = self.heads[i].name
        head = next((room for room in range(1, len(name)) if len(textwrap.wrap(name, room, break_long_words=False)) <= 2 and
                     max(map(len, name.split())) <= room), len(name))  # fmt: skip
        return max(head, *map(len, cells))

    def _widths(self, shown: list[int], room: int) -> dict[int, int]:
        widths = {i: self._width(i) for i in shown}
        over = sum(widths.values()) + len(_GAP) * (len(shown) - 1) - room
        words = max((i for i in shown if not self.heads[i].right), key=lambda i: widths[i], default=None)
        if over > 0 and words is not None:
            widths[words] = max(_LEAST_WORDS, widths[words] - over)
        return widths

    def _row(self, line: Line, shown: list[int], widths: dict[int, int], room: int) -> Iterator[str]:
        columns = [i for i in shown if not line.why or i < self.keys]
        cells = [textwrap.wrap(line.cells[i], widths[i]) for i in columns]
        used = sum(widths[i] + len(_GAP) for i in columns)
        beside = room - used >= _LEAST_REASON
        why = textwrap.wrap(line.why, room - used if beside else room - 4) if line.why else []
        below = 0 if beside or not why else max(1, *map(len, cells))
        for k in range(max(1, *map(len, cells), below + len(why))):
            text = self._joined(columns, widths, [_at(cell, k) for cell in cells])
            reason = _at(why, k - below)
            yield f"{text.ljust(used)}{reason}" if beside else f"    {reason}" if reason else text

    def _joined(self, columns: list[int], widths: dict[int, int], cells: list[str]) -> str:
        pairs = zip(columns, cells, strict=True)
        return _GAP.join(cell.rjust(widths[i]) if self.heads[i].right else cell.ljust(widths[i]) for i, cell in pairs)


def _at(lines: list[str], k: int) -> str:
    return lines[k] if 0 <= k < len(lines) else ""
