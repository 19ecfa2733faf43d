"""Smoothing of maps over frames, and the similarities of heat 0 and 1."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging import heatmaps as maps
from fastloc.imaging.geometry import fit
from fastloc.results.prediction import Prediction
from fastloc.video.locator import Prompts
from fastloc.video.temporal import NARROWS, Temporal, against

GEOMETRY = fit((32, 48), (32, 48), 8)
TEXTS = ("cat", "dog")


def located(similarity: np.ndarray, texts: tuple[str, ...] = TEXTS, **fields) -> Prediction:
    return Prediction(texts=texts, similarity=similarity.astype(np.float32), geometry=GEOMETRY, order="picture", method="gem", **fields)


def grids(seed: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4, 6)).astype(np.float32)


def temporal(smooth: float = 0.0, maps: object = "frame", scale: float = 100.0) -> Temporal:
    return Temporal(smooth, maps, scale)


def prompts(*background: str) -> Prompts:
    return Prompts(TEXTS, background, None)


def heat(found: Prediction) -> np.ndarray:
    return found.result(Image.new("RGB", GEOMETRY.picture[::-1])).heatmaps


def test_without_options_nothing_changes():
    first = located(grids(0), scores=np.float32([1, 2]))
    assert temporal().apply(first, 0.0, prompts()) is first


def test_smoothing_is_the_exponential_mean_of_the_grids_by_time():
    state, times, half = temporal(smooth=0.5), [0.0, 0.1, 0.5, 0.6], 0.5
    want = None
    for i, at in enumerate(times):
        now = grids(i).astype(np.float64)
        if want is None:
            want = now
        else:
            share = 0.5 ** ((at - times[i - 1]) / half)
            want = share * want + (1 - share) * now
        got = state.apply(located(grids(i)), at, prompts())
        np.testing.assert_allclose(got.similarity, want, atol=1e-6)


def test_smoothing_means_the_same_at_every_rate():
    slow, fast = temporal(smooth=0.2), temporal(smooth=0.2)
    step = located(np.zeros((2, 4, 6))), located(np.ones((2, 4, 6)))
    slow.apply(step[0], 0.0, prompts()), fast.apply(step[0], 0.0, prompts())
    for i in range(1, 9):
        last = fast.apply(step[1], i * 0.05, prompts())
    assert float(slow.apply(step[1], 0.4, prompts()).similarity[0, 0, 0]) == pytest.approx(0.75, abs=1e-6)
    assert float(last.similarity[0, 0, 0]) == pytest.approx(0.75, abs=1e-5)


@pytest.mark.parametrize("change", [{"texts": ("cat", "owl")}, {"method": "clip_surgery"}, {"geometry": fit((64, 48), (32, 48), 8)}])
def test_smoothing_begins_anew_when_something_else_is_asked(change: dict):
    state = temporal(smooth=10.0, maps="running")
    state.apply(located(grids(0)), 0.0, prompts())
    other = replace(located(grids(1)), **change)
    got = state.apply(other, 0.1, Prompts(other.texts, (), None))
    np.testing.assert_array_equal(got.similarity, grids(1))
    np.testing.assert_array_equal(got.limits, np.stack([grids(1).min((1, 2)), grids(1).max((1, 2))], 1))


def test_a_running_range_widens_at_once_and_narrows_slowly():
    state, flat = temporal(maps="running"), np.full((2, 4, 6), 0.5)
    wide = flat.copy()
    wide[0, 1, 2], wide[0, 3, 3] = 2.0, -1.0
    assert state.apply(located(wide), 0.0, prompts()).limits[0].tolist() == [-1, 2]
    after = state.apply(located(flat), NARROWS, prompts()).limits
    # half way from what was to what is; the other text never had a range
    np.testing.assert_allclose(after, [[-0.25, 1.25], [0.5, 0.5]], atol=1e-6)
    assert state.apply(located(wide * 3), NARROWS + 0.01, prompts()).limits[0].tolist() == [-3, 6]


def test_a_range_keeps_a_still_map_still_while_another_thing_comes_and_goes():
    still, busy = grids(0), grids(0)
    busy[0, 0, 0] = 9.0
    state = temporal(maps="running")
    shown = [heat(state.apply(located(each), i / 30, prompts()))[0, 24:, 24:] for i, each in enumerate((busy, still, busy, still))]
    alone = [heat(temporal().apply(located(each), 0.0, prompts()))[0, 24:, 24:] for each in (busy, still)]
    assert max(np.abs(np.diff(shown, axis=0)).max(axis=(1, 2))) < 0.02 < 0.2 < np.abs(alone[0] - alone[1]).max()


def test_fixed_limits_are_the_heat_s_ends():
    got = heat(temporal(maps=(-1.0, 1.0)).apply(located(grids(3)), 0.0, prompts()))
    np.testing.assert_allclose(got, np.clip((maps.upsample(grids(3), GEOMETRY) + 1) / 2, 0, 1), atol=1e-6)


def test_reversed_maps_keep_their_limits():
    plain = temporal(maps=(-1.0, 1.0)).apply(located(grids(3)), 0.0, prompts())
    back = temporal(maps=(-1.0, 1.0)).apply(located(grids(3), reverse=True), 0.0, prompts())
    np.testing.assert_allclose(heat(back), 1 - heat(plain), atol=1e-6)


def test_background_is_each_text_s_softmax_against_the_background_alone():
    scores, scale = grids(4, 5).astype(np.float64), 7.0
    got = against(located(scores, (*TEXTS, "sky", "wall", "road")), 2, scale)
    powers = np.exp(scale * scores)
    want = powers[:2] / (powers[:2] + powers[2:].sum(0))
    np.testing.assert_allclose(got.similarity, want, atol=1e-5)
    assert got.texts == TEXTS and got.limits.tolist() == [[0, 1], [0, 1]]
    np.testing.assert_allclose(heat(got), np.clip(maps.upsample(want, GEOMETRY), 0, 1), atol=1e-5)


def test_background_does_not_overflow_and_turns_reversed_maps_round():
    scores = np.full((3, 4, 6), 300.0)
    scores[0] = -300
    got = against(located(scores, (*TEXTS, "sky")), 2, 100.0).similarity
    assert np.isfinite(got).all() and got[0].max() < 1e-20 and np.allclose(got[1], 0.5)
    back = against(located(-scores, (*TEXTS, "sky"), reverse=True), 2, 100.0)
    np.testing.assert_array_equal(back.similarity, got)
    assert not back.reverse


def test_a_map_of_nothing_is_hot_by_its_own_range_and_cold_against_the_background():
    noise = 0.001 * grids(5, 4)
    noise[2:] += 0.3
    every = located(noise, (*TEXTS, "sky", "wall"))
    frame = temporal().apply(every, 0.0, prompts("sky", "wall"))
    calm = temporal(maps="background", scale=100).apply(every, 0.0, prompts("sky", "wall"))
    assert heat(frame).max() == 1.0 and heat(calm).max() < 1e-6
    assert frame.texts == calm.texts == TEXTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smooth": -1}, "smooth must be a half-life in seconds, 0 or more, got -1"),
        ({"smooth": float("nan")}, "smooth .* got nan"),
        ({"maps": "fram"}, r"unknown kind of maps 'fram': did you mean 'frame'.*two similarities"),
        ({"maps": (1, 0)}, r"maps must be one of frame, running, background, or two .*, got \(1, 0\)"),
        ({"maps": (0.1,)}, "two similarities"),
        ({"maps": 3}, "maps .* got 3"),
        ({"scale": 0}, "scale .* got 0"),
    ],
)
def test_what_cannot_be_is_reported(options: dict, message: str):
    with pytest.raises(FastlocError, match=message):
        temporal(**options)


def test_methods_without_such_a_range_say_so():
    shares = replace(located(grids(0)), order="softmax", logit_scale=40.0, method="naclip")
    with pytest.raises(FastlocError, match="'naclip', whose heat is a text's share"):
        temporal(maps="running").apply(shares, 0.0, prompts())
    assert temporal().apply(shares, 0.0, prompts()) is shares
    with pytest.raises(FastlocError, match="background must be one or more texts"):
        temporal(maps="background").apply(located(grids(0)), 0.0, prompts())
    with pytest.raises(FastlocError, match="'legrad', which gives relevances"):
        temporal(maps="background").apply(replace(located(grids(0, 3), (*TEXTS, "sky")), method="legrad"), 0.0, prompts("sky"))
