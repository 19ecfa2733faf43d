"""Style and writing of all plots: white and plain, in colours that colour-blind readers can distinguish, legible 800 pixels wide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import replacing
from fastloc.utils.system import files
from fastloc.utils.system.unraised import memory_errors_raised

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# inches, of which an SVG has 72 points and a PNG DPI pixels
WIDTH, DPI = 8.0, 200
GREY, LIGHT = "#555555", "#dddddd"
# Okabe and Ito's, without yellow, which is not seen on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7F3C8D", "#8C6D31")
_RC = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8.5, "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.linewidth": 0.8,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": LIGHT, "grid.linewidth": 0.6, "xtick.color": GREY, "ytick.color": GREY,
    "xtick.labelcolor": "black", "ytick.labelcolor": "black", "legend.frameon": False, "figure.facecolor": "white", "lines.linewidth": 1.4,
    "lines.markersize": 5, "axes.formatter.useoffset": False,
    # the same rows give the same bytes, and letters look the same everywhere
    "svg.hashsalt": "fastloc", "svg.fonttype": "path",
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Context in which plots are drawn and written in this style, whatever the user's own matplotlib settings are.

    Raises:
        FastlocError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise FastlocError(f'plots need matplotlib ({error}): pip install "fastloc[bench]"') from error
    settings: Any = {**matplotlib.rcParamsDefault, **_RC}
    # the back end is not a matter of looks, and figures made here have none
    settings.pop("backend", None)
    with matplotlib.rc_context(settings):
        yield


def figure(height: float, title: str, rows: int = 1, columns: int = 1, **more: Any) -> tuple[Figure, list[Axes]]:
    """A figure of WIDTH x height inches with its title at the left, and its axes in reading order."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH, height), layout="constrained")
    made.suptitle(title, x=0.01, ha="left", weight="bold", size=11)
    return made, list(made.subplots(rows, columns, squeeze=False, **more).flat)


def write(made: Figure, path: Path) -> None:
    """Write the figure in the format of the path's suffix; an existing file is replaced atomically."""
    # a date would make every file another one
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:], {})
    with replacing(path) as part, files.opened(part) as file, memory_errors_raised():
        made.savefig(file, format=path.suffix[1:], dpi=DPI, metadata=metadata)


def halo() -> Any:
    """A white outline for letters that lines may cross."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def plain_ticks(axis: Any, values: Iterable[float], labels: Iterable[str] | None = None) -> None:
    """Ticks at these values and nowhere else, written as plain numbers, also on a logarithmic axis."""
    from matplotlib.ticker import FixedLocator, NullLocator

    values = list(values)
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_ticklabels(list(labels) if labels is not None else [f"{value:g}" for value in values])


def log_numbers(axis: Any, most: int = 9) -> None:
    """Plain numbers on a logarithmic axis: 1, 2, 5, 10 …, fewer where there would be more than `most`."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    kinds = [[sub * 10.0**power for power in decades for sub in subs] for subs in ((1, 2, 5), (1, 3), (1,))]
    there = [[value for value in kind if low <= value <= high] for kind in kinds]
    axis.set_major_locator(FixedLocator(next((values for values in there if len(values) <= most), there[-1])))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(NullFormatter())


def spread(targets: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions as near to the requested ones as a minimum gap allows, ascending; a smaller gap where there is no room for all."""
    order = sorted(range(len(targets)), key=lambda i: targets[i])
    gap = min(gap, (high - low) / max(1, len(targets) - 1))
    places = [max(low, min(high, targets[i])) for i in order]
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + gap)
    places[-1:] = [min(place, high) for place in places[-1:]]
    for k in reversed(range(len(places) - 1)):
        places[k] = min(places[k], places[k + 1] - gap)
    return [places[order.index(i)] for i in range(len(targets))]
