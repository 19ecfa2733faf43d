"""The plots: what is drawn of which rows, nothing cut or written over, the same bytes again, and nothing half written."""

import sys
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

import bench_rows as made
from fastloc.bench.report.plots import draw, figures
from fastloc.bench.report.series import colours, markers
from fastloc.bench.schema import Row, checked
from fastloc.errors import FastlocError
from fastloc.utils import plotting
from fastloc.utils.plotting import GREY, PALETTE, spread

MANY = tuple(f"contender-{i}" for i in range(24))
LONG = "AMD Ryzen Threadripper PRO 7995WX 96-Cores with Radeon Graphics, 192 threads"
DRAWN: dict[str, tuple[list[Row], list[str]]] = {
    "everything": (made.everything(), ["methods-vit-b-16", "methods-embedded", "peers", "tokens", "scaling", "quality", "waterfall"]),
    "one contender": (made.methods(("torch",)), ["methods"]),
    "one bar": (made.methods(("torch",), names=("gem",)), ["methods"]),
    "dozens of contenders": (made.methods(MANY, names=("gem", "sclip"), spread=0.97), ["methods"]),
    "times far apart": (made.methods(("torch", "ort", "onnx", "int8"), spread=4.0), ["methods"]),
    "dozens of points": (made.quality(MANY[:12]), ["methods", "quality"]),
    "two sizes": (made.methods() + made.methods(size=448), ["methods-vit-b-16-224px", "methods-vit-b-16-448px"]),
    "one axis": (made.axis("texts", (1, 10, 100)), ["scaling"]),
    "a single size": ([row for row in made.tokens() if row["tokens"] == 197], ["tokens"]),
    "ceilings": (made.ceilings() + made.cold(), []),
    "nothing but failures": ([made.row("methods", "torch", failed="no", method="gem", model="m", height=8, width=8)], []),
    "no rows": ([], []),
}  # fmt: skip


def test_every_plot_is_drawn_in_both_formats(tmp_path: Path) -> None:
    written = draw(made.waterfall() + made.methods(("torch",), names=("gem",)), tmp_path / "new")
    assert [path.name for path in written] == ["methods.png", "methods.svg", "waterfall.png", "waterfall.svg"]
    for path in written:
        start = path.read_bytes()[:5]
        assert start == (b"\x89PNG\r" if path.suffix == ".png" else b"<?xml"), path
    assert sorted(tmp_path.joinpath("new").iterdir()) == sorted(written)


@pytest.mark.parametrize("name", DRAWN)
def test_what_rows_allow(name: str) -> None:
    rows, expected = DRAWN[name]
    assert list(figures(rows)) == expected


@pytest.mark.slow("draws every plot", quick=2)
@pytest.mark.parametrize("name", [name for name, (_, expected) in DRAWN.items() if expected])
def test_nothing_is_cut_and_no_words_lie_on_others(name: str) -> None:
    rows = [checked({**row, "device": LONG}) for row in DRAWN[name][0]]
    with plotting.style():
        for figure, make in figures(rows).items():
            drawn = make()
            drawn.draw_without_rendering()
            width, height = drawn.get_size_inches()
            box = drawn.get_tightbbox()
            room = 0.02
            inside = box.x0 > -room and box.y0 > -room and box.x1 < width + room and box.y1 < height + room
            assert inside, f"{figure} of {name}: {box} is not within {width} x {height} inches"
            texts = dict(words(drawn))
            for (one, left), (other, right) in combinations(texts.items(), 2):
                assert not left.overlaps(right), f"{figure} of {name}: {one!r} lies on {other!r}"


def words(drawn: Any) -> Iterator[tuple[tuple[int, str], Any]]:
    """Titles, notes and legends with where they are, a little smaller than they are."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    texts = [drawn._suptitle, *(text for legend in drawn.legends for text in legend.get_texts())]
    for ax in drawn.axes:
        legend = ax.get_legend()
        texts += [*ax.texts, ax._left_title, ax.xaxis.label, ax.yaxis.label, *(legend.get_texts() if legend else [])]
    for i, text in enumerate(texts):
        lines = text.get_text().split("\n")
        filled = [k for k, line in enumerate(lines) if line.strip()]
        if filled:
            # without an annotation's arrow; empty lines are there to keep room
            box = Text.get_window_extent(text)
            line = box.height / len(lines)
            low, high = box.y0 + line * (len(lines) - 1 - filled[-1]), box.y1 - line * filled[0]
            yield (i, text.get_text()), Bbox.from_extents(box.x0 + 1, low + 1, box.x1 - 1, high - 1)


def test_the_same_rows_give_the_same_bytes_whatever_the_user_s_settings(tmp_path: Path) -> None:
    import matplotlib

    rows = made.waterfall() + made.axis("batch", (1, 2, 4))
    first = [path.read_bytes() for path in draw(rows, tmp_path, ("svg",))]
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.grid": False}):
        again = [path.read_bytes() for path in draw(rows, tmp_path / "again", ("svg",))]
        assert matplotlib.rcParams["font.size"] == 30
    assert len(first) == 2 and first == again
    assert not any(b"<dc:date>" in each for each in first)


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    def save(self: Figure, file: Any, **options: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    (tmp_path / "waterfall.png").write_text("old")
    monkeypatch.setattr(Figure, "savefig", save)
    with pytest.raises(OSError, match="no space left"):
        draw(made.waterfall(), tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("waterfall.png", "old")]


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    # what would be drawn is known all the same
    assert list(figures(made.waterfall())) == ["waterfall"]
    with pytest.raises(FastlocError, match=r'pip install "fastloc\[bench\]"'):
        draw(made.waterfall(), tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


def test_a_curve_is_drawn_only_over_what_was_measured() -> None:
    with plotting.style():
        drawn = figures(made.tokens())["tokens"]()
    top, low = drawn.axes
    assert max(line.get_xdata()[-1] for line in top.lines) == 7057
    (cross,) = [line for line in low.lines if line.get_marker() == "x"]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (15877, 48400)
    assert [text.get_text() for text in low.texts] == ["official does not fit:\nit would take 48.4 GB"]
    assert "official: 6 + 0.6 N + 4e-4 N²" in [text.get_text() for text in top.get_legend().get_texts()]


def test_bars_are_as_long_as_times_and_logarithmic_ones_are_no_bars() -> None:
    with plotting.style():
        near, far = (figures(DRAWN[name][0])["methods"]() for name in ("one contender", "times far apart"))
    assert [bar.get_width() for bar in near.axes[0].patches] == pytest.approx([100 * (1 + 0.08 * i) for i in range(8)])
    assert far.axes[0].get_xscale() == "log" and not any(ax.patches for ax in far.axes)


@pytest.mark.parametrize("name", ["one contender", "times far apart"])
def test_whiskers_and_numbers_behind_them_are_within_the_axes(name: str) -> None:
    rows = [checked({**row, "ms_p80": 3 * row["ms"]}) for row in DRAWN[name][0]]
    with plotting.style():
        drawn = figures(rows)["methods"]()
        drawn.draw_without_rendering()
    for ax in drawn.axes:
        ends = [text.get_window_extent().x1 for text in ax.texts if "encoder" not in text.get_text()]
        assert len(ends) == sum(1 for line in ax.lines if len(line.get_xdata()) == 2 and line.get_color() == "black") - 1
        assert max(ends) < ax.bbox.x1 + 2, f"numbers end at {max(ends)}, the axes at {ax.bbox.x1}"


def test_a_legend_hides_no_point_and_memory_that_is_chance_is_not_drawn() -> None:
    rows = [row for row in made.tokens() if row["tokens"] < 800 or "needs_mb" in row]
    steep = [checked({**row, "ms": row["ms"] ** 2, "working_mb": 0.02 if row["contender"] == "torch" else 5.0}) if "ms" in row else row
             for row in rows]  # fmt: skip
    with plotting.style():
        drawn = figures(steep)["tokens"]()
        drawn.draw_without_rendering()
        top, low = drawn.axes
        box = top.get_legend().get_window_extent()
        points = [tuple(top.transData.transform(point)) for line in top.lines for point in line.get_xydata()]
    assert not [point for point in points if box.contains(*point)]
    assert low.get_ylim()[0] == 1 and low.get_ylabel() == "working memory, MB, from 1 on"


def test_a_step_that_costs_is_red_and_one_that_failed_says_why() -> None:
    rows = made.waterfall()
    same = {key: rows[0][key] for key in ("group", "model", "method", "weights", "height", "width", "batch", "texts")}
    failed = made.row("waterfall", "torch", step="last", failed="out of memory", **same)
    with plotting.style():
        ax = figures([*rows, failed])["waterfall"]().axes[0]
        from matplotlib.colors import to_hex

        red = [(bar.get_x(), bar.get_width()) for bar in ax.patches if to_hex(bar.get_facecolor()).upper() == PALETTE[1]]
    assert red == [(262, 9)]
    assert any("out of memory" in text.get_text() for text in ax.texts)


def test_contenders_have_colours_and_signs_of_their_own() -> None:
    found = colours(("encoder", "ort", "torch", "new", "newer"))
    assert found["encoder"] == GREY and (found["torch"], found["ort"]) == (PALETTE[0], PALETTE[2])
    assert len(set(found.values())) == 5
    signs = markers(MANY)
    assert len({(colours(MANY)[name], signs[name]) for name in MANY}) == len(MANY)


@pytest.mark.parametrize("expected", [[5.0], [50.0, 50.0, 50.0], [0.0, 1.0, 99.0, 100.0], [3.0, 90.0, 2.0, 91.0, 1.0], [50.0] * 40])
def test_names_are_spread_without_changing_their_order(expected: list[float]) -> None:
    places = spread(expected, 4.0, 2.0, 98.0)
    order = sorted(range(len(expected)), key=lambda i: expected[i])
    ordered = [places[i] for i in order]
    gap = min(4.0, 96.0 / max(1, len(expected) - 1))
    assert all(after - before >= gap - 1e-9 for before, after in pairwise(ordered)), places
    assert min(places) >= 2 - 1e-9 and max(places) <= 98 + 1e-9
