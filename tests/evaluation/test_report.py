"""Reports: pages that load nothing and escape everything, pictures in colours of classes, Markdown without stray markup."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fastloc.evaluation.metrics.summary import Confusion, Estimate, Failure
from fastloc.evaluation.report import pictures
from fastloc.evaluation.report.charts import bar, difference_bar, strip
from fastloc.evaluation.report.compare_page import comparison_page
from fastloc.evaluation.report.content import (
    ClassLine,
    Compared,
    ComparisonContent,
    Figure,
    MethodLine,
    Published,
    RunContent,
    Shown,
    exact,
)
from fastloc.evaluation.report.markdown import comparison_markdown, markdown, methods_markdown
from fastloc.evaluation.report.methods_page import methods_page
from fastloc.evaluation.report.page import page
from fastloc.evaluation.report.pictures import class_colours, fitting, shown_labels, shown_question
from fastloc.evaluation.samples import IGNORE, Question, Sample

# would run, close an element or a cell, or turn the direction of what follows
NASTY = '<script>alert("1")</script>\'&|`*\u202e'


class Reader(HTMLParser):
    """Elements of a page that are open, attributes that load something, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.scripts = 0
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        named = [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        self.loads += [value for value in named if not value.startswith(("#", "data:"))]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def sample(key: str = "street", size: tuple[int, int] = (60, 40)) -> Sample:
    labels = np.zeros((size[1], size[0]), np.int16)
    labels[:, size[0] // 2 :] = 1
    labels[0] = IGNORE
    return Sample(key, Image.new("RGB", size, (200, 30, 30)), labels)


def shown(key: str = "street") -> Shown:
    one = sample(key)
    assert one.labels is not None
    colours, names = class_colours([{0, 1, 2}], 0), ("other", NASTY, "dog")
    return shown_labels(one, np.full_like(one.labels, 2), 0.125, False, colours, names, ["cat → dog"])


def content(name: str = "sclip", value: float = 0.5) -> RunContent:
    return RunContent(
        name=name, method=name, model="ViT-B-16", data=NASTY, protocol="sclip", pictures=9, total=10,
        figures=(Figure("mIoU", Estimate(value, value - 0.02, value + 0.02, 0.01), "over the set"), Figure("pixel accuracy", exact(0.75))),
        classes=(
            ClassLine("cat", Estimate(0.25, 0.2, 0.3, 0.01), 0.5), ClassLine(NASTY, exact(math.nan), 0.0),
            ClassLine("dog", exact(0.75), 0.5),
        ),
        confusions=(Confusion("cat", NASTY, 1200, 0.3),), published=(Published("SCLIP", "ViT-B-16", "sclip", 0.591, NASTY),),
        differences=(NASTY,),
        shown=(shown(NASTY),), failures=(Failure(NASTY, NASTY),), failed=1, facts={"Protocol": (("crop", "224"), ("names", NASTY))},
        changed=frozenset({"crop"}),
    )  # fmt: skip


def comparison() -> ComparisonContent:
    return ComparisonContent(
        first=NASTY, second="gem", data="voc21", pictures=9, alone=(1, 0),
        figures=(Compared("mIoU", 0.5, 0.52, Estimate(0.02, 0.01, 0.03, 0.01)),),
        classes=(Compared(NASTY, 0.5, 0.4, Estimate(-0.1, -0.2, 0.1, 0.01)), Compared("gone", math.nan, 0.4, exact(math.nan))),
        changes=((NASTY, 0.1, 0.9),), settings=(("method", NASTY, "gem"),),
    )  # fmt: skip


def lines() -> list[MethodLine]:
    return [
        MethodLine(content=content("gem", 0.6), report="gem/report.html", difference=exact(math.nan)),
        MethodLine(content=content(NASTY, 0.5), report="other/report.html", difference=Estimate(-0.1, -0.12, -0.08, 0.01)),
    ]


PAGES = {"run": lambda: page(content()), "compare": lambda: comparison_page(comparison()), "methods": lambda: methods_page(lines())}


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_loads_nothing_closes_its_elements_and_escapes(kind: str) -> None:
    text = PAGES[kind]()
    read = Reader(text)
    assert read.open == []
    assert all(each in ("gem/report.html", "other/report.html") for each in read.loads)
    assert "url(" not in text and "@import" not in text
    # the page's own script sorts classes
    assert read.scripts == (kind == "run")
    assert NASTY in read.words and "<script>alert" not in text
    assert text == PAGES[kind]()


def test_a_run_says_how_many_pictures_its_figures_are_of_and_its_intervals() -> None:
    words = Reader(page(content())).words
    for each in ("9 of 10 pictures", "50.00", "48.0 … 52.0", "−9.10", "1 picture could not be used", "12.5 %", "SCLIP"):
        assert each in words, each


def test_classes_go_from_the_highest_to_the_lowest_and_those_without_a_figure_last() -> None:
    values = re.findall(r'<li data-value="([-\d.]+)"', page(content()))
    assert [float(each) for each in values] == [0.75, 0.25, -1.0]


@pytest.mark.parametrize("text", [markdown(content()), comparison_markdown(comparison()), methods_markdown(lines())], ids=list(PAGES))
def test_markdown_has_whole_tables_and_no_markup_of_names(text: str) -> None:
    assert "<script>" not in text and r"\<script\>" in text
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert tables
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_classes_of_one_picture_differ_in_colour_and_the_background_has_none() -> None:
    groups = [{0, *range(start, start + 18)} for start in range(1, 150, 9)]
    colours = class_colours(groups, background=0)
    assert 0 not in colours and IGNORE not in colours
    for group in groups:
        assert len({colours[label] for label in group - {0}}) == len(group) - 1


def test_panels_show_the_labels_where_they_are() -> None:
    made = shown()
    colours = class_colours([{0, 1, 2}], 0)
    truth, predicted = (np.asarray(panel.picture, float) for panel in made.panels[1:])
    assert [panel.caption for panel in made.panels] == ["picture", "truth", "prediction"]
    assert made.legend == ((NASTY, colours[1]), ("dog", colours[2]))
    # ignored: the picture's own colour; background: grey; class 1: towards its colour
    assert np.ptp(truth[20, 10]) == 0 and np.ptp(truth[20, 50]) > 30
    assert np.argmax(truth[20, 50]) == np.argmax(colours[1])
    assert np.argmax(predicted[20, 10]) == np.argmax(colours[2])


def test_a_question_shows_its_mask_its_points_and_its_heat() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:30] = True
    question = Question("a cat", mask=mask, points=((50.0, 20.0, False),), boxes=((10, 10, 30, 30),))
    heat = np.zeros((40, 60), np.float32)
    heat[20, 20] = 1
    made = shown_question(sample(), question, heat, (20, 20), 0.5, True)
    truth = np.asarray(made.panels[1].picture, int)
    assert truth[20, 20, 0] > truth[20, 20, 2] and truth[20, 50, 2] > truth[20, 50, 0]
    assert made.notes == ("“a cat”",) and len(made.panels) == 3


def test_pictures_are_made_smaller_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (420, 420, 3), np.uint8))
    monkeypatch.setattr(pictures, "BYTES", 60_000)
    files = fitting([noise, noise])
    assert sum(len(each) for each, _ in files) <= 60_000
    assert all(max(size) < 420 for _, size in files)


def test_charts_stay_within_their_boxes() -> None:
    assert 'width="100.00"' in bar(Estimate(1.5, 1.2, 1.7, 0.01))
    assert "fill" not in bar(exact(math.nan))
    assert "soft" in difference_bar(Estimate(0.01, -0.01, 0.03, 0.01), 0.03)
    assert "soft" not in difference_bar(Estimate(0.02, 0.01, 0.03, 0.01), 0.03)
    for value in (0.0, 0.004, 0.5, 1.0):
        places = [float(each) for each in re.findall(r'(?:cx|x|x1|x2)="([-\d.]+)%"', strip(exact(value), NASTY, [("other", 0.3)]))]
        assert places and min(places) >= 0 and max(places) <= 100


@pytest.mark.slow("compresses noise several times")
def test_a_page_of_the_largest_content_stays_below_3_mb() -> None:
    random = np.random.default_rng(0)
    worst = []
    for number in range(12):
        noise = random.integers(0, 256, (420, 420, 3), np.uint8)
        one = Sample(f"{number}" * 300, Image.fromarray(noise), random.integers(0, 40, (420, 420)).astype(np.int16))
        assert one.labels is not None
        names = [f"{label} {NASTY}" * 9 for label in range(40)]
        worst.append(shown_labels(one, one.labels[::-1], 0.1, number > 5, class_colours([set(range(40))]), names))
    many = tuple(ClassLine(f"{number} {NASTY}" * 9, Estimate(0.5, 0.4, 0.6, 0.1), 0.001) for number in range(3000))
    assert len(page(replace(content(), shown=tuple(worst), classes=many)).encode()) < 3_000_000
