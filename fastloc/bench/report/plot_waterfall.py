"""The waterfall of optimisations: what each step saves, and its speed, memory and error beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastloc.bench.report.rows import gain, memory, method, setting, step, steps
from fastloc.bench.report.words import digits, error, mb
from fastloc.bench.schema import Row
from fastloc.utils.plotting import GREY, PALETTE, figure, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SOLID, _SAVED, _LOST = PALETTE[0], "#a8cfe6", PALETTE[1]
# the columns of numbers beside the bars: head, and where each ends, in points from the axes
_COLUMNS = (("ms", 32), ("speed-up", 84), ("MB", 116), ("error", 158))


def waterfall(rows: Sequence[Row]) -> Figure:
    """A bar a step, from the top: dark what it takes, light what it saves over the step before, red what it adds."""
    title = f"What each step is worth, {method(rows[0])}, {setting(rows[0], 'tokens', 'batch', 'texts')}"
    made, (ax,) = figure(1.7 + 0.36 * len(rows), title)
    above = 0
    for place, (row, last) in enumerate(steps(rows)):
        _step(ax, place, above, row, last)
        above = place if row.get("ms") else above
        _numbers(ax, place, rows[0], row)
    for head, x in _COLUMNS:
        ax.annotate(head, (1, 1), (x, 3), xycoords="axes fraction", textcoords="offset points", ha="right", size=8, color=GREY)
    plain_ticks(ax.yaxis, range(len(rows)), [step(row) for row in rows])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.set(xlim=(0, None), ylim=(len(rows) - 0.4, -0.6), xlabel="milliseconds a call; light: saved by the step, red: added by it")
    ax.set_title(f"{setting(rows[0], 'model')}\n{rows[0]['device']}\n", loc="left", color=GREY)
    return made


def _step(ax: Axes, place: int, above: int, row: Row, last: Row | None) -> None:
    """`above` is the place of `last`."""
    if not row.get("ms"):
        ax.text(0, place, f" {row.get('failed', 'not measured')[:70]}", va="center", size=7.5, color=GREY, style="italic")
        return
    before = last["ms"] if last else row["ms"]
    ax.barh(place, min(row["ms"], before), height=0.62, color=_SOLID)
    if before != row["ms"]:
        ax.barh(place, abs(before - row["ms"]), left=min(row["ms"], before), height=0.62, color=_SAVED if before > row["ms"] else _LOST)
        # down from the end of the bar above
        ax.plot([before, before], [above + 0.31, place + 0.31], color=GREY, linewidth=0.8)


def _numbers(ax: Axes, place: int, first: Row, row: Row) -> None:
    speed = gain(first, row)
    cells = (digits(row.get("ms")), f"{speed:.2f} ×" if speed else "", mb(memory(row)), error(row))
    for (_, x), text in zip(_COLUMNS, cells, strict=True):
        ax.annotate(text, (1, place), (x, 0), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="center",
                    annotation_clip=False, size=8.5)  # fmt: skip
