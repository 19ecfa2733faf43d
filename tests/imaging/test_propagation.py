"""Text-aware Laplacian propagation against its literal steps, its use in a result, and its refusals."""

import json
import pickle
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc.cli import main
from fastloc.cli.app import build_parser
from fastloc.errors import FastlocError
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import FITS, fit
from fastloc.imaging.propagation import ARRAYS, Propagation, propagate, self_affinity
from fastloc.imaging.refined_heatmaps import REFINEMENTS
from fastloc.results.result import Result
from fastloc.results.wire import Located, to_wire
from fastloc.utils.schema import decode
from literal_propagation import class_affinity, propagated

SMALL = Propagation(5, 20)


def scene(size, texts=2, seed=0, spread=1.0):
    """Flat colours with noise and a disc, and maps of noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    disc = (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < (min(size) / 3) ** 2
    picture = np.where(disc[..., None], (200, 40, 30), (30, 60, 120)) + random.integers(0, 12, (*size, 3))
    return spread * random.normal(size=(texts, *size)), picture.astype(np.uint8), disc


def embeddings(texts, seed=0, alike=2.0):
    """Texts whose cosines lie near alike^2 / (1 + alike^2)."""
    random = np.random.default_rng(seed)
    return random.normal(size=(texts, 64)) / 8 + alike * random.normal(size=64) / 8


@pytest.mark.parametrize(
    ("size", "texts", "how"),
    [((24, 40), 3, Propagation()), ((61, 45), 1, SMALL), ((33, 70), 24, SMALL), ((50, 35), 2, Propagation(25, 20)),
     ((1, 17), 2, Propagation()), ((1, 1), 2, Propagation()), ((30, 20), 2, Propagation(3, 1))],
)  # fmt: skip
@pytest.mark.parametrize("spread", [0.03, 3.0])
def test_the_official_steps(size, texts, how, spread):
    maps, picture, _ = scene(size, texts, spread=spread)
    before = maps.copy()
    how = Propagation(how.iterations, how.grid, self_affinity(embeddings(texts)))
    expected = propagated(maps, picture, class_affinity(embeddings(texts)), how.iterations, how.grid)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = propagate(maps, picture, how)
        single = propagate(maps.astype(np.float32), picture, how)
    np.testing.assert_array_equal(maps, before)
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()
    assert single.dtype == np.float32
    assert np.abs(single - expected).max() < 1e-5 * np.abs(expected).max()


def test_what_is_alike_everywhere_stays():
    maps, picture, _ = scene((50, 30), 3, spread=0.03)
    # a constant map comes out of pooling and enlarging again
    flat = propagate(np.full_like(maps, 0.3), picture)
    np.testing.assert_allclose(flat, 0.3, rtol=1e-14)
    # a number added to all maps comes out again
    np.testing.assert_allclose(propagate(maps + 5, picture), propagate(maps, picture) + 5, atol=1e-12)


def test_maps_do_not_flow_over_an_edge():
    """Two halves of the picture, a little noise in each, and a map that begins a few cells beside their border."""
    random = np.random.default_rng(0)
    picture = np.full((60, 60, 3), 40, np.uint8)
    picture[:, 30:] = 220
    picture += random.integers(0, 8, picture.shape, dtype=np.uint8)
    # many texts hold a cell loosely
    maps = np.zeros((24, 60, 60))
    maps[0, :, 24:] = maps[1, :, :24] = 0.2
    before, after = (np.abs(np.diff(each[0].mean(0))) for each in (maps, propagate(maps, picture)))
    assert before.argmax() == 23
    assert after.argmax() == 29, after


def test_affinity_is_the_diagonal():
    for texts in (1, 2, 7):
        vectors = embeddings(texts, texts)
        np.testing.assert_allclose(self_affinity(vectors), np.diagonal(class_affinity(vectors)), rtol=1e-12)
    # a text that is there twice counts once
    vectors = embeddings(3)
    assert self_affinity(vectors[[0, 1, 0, 2]]) == tuple(self_affinity(vectors)[i] for i in (0, 1, 0, 2))


@pytest.mark.parametrize("texts", [1, 2, 5, 24])
@pytest.mark.parametrize("alike", [0.7, 3.0])
def test_without_embeddings_a_map_differs_by_less_than_a_step_of_255(texts, alike):
    """Cosines near 0.33 and 0.9, where 0.75 is assumed."""
    maps, picture, _ = scene((40, 40), texts, spread=0.03)
    known = Propagation(affinity=self_affinity(embeddings(texts, 0, alike)))
    near, exact = (propagate(maps, picture, each) for each in (Propagation(), known))
    assert np.abs(near - exact).max() < np.ptp(exact, axis=(1, 2)).min() / 255


def test_memory_is_what_the_budget_speaks_of():
    maps, picture, _ = scene((150, 110), 12)
    cells = 75 * 110 * 12 * 8
    tracemalloc.start()
    propagate(maps, picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < maps.nbytes + ARRAYS * cells + (1 << 20), f"{peak / 2**20:.1f} MiB"
    assert peak > 4 * cells
    assert propagate(maps, picture, Propagation(1, budget=ARRAYS * cells)).shape == maps.shape
    with pytest.raises(FastlocError, match=f"budget must be at least {ARRAYS * cells:,} bytes for 12 texts on 75 x 110 cells"):
        propagate(maps, picture, Propagation(1, budget=ARRAYS * cells - 1))


def make(name="stretch", size=(60, 100), order="picture", **fields):
    geometry = fit(size, 64, 8, name)
    similarity = np.random.default_rng(1).normal(size=(3, *geometry.grid(8))).astype(np.float32)
    picture = Image.fromarray(scene(size)[1])
    usual = {"texts": ("a", "b", "c"), "similarity": similarity, "geometry": geometry, "order": order, "logit_scale": 9.0}
    return Result(picture=picture, **usual | fields)


@pytest.mark.parametrize("order", heatmaps.ORDERS)
@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_result_propagates_before_it_reads_out(order, name, reverse):
    if reverse and order not in ("grid", "picture"):
        return
    plain = make(name, order=order, reverse=reverse)
    vectors = embeddings(3)
    result = plain.refined("propagate", iterations=4, grid=20, affinity=self_affinity(vectors))
    rows, columns = plain.geometry.covered()
    inside = (slice(None), rows, columns)
    sign = -1 if reverse else 1
    raw = sign * heatmaps.upsample(plain.similarity.astype(np.float64), plain.geometry, order)[inside]
    raw = sign * propagated(raw, np.asarray(plain.picture)[rows, columns], class_affinity(vectors), 4, 20)
    expected = np.zeros_like(plain.heatmaps)
    if order == "grid":
        seen = plain.similarity[(slice(None), *plain.geometry.seen(plain.similarity.shape[1:]))]
        low, high = seen.min((1, 2), keepdims=True), seen.max((1, 2), keepdims=True)
        heat = np.clip((raw - low) / (high - low), 0, 1)
        expected[inside] = 1 - heat if reverse else heat
    elif order == "picture":
        expected[inside] = 1 - heatmaps.minmax(raw) if reverse else heatmaps.minmax(raw)
    elif order in heatmaps.COMPETING:
        expected[inside] = heatmaps.softmax(raw, 9.0)
    else:
        expected[inside] = raw
    np.testing.assert_allclose(result.heatmaps, expected, atol=1e-4)
    labels = result.labels()[rows, columns]
    assert (labels == (raw.argmin(0) if reverse else raw.argmax(0))).mean() > 0.999


def test_a_text_that_is_asked_twice_competes_once():
    once = make().refined("propagate", affinity=self_affinity(embeddings(3)))
    twice = make(texts=("a", "b", "c", "b"), similarity=once.similarity[[0, 1, 2, 1]])
    found = twice.refined("propagate", affinity=self_affinity(embeddings(3)[[0, 1, 2, 1]]))
    np.testing.assert_array_equal(found.heatmaps, once.heatmaps[[0, 1, 2, 1]])
    plain = make().refined("propagate").heatmaps
    np.testing.assert_array_equal(twice.refined("propagate").heatmaps, plain[[0, 1, 2, 1]])


def test_a_map_without_contrast_stays_empty():
    for order in ("grid", "picture"):
        similarity = make().similarity.copy()
        similarity[1] = 1 / 3
        heat = make(order=order, similarity=similarity).refined("propagate", grid=20).heatmaps
        assert not heat[1].any(), order
        assert heat[0].any(), order


@pytest.mark.parametrize("settings", [{}, {"grid": 24, "iterations": 3, "affinity": (0.91, 0.95, 1 / 3), "budget": 1 << 20}])
def test_a_refined_result_comes_over_the_wire_and_out_of_a_pickle(settings):
    result = make().refined("propagate", **settings)
    refinement = result.to_dict()["refinement"]
    assert refinement.pop("method") == "propagate"
    assert Propagation(**refinement) == result.refinement == Propagation(**settings)
    over = decode(json.dumps(to_wire(result)), Located, "answer").result(result.picture)
    for other in (over, pickle.loads(pickle.dumps(result))):
        assert other.refinement == result.refinement
        np.testing.assert_array_equal(other.heatmaps, result.heatmaps)
    pamr = make().refined("pamr", dilations=(3,))
    sent = to_wire(pamr)
    assert decode(json.dumps(sent), Located, "answer").refinement.made() == pamr.refinement
    # a version that knew no other refinement did not name it
    del sent["refinement"]["method"]
    assert decode(json.dumps(sent), Located, "answer").refinement.made() == pamr.refinement
    for wrong in ({"method": "crf"}, {"grid": 3}, {"iterations": 0}):
        with pytest.raises(FastlocError, match="answer"):
            decode(json.dumps(sent | {"refinement": sent["refinement"] | wrong}), Located, "answer")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"iterations": 0}, "iterations must be a whole number from 1"),
        ({"iterations": 2.5}, "iterations must be a whole number"),
        ({"grid": 0}, "grid must be a whole number from 1"),
        ({"grid": "80"}, "grid must be a whole number"),
        ({"grid": True}, "grid must be a whole number"),
        ({"budget": 0}, "budget must be a whole number from 1"),
        ({"budget": 1000}, "budget must be at least .* for 3 texts on .* cells, got 1,000; ask for fewer texts at a time, or"),
        ({"affinity": 0.9}, "affinity must be a number for each text, got 0.9; self_affinity"),
        ({"affinity": (0.9, 0.9)}, "affinity must be a number for each of 3 texts, got 2"),
        ({"affinity": (0.9, 0.9, 1.5)}, "affinity must be a number from 0 to 1, got 1.5"),
        ({"affinity": (0.9, 0.9, float("nan"))}, "affinity must be a number from 0 to 1, got nan"),
        ({"dilations": (8, 16)}, "unknown propagate setting 'dilations'"),
    ],
)
def test_wrong_settings_are_reported_at_once(wrong: dict[str, Any], message: str):
    with pytest.raises(FastlocError, match=message):
        make().refined("propagate", **wrong)


@pytest.mark.parametrize("name", ["propagat", 3, ["pamr"]])
def test_an_unknown_refinement(name):
    with pytest.raises(FastlocError, match=r"unknown refinement .* known refinements: pamr, propagate"):
        make().refined(name)


def test_wrong_arrays():
    maps, picture, _ = scene((8, 9))
    for wrong in ((maps[0], picture), (maps[:0], picture), (maps, picture[:-1]), (maps, picture / 255), (maps.astype(np.int32), picture)):
        with pytest.raises(FastlocError, match="maps must be"):
            propagate(*wrong)
    for wrong in (embeddings(3)[0], embeddings(3) * 0, embeddings(3) * np.nan, embeddings(3)[:0]):
        with pytest.raises(FastlocError, match="embeddings must be"):
            self_affinity(wrong)


def test_the_command_line_propagates(tmp_path: Path, capsys):
    picture = tmp_path / "scene.png"
    Image.fromarray(scene((48, 64))[1]).save(picture)
    found = []
    for more in ([], ["--refine", "propagate"]):
        assert main(["locate", str(picture), "-t", "cat", "dog", "--size", "64", "--method", "itsm", "--json", *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["pictures"][0])
    assert found[0]["refinement"] is None
    assert found[1]["refinement"]["method"] == "propagate"
    assert found[1]["refinement"]["grid"] == 80
    assert found[0]["texts"] != found[1]["texts"]


def test_the_command_line_offers_every_refinement():
    parser = build_parser(["locate", "x.png"])
    for name in REFINEMENTS:
        assert parser.parse_args(["locate", "x.png", "--refine", name]).refine == name
