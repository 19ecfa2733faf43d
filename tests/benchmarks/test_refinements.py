"""The study of refinements: its rows, its table, and the page that shows it."""

import json

import numpy as np
import pytest
from PIL import Image

from fastloc.imaging.geometry import fit
from fastloc.results.result import Result
from gpu_parts.scenes import Scene
from quality import MEASURES
from quality_parts import refinements
from quality_parts.readouts import Bootstrap


def test_rows_are_means_and_differences_of_the_same_questions():
    plain = np.random.default_rng(0).random((60, len(MEASURES)))
    found = {("all", "none"): plain, ("all", "pamr"): plain + 0.125, ("own", "none"): plain, ("own", "propagate"): plain[::-1]}
    rows = refinements.rows_of("gem", found, Bootstrap([3] * 20))
    assert [row["refinement"] for row in rows] == ["none", "pamr", "none", "propagate"]
    assert rows[0]["miou"] == pytest.approx(plain[:, MEASURES.index("miou")].mean(), abs=1e-4)
    assert (rows[1]["change_miou"], rows[1]["change_miou_se"]) == (0.125, 0.0)
    assert rows[3]["change_auc"] == 0
    assert rows[3]["change_auc_se"] > 0.01
    made = refinements.table({"rows": rows})
    assert "| `gem` | all | `pamr` | +12.5 ± 0.0 | +12.5 ± 0.0 | +12.5 ± 0.0 |" in made
    text = "<!-- table: other -->\n| 1 |\n<!-- end -->\n<!-- table: refinements -->\n<!-- end -->\n"
    assert refinements.filled(text, {"rows": rows}) == text.replace("refinements -->\n", f"refinements -->\n{made}")


@pytest.mark.parametrize("order", ["picture", "softmax"])
def test_pamr_of_the_things_alone_is_that_of_all_texts(order):
    random = np.random.default_rng(1)
    picture = Image.fromarray(random.integers(0, 256, (32, 40, 3), dtype=np.uint8))
    similarity = random.normal(size=(4, 4, 5)).astype(np.float32)
    geometry = fit((32, 40), (4, 5), 1)
    result = Result(picture=picture, texts=tuple("abcd"), similarity=similarity, geometry=geometry, order=order, logit_scale=3.0)
    scene = Scene(picture, ("d", "b"), np.zeros((2, 32, 40), bool))
    np.testing.assert_array_equal(refinements.heat(scene, result, "pamr"), result.refined("pamr").heatmaps[[3, 1]])
    np.testing.assert_array_equal(refinements.heat(scene, result, "propagate"), result.refined("propagate").heatmaps[[3, 1]])


def test_the_page_is_what_the_record_says():
    text, record = refinements.PAGE.read_text(encoding="utf-8"), json.loads(refinements.RECORD.read_text(encoding="utf-8"))
    assert refinements.table(record) in text
    assert refinements.filled(text, record) == text, "run `python benchmarks/quality_parts/refinements.py --record`"
