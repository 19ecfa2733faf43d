"""The rows of a run as plots: what can be drawn is drawn, each a file or more. Needs matplotlib, the extra `bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.bench.report import plot_axes, plot_methods, plot_waterfall
from fastloc.bench.report.rows import grouped, leading, method
from fastloc.bench.schema import ENCODER, Row, newest, slug
from fastloc.utils import plotting
from fastloc.utils.system import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
Rows = Sequence[Row]
# keys that distinguish the figures of one plot, coarse to fine -> the function that draws one
Figures = Mapping[tuple[str, ...], Callable[[], "Figure"]]


@dataclass(frozen=True)
class Plot:
    """name: of its files. suites: whose rows it is made of, the newest run's. figures: what of them can be drawn."""

    name: str
    suites: tuple[str, ...]
    figures: Callable[[Rows], Figures]


def _methods(rows: Rows) -> Figures:
    lead = leading(rows)
    found = grouped(rows, lambda row: _place(lead(row)))
    return {key: partial(plot_methods.latency, mine) for key, mine in found.items() if _timed(mine)}


def _quality(rows: Rows) -> Figures:
    mine = [row for row in rows if row.get("quality") and row.get("ms") and row["contender"] != ENCODER]
    return {key: partial(plot_methods.quality, own) for key, own in grouped(mine, _place).items()}


def _tokens(rows: Rows) -> Figures:
    found = plot_axes.lines_of("tokens", rows)
    return {(_model(lines), name, place): partial(plot_axes.tokens, (place, name), lines) for (place, name), lines in found.items()}


def _scaling(rows: Rows) -> Figures:
    """Figures by model and method; of several settings of one axis, the first."""
    found: dict[tuple[str, ...], dict[str, plot_axes.Lines]] = {}
    for suite, mine in grouped(rows, lambda row: row["suite"]).items():
        for (_, name), lines in plot_axes.lines_of(suite, mine).items():
            found.setdefault((_model(lines), name), {}).setdefault(suite, lines)
    return {key: partial(plot_axes.scaling, by_suite, f"Scaling, {key[1]}, {key[0]}") for key, by_suite in found.items()}


def _waterfall(rows: Rows) -> Figures:
    found = grouped(rows, lambda row: (*_place(row)[:1], method(row), *_place(row)[1:]))
    return {key: partial(plot_waterfall.waterfall, mine) for key, mine in found.items() if _timed(mine)}


def _place(row: Row) -> tuple[str, ...]:
    size = f"{row.get('height')}px" if row.get("height") == row.get("width") else f"{row.get('height')}x{row.get('width')}px"
    return str(row.get("model")), size, f"b{row.get('batch')}", f"{row.get('texts')}texts"


def _model(lines: plot_axes.Lines) -> str:
    return str(next(row for by_value in lines.values() for row in by_value.values()).get("model"))


def _timed(rows: Rows) -> list[Any]:
    return [row for row in rows if row.get("ms") and row["contender"] != ENCODER]


PLOTS = (
    Plot("methods", ("methods",), _methods),
    Plot("peers", ("peers",), _methods),
    Plot("tokens", ("tokens",), _tokens),
    Plot("scaling", ("batch", "texts", "blocks"), _scaling),
    Plot("quality", ("methods",), _quality),
    Plot("waterfall", ("waterfall",), _waterfall),
)


def draw(rows: Rows, folder: Path, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write into the folder what the rows allow; the files, in the order of PLOTS. The same rows give the same SVG.

    Raises:
        FastlocError: matplotlib is not installed. OSError: the folder cannot be written to.
    """
    written = []
    with plotting.style():
        files.make_folder(folder, parents=True, exist_ok=True)
        for name, make in figures(rows).items():
            made = make()
            for suffix in formats:
                written.append(folder / f"{name}.{suffix}")
                plotting.write(made, written[-1])
    return written


def figures(rows: Rows) -> dict[str, Callable[[], Figure]]:
    """The figures that `draw` would write, by file name without suffix; nothing is drawn and matplotlib is not needed."""
    found: dict[str, Callable[[], Figure]] = {}
    for plot in PLOTS:
        drawn = plot.figures([row for suite in plot.suites for row in newest(rows, suite)])
        found |= {name: drawn[key] for key, name in _called(plot.name, list(drawn)).items()}
    return found


def _called(name: str, keys: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """File names: the name alone for one figure; for several with as many parts of their keys as distinguish them."""
    for parts in range(max(map(len, keys), default=0) + 1):
        found = {key: "-".join((name, *map(slug, key[:parts]))) for key in keys}
        if len(set(found.values())) == len(keys):
            break
    return found if keys else {}
