"""`official=True` runs the authors' form; given arguments win over it, and rows without a form stay as they are."""

import pytest

from fastloc.engine.localizer import Localizer
from fastloc.errors import RecipeError
from fastloc.imaging import geometry
from fastloc.recipes import RECIPES, recipe
from fastloc.recipes.official import OFFICIAL, OfficialForm, official_form


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_form_fits_its_row(name: str) -> None:
    form = OFFICIAL[name]
    row = recipe(name, official=True)
    changed = recipe(name, **form.changes)
    assert row == changed and row.name == name
    assert form.note and "\n" not in form.note and not form.note.endswith(".")
    assert form.fit is None or form.fit in geometry.FITS
    for field, value in form.changes.items():
        usual = getattr(RECIPES[name], field, None) if hasattr(RECIPES[name], field) else getattr(RECIPES[name].readout, field)
        assert usual != value, f"{field} of the form is that of the row already"


def test_rows_without_a_form_stay() -> None:
    assert "gem" not in OFFICIAL and official_form("gem") == OfficialForm()
    assert recipe("gem", official=True) == RECIPES["gem"]
    assert recipe("sclip", official=False) == RECIPES["sclip"]
    with pytest.raises(RecipeError, match="unknown method"):
        recipe("gems", official=True)


def test_what_is_given_wins() -> None:
    assert recipe("resclip", official=True, cross_weight=0.1).cross_weight == 0.1
    localizer = Localizer(method="sclip", official=True)
    assert (localizer.input_size, localizer.fit) == (336, "aspect")
    cropping = Localizer(method="sclip", official=True, size=96, fit="crop")
    assert (cropping.input_size, cropping.fit) == (96, "crop")
    # both sides are met exactly
    assert Localizer(method="sclip", official=True, size=(64, 96)).fit == "stretch"


def test_a_localizer_that_is_official_stays_so() -> None:
    localizer = Localizer(method="gem")
    usual = localizer.input_size, localizer.fit
    official = localizer.with_method("clip_surgery", official=True)
    assert (official.input_size, official.fit) == (512, "stretch") != usual
    assert official.recipe == recipe("clip_surgery", official=True)
    later = official.with_method("clearclip")
    assert later.official and (later.input_size, later.fit) == (448, "aspect")
    back = later.with_method("clip_surgery", official=False)
    assert not back.official and (back.input_size, back.fit) == usual
    assert not localizer.official
