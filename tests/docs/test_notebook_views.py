"""Results and plans show themselves in notebooks."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from fastloc.engine.plan import FIELDS, Plan, PlanChoice
from fastloc.imaging.geometry import fit
from fastloc.results.result import Result

TEXTS = ("a cat", "<b>R&D</b>")


@pytest.fixture
def result() -> Result:
    geometry = fit((40, 60), (32, 48), 16, "stretch")
    similarity = np.random.default_rng(0).random((2, 2, 3), dtype=np.float32)
    return Result(
        picture=Image.new("RGB", (60, 40), "white"), texts=TEXTS, similarity=similarity, geometry=geometry, order="grid",
        scores=np.array([0.75, 0.25]), method="gem", model="tiny",
    )  # fmt: skip


def test_a_result_is_its_overlay(result: Result) -> None:
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert shown.format == "PNG" and np.array_equal(np.asarray(shown), np.asarray(result.overlay()))


def test_a_result_s_table_has_a_line_a_text(result: Result) -> None:
    html = result._repr_html_()
    assert html.startswith('<img src="data:image/webp;base64,') and "<b>" not in html
    lines = re.findall("<tr>(.*?)</tr>", html)
    for line, point, score in zip(lines[1:], result.points(), ("0.75", "0.25"), strict=True):
        text, *cells = re.findall("<td>(.*?)</td>", line)
        assert text in {"a cat", "&lt;b&gt;R&amp;D&lt;/b&gt;"}
        assert cells == [score, str(point.x), str(point.y), f"{point.similarity:.3f}"]


def test_a_result_without_scores_leaves_them_empty(result: Result) -> None:
    bare = Result(picture=result.picture, texts=TEXTS, similarity=result.similarity, geometry=result.geometry, order="grid")
    assert bare._repr_html_().count("<td></td>") == 2


def test_a_plan_is_a_table_of_its_choices() -> None:
    choice = PlanChoice("launch", "eager", "fewer than 2 passes", (("graph", "needs <CUDA>"),))
    plan = Plan(*(["torch"] * len(FIELDS)), title="plan for gem & co", decisions=(choice,))
    html = plan._repr_html_()
    assert "plan for gem &amp; co" in html
    assert "<td>launch</td><td>eager</td><td>fewer than 2 passes</td><td>graph: needs &lt;CUDA&gt;</td>" in html
