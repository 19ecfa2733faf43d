"""A recommended method needs no file: a model without temperatures is measured once, and "best" takes what the measurements say."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from doc_tables import evidence
from fastloc import embedded
from fastloc.embedded import SAMPLES
from fastloc.engine import best_method, measured_temperatures
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocWarning, ModelError, RecipeError
from fastloc.recipes import RECIPES
from fastloc.recipes.temperatures import Temperatures, shipped_with

SAMPLE = SAMPLES / "garden.webp"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for measurements."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(measured_temperatures, "user_cache", lambda: folder)
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """The embedded model in a folder of its own, without its table."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for file in (embedded.CONFIG, embedded.MODEL):
        shutil.copy(file, folder / ("open_clip_model.safetensors" if file == embedded.MODEL else file.name))
    return str(folder)


def silent(model: str, **options: object) -> Localizer:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Localizer(model, method="gem_calibrated", **options)  # type: ignore[arg-type]


def test_a_model_without_a_table_is_measured_once(bare: str, cache: Path) -> None:
    message = r"without inverse temperatures: measured for 'gem_calibrated' on 3 .* in \d+\.\d s, kept in .*\.json"
    with pytest.warns(FastlocWarning, match=message):
        first = Localizer(bare, method="gem_calibrated")
    (kept,) = cache.rglob("*.json")
    assert Temperatures.load(kept).tower.startswith("sha256:" + kept.name[:32])
    assert silent(bare).recipe == first.recipe
    # what fastloc ships was measured on other pictures of the same kind
    shipped = Temperatures.load(shipped_with("embedded") or "").table_for(RECIPES["gem_calibrated"])
    np.testing.assert_allclose(np.log(first.recipe.inv_temp), np.log(shipped), atol=0.5)  # type: ignore[arg-type]
    found = first(SAMPLE, "dog").similarity, Localizer(method="gem_calibrated")(SAMPLE, "dog").similarity
    assert np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1] > 0.99


def test_other_blocks_are_another_measurement(bare: str, cache: Path) -> None:
    for blocks in (1, 2):
        with pytest.warns(FastlocWarning, match="measured"):
            Localizer(bare, method="gem_calibrated", blocks=blocks)
    assert len(list(cache.rglob("*.json"))) == 2


def test_a_damaged_file_is_measured_again(bare: str, cache: Path) -> None:
    with pytest.warns(FastlocWarning, match="measured"):
        first = Localizer(bare, method="gem_calibrated", blocks=1)
    (kept,) = cache.rglob("*.json")
    kept.write_text(kept.read_text()[:-20])
    with pytest.warns(FastlocWarning, match="measured"):
        assert Localizer(bare, method="gem_calibrated", blocks=1).recipe == first.recipe
    assert silent(bare, blocks=1).recipe == first.recipe


def test_where_nothing_can_be_kept_the_call_goes_through(bare: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(measured_temperatures, "user_cache", lambda: tmp_path / "file")
    with pytest.warns(FastlocWarning, match="not kept: "):
        localizer = Localizer(bare, method="gem_calibrated", blocks=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert localizer.with_method("gem").with_method("gem_calibrated", blocks=1).recipe == localizer.recipe


def test_measuring_can_be_refused(bare: str, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"needs inverse temperatures measured on .*, and there are none: leave out temperatures='none'"):
        Localizer(bare, method="gem_calibrated", temperatures="none")
    assert not cache.exists()
    # the model's own table is none that would be measured
    assert Localizer(method="gem_calibrated", temperatures="none").recipe == Localizer(method="gem_calibrated").recipe


def test_best_is_what_the_measurements_say() -> None:
    assert Localizer(method="best").recipe == Localizer(method="gem_calibrated").recipe
    assert Localizer(method="gem").with_method("best", blocks=3).recipe.blocks == 3
    with pytest.raises(RecipeError, match="unknown recipe field"):
        Localizer(method="best", nothing=1)


def test_the_evidence_is_made_of_the_records() -> None:
    assert evidence.main(["--check"]) == 0, "run `python benchmarks/doc_tables/evidence.py`"
    for kind in best_method.evidence().values():
        assert kind.best in RECIPES and kind.why
        for row in kind.rows:
            assert row.questions > 0 and 0 < row.pointing_error < 0.5
    tops = {each.set: each for each in reversed(best_method.evidence()["token"].rows)}
    assert {each.method for each in tops.values()} == {"gem_calibrated"}


def test_a_changed_record_changes_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = json.loads(embedded.QUALITY.read_text())
    content["methods"]["gem"]["pointing"] = 0.999
    (tmp_path / "quality.json").write_text(json.dumps(content))
    monkeypatch.setattr(evidence, "QUALITY", tmp_path / "quality.json")
    assert evidence.main(["--check"]) == 1
