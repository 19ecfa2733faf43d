"""Sizes that would take gigabytes are refused, and those that take minutes are announced, before anything starts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastloc import Localizer, OnnxLocalizer, cli
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine import cost
from fastloc.errors import FastlocError, FastlocWarning
from fastloc.imaging.geometry import Geometry, fit
from fastloc.recipes import RECIPES
from fastloc.results.result import Result

VIT_B_16 = ModelSpec(width=768, layers=12, heads=12, patch=(16, 16), image=(224, 224), embed=512)


def test_a_gigantic_input_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for engine in (Localizer, OnnxLocalizer):
        with pytest.raises(FastlocError, match="at most 67,108,864 pixels and 262,144 patches, got size 20000"):
            engine(size=20000)
    assert cli.main(["locate", "a.png", "-t", "cat", "--size", "20000"]) == 1
    assert "got size 20000" in capsys.readouterr().err


def test_patches_count_too_and_a_classifier_has_none() -> None:
    with pytest.raises(FastlocError, match="patches"):
        fit((100, 100), 4096, 4)
    assert fit((100, 100), 4096, 1).input == (4096, 4096)


def test_operations_are_those_of_the_usual_count() -> None:
    # ViT-B/16 at 224: 17.6 G multiply-adds, as published tables have it, without the patch embedding's 0.1
    assert cost.operations(VIT_B_16, (224, 224)) / 2e9 == pytest.approx(17.5, rel=0.02)


def test_a_costly_input_is_announced() -> None:
    with pytest.warns(FastlocWarning, match=r"an input of 2048 x 2048 takes about \d+ TFLOP"):
        cost.announce(VIT_B_16, (2048, 2048))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cost.announce(VIT_B_16, (1024, 1024))


def test_maps_that_are_made_anew_are_announced() -> None:
    row, most = RECIPES["cliper"], 64 * 16
    message = r"18 times for it, because kept they would take 0\.8 GB; a smaller --size"
    with pytest.warns(FastlocWarning, match=message) as caught:
        cost.announce(VIT_B_16, (most, most), row)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # 63 x 63 patches and a class token: one head's map is 15.8 million numbers
        cost.announce(VIT_B_16, (most - 16, most - 16), row)
        cost.announce(VIT_B_16, (most, most), RECIPES["rollout"])


def test_levels_are_counted() -> None:
    tokens, width, layers = 28 * 28 + 1, 768, 12
    plain, cliper = (cost.operations(VIT_B_16, (448, 448), row) for row in (None, RECIPES["cliper"]))
    assert cliper - plain == layers * tokens * (4 * width**2 + 2 * width * 512 + 2 * tokens * width)
    # each pass makes the maps of all blocks but the last
    large, small = (cost.operations(VIT_B_16, (side, side), RECIPES["cliper"]) for side in (1024, 1008))
    assert large > small + 18 * (layers - 1) * 2 * 4097**2 * width


def test_maps_that_memory_would_not_hold_are_refused_and_points_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    geometry: Geometry = fit((400, 500), (40, 50), 10)
    similarity = np.random.default_rng(0).standard_normal((6, 4, 5)).astype(np.float32)
    result = Result(picture=Image.new("RGB", (500, 400)), texts=tuple("abcdef"), similarity=similarity, geometry=geometry, order="picture")
    expected = result.points(), result.boxes()
    small = Result(picture=result.picture, texts=result.texts, similarity=similarity, geometry=geometry, order="picture")
    monkeypatch.setattr(Result, "max_map_bytes", 6 * 400 * 500 * 4 - 1)
    with pytest.raises(FastlocError, match=r"heatmaps must take at most .* bytes, got 4,800,000: 6 texts on 400 x 500"):
        _ = small.heatmaps
    # what is read off one map after the other needs one at a time
    assert (small.points(), small.boxes()) == expected
