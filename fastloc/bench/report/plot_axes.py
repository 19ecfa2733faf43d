"""Time and memory along an axis: tokens in one figure, batch, texts and changed blocks in another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastloc.bench.report.rows import AXES, Axis, along, does_not_fit, fitted, memory
from fastloc.bench.report.series import colours, markers
from fastloc.bench.schema import Row
from fastloc.utils.plotting import GREY, figure, halo, log_numbers, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# what the contenders are called -> the axis's value -> the row
Lines = Mapping[str, Mapping[int, Row]]
# ticks nearer to one another, as a part of the axis, are left out
_APART = 0.045
# less memory, in MB, is chance: pages that happened to be there
NOISE = 1.0


def tokens(key: tuple[str, str], lines: Lines) -> Figure:
    """Time with the fitted growth and its formula, and memory below, with a mark where a contender no longer fits."""
    setting, method = key
    every = {value: row for by_value in lines.values() for value, row in by_value.items()}
    made, (top, low) = figure(7.6, f"Cost against the number of tokens, {method}, {setting.split(',')[0]}", rows=2, sharex=True)
    drawn, signs = colours(lines), markers(lines)
    for name, by_value in lines.items():
        _times(top, name, by_value, drawn[name], signs[name])
        _memory(low, name, by_value, drawn[name], signs[name])
    for ax, words in ((top, "milliseconds a call"), (low, "working memory, MB")):
        ax.set(xscale="log", yscale="log", ylabel=words)
        # room above for the note on sizes that do not fit
        ax.set_ylim(top=1.6 * ax.get_ylim()[1])
        log_numbers(ax.yaxis, 6)
    if low.get_ylim()[0] < NOISE:
        low.set_ylim(bottom=NOISE)
        low.set_ylabel(f"working memory, MB, from {NOISE:g} on")
        log_numbers(low.yaxis, 6)
    values = _apart(sorted(every))
    plain_ticks(low.xaxis, values, [f"{value}\n{_size(every[value])}" for value in values])
    low.set_xlabel("tokens N, and the picture's size in pixels")
    top.legend(loc="best", title="measured, and fitted growth in ms", alignment="left")
    device = next(iter(every.values()))["device"]
    top.set_title(", ".join(setting.split(", ")[1:]) + f"\n{device}", loc="left", color=GREY)
    return made


def _size(row: Row) -> str:
    return f"{row['height']} px" if row["height"] == row["width"] else f"{row['height']}×{row['width']}"


def _apart(values: list[int]) -> list[int]:
    """The values that have room for a label on a logarithmic axis, the smallest and largest first."""
    whole = math.log(values[-1] / values[0]) or 1.0
    kept = [values[0]]
    for value in values[1:]:
        if math.log(value / kept[-1]) > _APART * whole:
            kept.append(value)
    return kept


def _times(ax: Axes, name: str, by_value: Mapping[int, Row], colour: str, sign: str) -> None:
    timed = sorted((value, row) for value, row in by_value.items() if row.get("ms")) if by_value else []
    if not timed:
        return
    found = fitted(by_value)
    label = f"{name}: {found.formula()}" if found else name
    sizes = [value for value, _ in timed]
    ends = np.array([[row["ms"] - row.get("ms_p20", row["ms"]), row.get("ms_p80", row["ms"]) - row["ms"]] for _, row in timed]).T
    ax.errorbar(sizes, [row["ms"] for _, row in timed], ends.clip(0), fmt=sign, color=colour, label=label, elinewidth=1)
    if found:
        curve = np.geomspace(sizes[0], sizes[-1], 100)
        ax.plot(curve, [found.at(float(size)) for size in curve], color=colour)


def _memory(ax: Axes, name: str, by_value: Mapping[int, Row], colour: str, sign: str) -> None:
    # nothing above what was there before is no number on a logarithmic axis
    found = sorted((value, mb) for value, row in by_value.items() if (mb := memory(row)))
    ax.plot([value for value, _ in found], [mb for _, mb in found], sign + "-", color=colour)
    for value, row in by_value.items():
        if does_not_fit(row):
            ax.plot(value, row["needs_mb"], "x", color=colour, markersize=9, markeredgewidth=2.2)
            ax.annotate(f"{name} does not fit:\nit would take {row['needs_mb'] / 1000:.3g} GB", (value, row["needs_mb"]), (-9, 2),
                        textcoords="offset points", ha="right", va="bottom", size=8.5, color=colour, path_effects=halo())  # fmt: skip


def scaling(found: Mapping[str, Lines], title: str) -> Figure:
    """Small panels: a column for each axis, time above and memory below. found: suite -> lines."""
    made, axes = figure(5.8, title, rows=2, columns=len(found), sharex="col")
    every = list(dict.fromkeys(name for lines in found.values() for name in lines))
    drawn, signs = colours(every), markers(every)
    handles = {}
    for k, (suite, lines) in enumerate(found.items()):
        axis, top, low = AXES[suite], axes[k], axes[k + len(found)]
        for name, by_value in lines.items():
            for ax, points in ((top, _per_call(axis, by_value)), (low, _megabytes(by_value))):
                (handles[name],) = ax.plot(*points, signs[name] + "-", color=drawn[name])
        _dress(axis, top, low, sorted({value for by_value in lines.values() for value in by_value}))
    # wider than its panel, so kept out of the layout; the lines that it takes are the panel's title's
    axes[0].set_title("\n\n" + axes[0].get_title("left"), loc="left")
    axes[0].annotate(f"{_fixed(found)}\n{_any(found)['device']}", (0, 1), (0, 20), xycoords="axes fraction", textcoords="offset points",
                     color=GREY, annotation_clip=False).set_in_layout(False)  # fmt: skip
    made.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)))
    return made


def _any(found: Mapping[str, Lines], but: str = "") -> Row:
    """A row of any suite, of another than `but` if there is one."""
    lines = next((lines for suite, lines in found.items() if suite != but), next(iter(found.values())))
    return next(row for by_value in lines.values() for row in by_value.values())


def _fixed(found: Mapping[str, Lines]) -> str:
    """The size, and what an axis has where another one varies: "224 px; where it does not vary: batch 1, 4 texts"."""
    words = (("batch", "batch {}"), ("texts", "{} texts"))
    values = [text.format(_any(found, suite)[suite]) for suite, text in words if set(found) - {suite}]
    return _size(_any(found)) + (f"; where it does not vary: {', '.join(values)}" if values else "")


def _per_call(axis: Axis, by_value: Mapping[int, Row]) -> tuple[list[int], list[float]]:
    """Milliseconds; of one picture where their number varies."""
    timed = sorted((value, row["ms"]) for value, row in by_value.items() if row.get("ms"))
    return [value for value, _ in timed], [ms / value if axis.suite == "batch" else ms for value, ms in timed]


def _megabytes(by_value: Mapping[int, Row]) -> tuple[list[int], list[float]]:
    found = sorted((value, mb) for value, row in by_value.items() if (mb := memory(row)) is not None)
    return [value for value, _ in found], [mb for _, mb in found]


def _dress(axis: Axis, top: Axes, low: Axes, values: list[int]) -> None:
    if values[0] > 0 and values[-1] >= 20 * values[0]:
        low.set_xscale("log")
        values = _apart(values)
    plain_ticks(low.xaxis, values)
    low.set_xlabel(f"{axis.one}s")
    top.set_title("ms a picture" if axis.suite == "batch" else "ms a call", loc="left")
    low.set_title("working MB", loc="left")
    for ax in (top, low):
        ax.set_ylim(0, ax.get_ylim()[1] * 1.05)


def lines_of(suite: str, rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, dict[int, Row]]]:
    """The lines that `tokens` and `scaling` draw: by setting and method, the contenders of which something can be drawn."""
    found = {}
    for key, lines in along(AXES[suite], rows).items():
        kept = {name: own for name, own in lines.items() if any(row.get("ms") or does_not_fit(row) for row in own.values())}
        if any(row.get("ms") for own in kept.values() for row in own.values()):
            found[key] = kept
    return found
