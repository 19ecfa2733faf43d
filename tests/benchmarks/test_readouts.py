"""The study of read-outs: its comparisons and their errors."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from doc_tables.markdown_table import TableError
from fastloc.recipes import RECIPES
from quality import MEASURES, auc
from quality_parts import readouts, readouts_tables
from quality_parts.readouts import Bootstrap, Option, differences


def test_the_area_is_that_of_the_roc_curve():
    rng = np.random.default_rng(0)
    # many equal values, which count half
    values, mask = rng.integers(0, 9, 400).astype(np.float32), rng.random(400) < 0.2
    inside, outside = values[mask], values[~mask]
    pairs = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
    assert auc(inside, outside) == pytest.approx(pairs, abs=1e-12)
    sklearn = pytest.importorskip("sklearn.metrics")
    assert auc(inside, outside) == pytest.approx(sklearn.roc_auc_score(mask, values), abs=1e-12)


def model(rope: object, changes: str = "gem"):
    """A stand-in that knows recipes alone; `changes` has recommended parameters."""

    def with_method(name: str, recommended: bool = True) -> SimpleNamespace:
        row = RECIPES[name]
        return SimpleNamespace(recipe=row if not recommended or name != changes else replace(row, iterations=0))

    spec = SimpleNamespace(rope=rope)
    return SimpleNamespace(source=SimpleNamespace(vit=SimpleNamespace(spec=spec)), with_method=with_method)


def test_every_method_is_measured_in_the_options_that_it_has():
    plain, turning = (list(readouts.options(model(rope), readouts.methods())) for rope in (None, object()))
    assert {each.method for each in plain} == {name for name, row in RECIPES.items() if not row.trained} - {"gem_calibrated"}
    assert {each.rotary for each in plain} == {None}
    assert {(each.parameters, each.patch_read) for each in plain if each.method == "gem"} == {
        (parameters, read) for parameters in ("official", "recommended") for read in ("pool", "value")
    }
    assert {each.patch_read for each in plain if each.method == "legrad"} == {None}
    # v-v attention and attention of a patch to itself read no queries and keys
    turned = {each.method for each in turning if each.rotary is False}
    published = {"gem", "gem_matched", "sclip", "clearclip", "naclip", "cliptrase", "resclip"}
    assert turned == published | {"pearl", "itaclip", "sc_clip", "sfp"}
    assert len({each.key for each in turning}) == len(turning)


def test_errors_are_of_scenes_and_not_of_questions():
    rng = np.random.default_rng(1)
    # all questions of a scene are answered alike
    values = np.repeat(rng.random((200, 1)) < 0.5, 4, axis=0).astype(np.float64).repeat(len(MEASURES), 1)
    summary = Bootstrap([4] * 200).summary(values)
    assert summary["pointing"] == pytest.approx(values[:, 0].mean(), abs=1e-4)
    assert summary["pointing_se"] == pytest.approx(0.5 / np.sqrt(200), rel=0.1)


def test_a_difference_is_of_the_same_questions():
    rng = np.random.default_rng(2)
    pool = rng.random((90, len(MEASURES)))
    found = {Option("gem", "official", "pool", None): pool, Option("gem", "official", "value", None): pool + 0.25}
    found[Option("rollout", "official", None, None)] = pool
    one, mean, working = differences(found, Bootstrap([3] * 30))
    assert (one["method"], one["patch_read"], one["pointing"], one["pointing_se"]) == ("gem", "value - pool", 0.25, 0.0)
    assert (mean["method"], mean["over"], mean["pairs"], mean["auc"]) == ("mean", "all", 1, 0.25)
    assert (working["over"], working["pairs"]) == ("works", 1)
    # the better of the two is at 0.6
    poor = {option: values - 0.15 for option, values in found.items()}
    assert [row.get("over") for row in differences(poor, Bootstrap([3] * 30))] == [None, "all"]


def made_up(rope: bool) -> dict[str, Any]:
    """A tower's section of the record with GEM in its options, where `value` and unrotated are better by 0.25 each."""
    rng = np.random.default_rng(3)
    base, found = 0.2 + rng.random((90, len(MEASURES))) / 2, {}
    for read in ("pool", "value"):
        for rotary in (True, False) if rope else (None,):
            found[Option("gem", "official", read, rotary)] = base + 0.25 * (read == "value") + 0.125 * (rotary is False)
    found[Option("rollout", "official", None, None)] = base
    again = Bootstrap([3] * 30)
    training = {"images": 6400, "steps": 100, "batch": 64, "seconds": 60, "final_loss": 3.5, "parameters": 3000000}
    return {
        "training": training, "presence_auc": 0.8, "rows": readouts.rows_of(found, again), "differences": differences(found, again),
        "refused": [{"method": "grad_eclip", "reason": "no class token"}], "date": "2026-01-01", "commit": "abc", "lacking": [],
    }  # fmt: skip


def test_tables_say_what_the_record_says():
    record: dict[str, Any] = {"works": 0.7, "towers": {"siglip": made_up(False), "pe": made_up(True)}}
    made = {name: table(record) for name, table in readouts_tables.TABLES.items()}
    assert "| SigLIP | `value` less `pool` | all | +25.0 ± 0.0 | +25.0 ± 0.0 | 1 | 1 | 0 |" in made["readouts-summary"]
    assert "| PE | not rotated less rotated | all | +12.5 ± 0.0 | +12.5 ± 0.0 | 2 | 2 | 0 |" in made["readouts-summary"]
    # of the pairs only that of `value` reaches 0.7
    assert "| PE | not rotated less rotated | AUC 0.7 or more | +12.5 ± 0.0 | +12.5 ± 0.0 | 1 | 1 | 0 |" in made["readouts-summary"]
    assert made["readouts-siglip"].count("`gem`") == 1
    assert made["readouts-pe"].count("`gem`") == made["readouts-rotary"].count("`gem`") == 2
    assert "| `gem` | official | not rotated |" in made["readouts-pe"] and "| `gem` | official | `value` |" in made["readouts-rotary"]
    assert "`grad_eclip` does not run: no class token." in made["readouts-others"] and "`gem`" not in made["readouts-others"]
    assert "| pictures | 6,400 | 6,400 |" in made["readouts-training"]
    record["towers"]["pe"]["lacking"] = ["legrad"]
    assert "| `rollout` |" in made["readouts-others"]
    assert "\n\nNot measured: `legrad`.\n" in readouts_tables.TABLES["readouts-others"](record)
    with pytest.raises(TableError, match="there is no table 'none'"):
        readouts_tables.filled("<!-- table: none -->\n<!-- end -->", record)


def test_the_page_is_what_the_record_says():
    text, record = readouts_tables.PAGE.read_text(encoding="utf-8"), json.loads(readouts_tables.RECORD.read_text(encoding="utf-8"))
    assert {block["name"] for block in readouts_tables.page.BLOCK.finditer(text)} == set(readouts_tables.TABLES)
    assert readouts_tables.filled(text, record) == text, "run `python benchmarks/docs.py`"
