"""All methods side by side: the sheet's tiles, the page's text, and the row of a method that cannot run."""

import dataclasses
import re
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fastloc import Localizer
from fastloc.analysis.contact_sheet import _layout, _wrapped, milliseconds, sheet
from fastloc.analysis.explain import Explained, explain
from fastloc.analysis.html_page import page
from fastloc.cli import main
from fastloc.errors import FastlocError
from fastloc.imaging import images
from fastloc.imaging.overlay import colour_table, heat_tile
from fastloc.recipes import RECIPES

pytestmark = pytest.mark.filterwarnings("ignore::fastloc.errors.FastlocWarning")
TEXTS = ("cat", "<b>pizza</b> & \"more\"")


@cache
def engine() -> Localizer:
    return Localizer(method="itsm", size=64)


def picture(size=(60, 80)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))


@pytest.fixture(scope="module")
def explained() -> Explained:
    rows = [RECIPES["itsm"], RECIPES["gem"], dataclasses.replace(RECIPES["sclip"], name="gone"), RECIPES["clip_surgery"]]
    return explain(engine(), picture(), TEXTS, rows, name="a&b.png", runs=1)


def test_a_column_is_what_the_method_alone_gives(explained):
    result = engine().with_method("gem")(picture(), TEXTS)
    column = explained.columns[1]
    assert [each.method for each in explained.columns] == ["itsm", "gem", "gone", "clip_surgery"]
    assert column.points == tuple(result.points())
    for tile, heat, point in zip(column.tiles, result.heatmaps, result.points(), strict=True):
        expected = heat_tile(explained.picture, heat, (point.x, point.y), colour_table("turbo"))
        assert tile.tobytes() == expected.tobytes()
    assert column.ms > 0 and column.plan == engine().with_method("gem").plan.explain()
    parameters = dict(column.parameters)
    assert parameters["terms"] == "vv, kk, qq" and parameters["size"] == "64" and parameters["order"] == "picture"
    assert "bias_std" not in parameters


def test_a_method_that_cannot_run_says_why(explained):
    column = explained.columns[2]
    assert column.refusal.startswith("unknown method 'gone'") and not column.fault
    assert not column.tiles and column.ms is None


def test_a_method_that_breaks_costs_nobody_else_anything(monkeypatch):
    usual = Localizer.with_method

    def broken(self, method, **choices):
        if method == "gem":
            raise AttributeError("no\nsuch thing")
        return usual(self, method, **choices)

    monkeypatch.setattr(Localizer, "with_method", broken)
    first, second = explain(engine(), picture(), ["cat"], [RECIPES["gem"], RECIPES["itsm"]], runs=1).columns
    assert first.fault and first.refusal == "broke: AttributeError: no such thing" and len(second.tiles) == 1
    with pytest.raises(FastlocError, match="no method could run: gem"):
        explain(engine(), picture(), ["cat"], [RECIPES["gem"]])


def test_the_sheet_has_every_tile_in_its_place(explained):
    made, layout = np.asarray(sheet(explained)), _layout(explained)
    height, width = layout.tile[1], layout.tile[0]
    assert (layout.across, layout.bands) == (4, 1)
    for text in range(2):
        top = layout.top(0, text)
        shown = [explained.picture, *(column.tiles[text] if column.tiles else None for column in explained.columns)]
        for place, tile in enumerate(shown):
            found = made[top : top + height, layout.left(place) : layout.left(place) + width]
            if tile is not None:
                np.testing.assert_array_equal(found, np.asarray(tile), f"text {text}, place {place}")
            else:
                # grey, with the reason in the first row only
                ink = (found != (240, 242, 244)).any()
                assert ink == (text == 0)


@pytest.mark.parametrize("count", [1, 6, 7, 25])
@pytest.mark.parametrize("size", [(60, 80), (500, 40), (40, 500)])
def test_any_number_of_columns_fits(explained, count, size):
    base = explain(engine(), picture(size), ["cat"], [RECIPES["itsm"]], runs=1)
    many = dataclasses.replace(base, columns=base.columns * count)
    layout = _layout(many)
    made = sheet(many)
    assert made.width == layout.width <= 2200 and made.height > layout.bands * layout.band
    assert layout.across * layout.bands >= count > layout.across * (layout.bands - 1)
    # columns do not touch
    assert layout.left(1) - layout.left(0) >= layout.tile[0] + 10


def test_words_are_wrapped_and_times_are_short():
    lines = _wrapped("many words that do not fit on one line of this width " * 3, 120, 13)
    assert len(lines) > 5 and " ".join(lines) == ("many words that do not fit on one line of this width " * 3).strip()
    assert [milliseconds(each) for each in (0.1234, 3.456, 12.3, 456.7, 3210)] == ["0.123 ms", "3.46 ms", "12.3 ms", "457 ms", "3.21 s"]


class Page(HTMLParser):
    """The page's elements, and its text by element."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "meta"):
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_holds_everything_and_loads_nothing(explained):
    text = page(explained)
    read = Page(text)
    assert not read.opened
    sources = [attributes["src"] for tag, attributes in read.tags if tag == "img"]
    # the picture, and two texts of three methods
    assert len(sources) == 1 + 2 * 3 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not [tag for tag, _ in read.tags if tag in ("script", "link", "iframe", "b")]
    assert not re.search(r"https?://|url\(|@import", text)
    words = "".join(read.words)
    for phrase in ("a&b.png", TEXTS[1], "GEM (Bousselham et al., CVPR 2024)", "unknown method 'gone'", "plan for gem", "vv, kk, qq"):
        assert phrase in words, phrase
    assert "prefers-color-scheme: dark" in text


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture().save("scene.png")
    arguments = ["explain", "scene.png", "-t", "cat", "dog", "--size", "64", "--runs", "1", "-o", "sheet.webp", "--html", "page.html"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in RECIPES) and "warm pass" in out
    with Image.open("sheet.webp") as found:
        assert found.format == "WEBP"
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(f"<h2>{name}</h2>" in text for name in RECIPES)
    assert main([*arguments[:-4], "--methods", "gem", "itsm", "gem", "-o", "few.png"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:4]] == ["gem", "itsm"]
    assert images.load("few.png").width < images.load("sheet.webp").width
    assert sorted(each.name for each in tmp_path.iterdir()) == ["few.png", "page.html", "scene.png", "sheet.webp"]


def test_a_broken_method_is_reported_at_the_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture().save("scene.png")
    usual = Localizer.pixels
    monkeypatch.setattr(Localizer, "pixels", lambda self, *args: usual(self, *args) / (1 // (self.method != "rclip")))
    assert main(["explain", "scene.png", "-t", "cat", "--size", "64", "--runs", "1", "--methods", "itsm", "rclip"]) == 1
    ended = capsys.readouterr()
    assert "rclip broke: ZeroDivisionError" in ended.err and (tmp_path / "fastloc-explain.png").exists()


def test_a_sheet_that_its_format_cannot_hold(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture().save("scene.png")
    monkeypatch.setattr("fastloc.analysis.contact_sheet.sheet", lambda found: Image.new("RGB", (8, 20_000)))
    arguments = ["explain", "scene.png", "-t", "cat", "--size", "64", "--methods", "itsm", "--runs", "1", "-o"]
    assert main([*arguments, "sheet.webp", "--html", "page.html"]) == 1
    assert "sheet.webp: a sheet of 8 x 20000 cannot be written so" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["scene.png"]
    assert main([*arguments, "sheet.png"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "-t", "cat"], "no such file"),
        (["scene.png", "-t", "cat", "--methods", "gme"], "unknown method 'gme': did you mean 'gem'"),
        (["scene.png", "-t", "cat", "-o", "sheet.txt"], "the extension must be that of a picture format"),
        (["scene.png", "-t", "cat", "-o", "no/sheet.png"], "does not exist"),
        (["scene.png", "-t", "cat", "--html", "no/page.html"], "does not exist"),
        (["scene.png", "-t", "cat", "-o", "scene.png"], "over the picture"),
        (["scene.png", "-t", "cat", "-o", "a.png", "--html", "a.png"], "must be two files"),
        (["scene.png", "-t", "cat", "--model", "x.onnx"], "--model must be no exported file"),
        (["scene.png", "-t", "cat", "--model", "nothing"], "unknown model"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    picture().save("scene.png")
    before = (tmp_path / "scene.png").read_bytes()
    assert main(["explain", *arguments]) == 1
    found = capsys.readouterr().err.strip().splitlines()
    assert len(found) == 1 and message in found[0], found
    assert [each.name for each in tmp_path.iterdir()] == ["scene.png"] and (tmp_path / "scene.png").read_bytes() == before
