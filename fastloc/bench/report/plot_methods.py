"""Latency by method, and quality against latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastloc.bench.report.rows import grouped, leading, method, middle_encoder, names, setting
from fastloc.bench.report.series import colours, markers
from fastloc.bench.report.words import digits
from fastloc.bench.schema import ENCODER, Row
from fastloc.utils.plotting import GREY, LIGHT, PALETTE, figure, halo, log_numbers, plain_ticks, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# above this ratio of the largest to the smallest time the axis is logarithmic
LINEAR = 25
# bars and headings in one column, and inches that each takes
_ONE_COLUMN, _SLOT = 44, 0.2
# of the reason why a bar is missing, letters: one column, two columns
_REASON = {1: 70, 2: 26}
Entry = tuple[str, str, Row | None]


def latency(rows: Sequence[Row]) -> Figure:
    """Horizontal bars grouped by method, one a contender, with whiskers from the 20th to the 80th percentile; the encoder as a line.

    Where times differ by more than LINEAR the axis is logarithmic, and points stand for bars, whose length would say nothing there.
    """
    anchor = middle_encoder(rows)
    bars = [row for row in rows if row["contender"] != ENCODER]
    columns = _columns(bars)
    measured = [row for row in (*bars, *([anchor] if anchor else [])) if row.get("ms")]
    timed = [row["ms"] for row in measured]
    log = max(timed) > LINEAR * min(timed)
    # whiskers have to find room too
    timed += [row[end] for row in measured for end in ("ms_p20", "ms_p80") if end in row]
    # a title and the axis below take an inch and a half
    made, axes = figure(1.5 + _SLOT * max(map(len, columns)), f"Latency by method, {setting(_first(rows), 'tokens', 'batch', 'texts')}",
                        columns=len(columns))  # fmt: skip
    drawn = colours(names(bars))
    if len(drawn) > len(PALETTE) + 1:
        # repeated colours would suggest that two contenders are one: only ours and the peers' differ
        drawn = {name: PALETTE[row.get("by") == "peer"] for name, row in zip(names(bars), bars, strict=True)}
    slots = max(map(len, columns))
    for ax, entries in zip(axes, columns, strict=True):
        ax.set_xscale("log" if log else "linear")
        ax.set_xlim(*_limits(timed, log, len(columns)))
        ax.set_ylim(slots - 0.4, -0.6)
        for place, (_, name, row) in enumerate(entries):
            if row is not None:
                _bar(ax, place, row, drawn[name], log, _REASON[len(columns)])
        _labels(ax, entries)
        _reference(ax, anchor)
        ax.set_xlabel("milliseconds a call" + (", logarithmic" if log else ""))
        if log:
            log_numbers(ax.xaxis, 9 // len(columns))
    # a free line above the bars, where the encoder is named
    _subtitle(axes[0], rows, bars, below="\n ")
    return made


def _limits(timed: Sequence[float], log: bool, columns: int) -> tuple[float, float]:
    """Limits of the axis, with room for a number behind the longest bar."""
    if not log:
        return 0, max(timed) * (1.08 + 0.08 * columns)
    low = 0.7 * min(timed)
    return low, max(timed) * (max(timed) / low) ** (0.12 * columns)


def _first(rows: Sequence[Row]) -> Row:
    return leading(rows)(rows[0])


def _subtitle(ax: Axes, rows: Sequence[Row], shown: Sequence[Row], below: str = "") -> None:
    """The rest of the setting, the dtype where it is one, the device; the contender where there is only one."""
    dtypes, who = dict.fromkeys(row["dtype"] for row in shown if "dtype" in row), dict.fromkeys(names(shown))
    parts = [setting(_first(rows), "model"), *(dtypes if len(dtypes) == 1 else ()), *(who if len(who) == 1 else ())]
    ax.set_title(", ".join(parts) + f"\n{rows[0]['device']}{below}", loc="left", color=GREY)


def _columns(bars: Sequence[Row]) -> list[list[Entry]]:
    """(heading, name, row) from top to bottom of one column of bars, or of two where one would be long; a heading has no row."""
    called = dict(zip(map(id, bars), names(bars), strict=True))
    blocks = list(grouped(bars, lambda row: method(leading(bars)(row))).items())
    if len(set(called.values())) == 1:
        return [[(name, called[id(row)], row) for name, mine in blocks for row in mine]]
    entries = [[(name, "", None), *(("", called[id(row)], row) for row in mine)] for name, mine in blocks]
    total = sum(map(len, entries))
    # where the halves differ least
    cut = min(range(len(entries)), key=lambda i: abs(2 * sum(map(len, entries[:i])) - total)) if total > _ONE_COLUMN else 0
    return [[entry for block in part for entry in block] for part in (entries[:cut], entries[cut:]) if part]


def _labels(ax: Axes, entries: list[Entry]) -> None:
    plain_ticks(ax.yaxis, range(len(entries)), [heading or name for heading, name, _ in entries])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    for text, (heading, _, row) in zip(ax.get_yticklabels(), entries, strict=True):
        if heading and row is None:
            text.set_fontweight("bold")


def _bar(ax: Axes, place: int, row: Row, colour: str, log: bool, letters: int) -> None:
    start = ax.get_xlim()[0]
    if row.get("ms") is None:
        why = row.get("failed", "not measured")
        why = why if len(why) <= letters else why[: letters - 1] + "…"
        ax.annotate(why, (start, place), (4, 0), textcoords="offset points", va="center", size=7.5, color=GREY, style="italic",
                    path_effects=halo())  # fmt: skip
        return
    ms = float(row["ms"])
    low, high = float(row.get("ms_p20", ms)), float(row.get("ms_p80", ms))
    if log:
        ax.plot([start, ms], [place, place], color=LIGHT, linewidth=1, zorder=1)
        ax.plot(ms, place, "o", color=colour, markersize=5.5)
    else:
        ax.barh(place, ms, height=0.78, color=colour)
    ax.plot([low, high], [place, place], color="black", linewidth=1.1, solid_capstyle="butt")
    ax.annotate(digits(ms), (max(high, ms), place), (5, 0), textcoords="offset points", va="center", size=8, path_effects=halo())


def _reference(ax: Axes, anchor: Row | None) -> None:
    if anchor is None or not anchor.get("ms"):
        return
    ax.axvline(anchor["ms"], color="black", linewidth=1, linestyle=(0, (4, 3)), zorder=0.5)
    ax.annotate(f"untouched encoder {digits(anchor['ms'])} ms", (anchor["ms"], 1), (0, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", size=8)  # fmt: skip


def quality(rows: Sequence[Row]) -> Figure:
    """Pointing on the embedded model's quality set against latency: a point a method and contender, methods named at the right."""
    called = names(rows)
    drawn, signs = colours(called), markers(called)
    timed = [row["ms"] for row in rows]
    log = max(timed) > 8 * min(timed)
    made, (ax,) = figure(5.2, "Quality against latency, the embedded model")
    ax.set_xscale("log" if log else "linear")
    points: dict[str, list[tuple[float, float]]] = {}
    for row, name in zip(rows, called, strict=True):
        at = (row["ms"], 100 * row["quality"]["pointing"])
        points.setdefault(method(row), []).append(at)
        ax.plot(*at, signs[name], color=drawn[name], markersize=6.5, label=name, zorder=3)
    low, high = ((0.8, 1.25) if log else (0, 1.08))
    ax.set_xlim(low * min(timed), high * max(timed))
    ax.set_ylim(0, 100)
    _named_at_the_right(ax, points)
    ax.set_xlabel("milliseconds a call" + (", logarithmic" if log else ""))
    ax.set_ylabel("pointing: peaks on the thing, %")
    if log:
        log_numbers(ax.xaxis)
    _subtitle(ax, rows, rows)
    _legend(ax, called)
    return made


def _named_at_the_right(ax: Axes, points: dict[str, list[tuple[float, float]]]) -> None:
    """A line through each method's points to its name, names apart from one another."""
    places = spread([found[0][1] for found in points.values()], 3.7, 1.5, 98.5)
    edge = ax.get_xlim()[1]
    for (name, found), place in zip(points.items(), places, strict=True):
        found = sorted(found)
        ax.plot([x for x, _ in found], [y for _, y in found], color=GREY, linewidth=0.8, zorder=1)
        # a straight leader, then a bend in the margin
        ax.plot([found[-1][0], edge], [found[-1][1]] * 2, color=LIGHT, linewidth=0.8, zorder=0.5)
        bend = {"arrowstyle": "-", "color": LIGHT, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
        ax.annotate(name, (edge, found[-1][1]), (1.035, place), textcoords=("axes fraction", "data"), va="center", size=8.5,
                    annotation_clip=False, arrowprops=bend)  # fmt: skip


def _legend(ax: Axes, called: Sequence[str]) -> None:
    handles: dict[str, Any] = {}
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
        handles.setdefault(label, handle)
    if len(set(called)) > 1:
        ax.figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)))
