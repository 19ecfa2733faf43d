"""The analyses as plots. Needs matplotlib, the extra `bench`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastloc.utils.plotting import DPI, GREY, PALETTE, figure, style
from fastloc.utils.system.unraised import memory_errors_raised

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plots"]

Rows = list[dict[str, Any]]


def plots(tables: dict[str, Rows], model: str) -> dict[str, bytes]:
    """PNGs by name, one for each table of rows, see `fastloc.analysis.tables`. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib  # noqa: F401

    drawn = {}
    with style():
        for name, rows in tables.items():
            if rows:
                file = io.BytesIO()
                with memory_errors_raised():
                    _PLOTS[name](rows, model).savefig(file, format="png", dpi=DPI)
                drawn[name] = file.getvalue()
    return drawn


def _modules(rows: Rows, model: str) -> Figure:
    """Plot cosine by depth: a colour for positive and negative texts, a line style for each kind of sub-module."""
    words = {"attention": "attention", "ffn": "FFN"}
    made, axes = figure(3.9, f"What each sub-module says of texts, model {model}", columns=2, sharey=False)
    for ax, mode in zip(axes, ("contribution", "accumulated"), strict=True):
        for kind, colour in (("positive", PALETTE[1]), ("negative", PALETTE[0])):
            for module, dashes, marker in (("attention", "-", "o"), ("ffn", "--", "s")):
                chosen = [row for row in rows if (row["mode"], row["kind"], row["module"]) == (mode, kind, module)]
                if chosen:
                    _line(ax, chosen, "cosine", f"{words[module]}, {kind} texts", colour, dashes, marker)
        ax.set_title(mode, loc="left", color=GREY)
        _by_block(ax, rows)
        ax.axhline(0, color=GREY, linewidth=0.8)
    axes[0].set_ylabel("cosine with the text")
    # both panels are full
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=4)
    return made


def _attention(rows: Rows, model: str) -> Figure:
    """Plot lift above and AUC below, for the text's own patch at the left and the object's at the right."""
    made, axes = figure(6.2, f"Where patches look, model {model}", 2, 2, sharex=True, sharey="row")
    anchors = {"text": "of the patch most similar to the text", "object": "of the patch deepest in the object"}
    names = list(dict.fromkeys(row["attention"] for row in rows))
    for place, ax in enumerate(axes):
        key, anchor = ("lift", "auc")[place // 2], list(anchors)[place % 2]
        for name, colour, marker in zip(names, PALETTE, "osD^", strict=False):
            chosen = [row for row in rows if row["anchor"] == anchor and row["attention"] == name]
            _line(ax, chosen, key, "-".join(name), colour, "-", marker)
        ax.axhline(1 if key == "lift" else 0.5, color=GREY, linewidth=0.8)
        if place < 2:
            ax.set_title(anchors[anchor], loc="left", color=GREY)
            _ticks(ax, rows)
        else:
            _by_block(ax, rows)
    axes[0].set_ylabel("attention on the object\nover its share of the area")
    axes[2].set_ylabel("AUC against the mask")
    axes[0].legend(loc="best", ncols=2)
    return made


def _methods(rows: Rows, model: str) -> Figure:
    """Plot a bar for each method, best first, and a dot for each object."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if "score" in row:
            scores.setdefault(row["method"], []).append(row["score"])
    names = sorted(scores, key=lambda name: float(np.mean(scores[name])))
    made, (ax,) = figure(1.3 + 0.24 * max(len(names), 1), f"Is the map on the object or everywhere else? Model {model}")
    means = [float(np.mean(scores[name])) for name in names]
    ax.barh(names, means, color=[PALETTE[0] if mean >= 0 else PALETTE[1] for mean in means], height=0.66, alpha=0.75)
    for place, name in enumerate(names):
        ax.plot(scores[name], [place] * len(scores[name]), "o", color=GREY, markersize=2.5, alpha=0.6)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("mean of the min-maxed map on the object minus beside it (a dot an object)")
    return made


def _line(ax: Axes, rows: Rows, key: str, label: str, colour: str, dashes: str, marker: str) -> None:
    """Plot means by block, and the middle half of all values as a band."""
    blocks = sorted({row["block"] for row in rows})
    by_block = [[row[key] for row in rows if row["block"] == block] for block in blocks]
    ax.plot(blocks, [np.mean(values) for values in by_block], dashes, color=colour, marker=marker, markersize=3.5, label=label)
    low, high = np.transpose([np.percentile(values, (25, 75)) for values in by_block])
    ax.fill_between(blocks, low, high, color=colour, alpha=0.1, linewidth=0)


def _by_block(ax: Axes, rows: Rows) -> None:
    _ticks(ax, rows)
    ax.set_xlabel("block")


def _ticks(ax: Axes, rows: Sequence[dict[str, Any]]) -> None:
    last = max(row["block"] for row in rows)
    ax.set_xticks(range(1, last + 1, max(last // 12, 1)))


_PLOTS = {"modules": _modules, "attention": _attention, "methods": _methods}
