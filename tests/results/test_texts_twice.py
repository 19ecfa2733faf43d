"""The same text in two places, also as "Cat" and "cat ": one answer in both, and that of the text asked once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastloc import Localizer, OnnxLocalizer
from fastloc.embedded import SAMPLES
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.recipes import RECIPES

MARKET = SAMPLES / "market.webp"


@pytest.fixture(scope="module")
def model() -> Localizer:
    return Localizer()


@pytest.mark.parametrize("method", RECIPES)
def test_both_places_have_the_answer_of_the_text_asked_once(model: Localizer, method: str) -> None:
    localizer = model.with_method(method)
    once = localizer(MARKET, ["cat", "pizza"])
    twice = localizer(MARKET, ["cat", "pizza", "Cat "])
    assert twice.texts == ("cat", "pizza", "Cat")
    assert (twice.similarity[[0, 1]] == once.similarity).all() and (twice.similarity[2] == once.similarity[0]).all()
    assert (twice.heatmaps[[0, 1]] == once.heatmaps).all() and (twice.heatmaps[2] == once.heatmaps[0]).all()
    assert (twice.labels() == once.labels()).all()


@pytest.mark.parametrize("method", ["clip_surgery", "maskclip", "naclip", "sclip", "grad_cam"])
def test_one_text_twice_is_one_text(model: Localizer, method: str) -> None:
    localizer = model.with_method(method)
    once, twice = localizer(MARKET, "cat"), localizer(MARKET, ["cat", "cat"])
    assert (twice.heatmaps == once.heatmaps[[0, 0]]).all() and once.heatmaps.max() > 0.5
    assert [(p.x, p.y) for p in twice.points()] == [(p.x, p.y) for p in once.points()] * 2


def test_maps_on_the_device_agree(model: Localizer) -> None:
    localizer = model.with_method("sclip")
    frames = torch.randint(0, 256, (1, 96, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    once, twice = localizer.heatmaps(frames, ["cat", "pizza"]), localizer.heatmaps(frames, ["cat", "pizza", "cat"])
    assert torch.equal(twice, once[:, [0, 1, 0]])
    assert torch.equal(localizer.labels(frames, ["cat", "cat", "pizza"]) == 2, localizer.labels(frames, ["cat", "pizza"]) == 1)


def test_an_exported_file_agrees() -> None:
    localizer = OnnxLocalizer(threads=1)
    once, twice = localizer(MARKET, ["cat", "pizza"]), localizer(MARKET, ["cat", "CAT", "pizza"])
    assert (twice.similarity == once.similarity[[0, 0, 1]]).all()


def test_labels_of_an_exported_file_name_the_first_of_equal_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = OnnxLocalizer(threads=1)
    chosen = localizer.text_source.select(["cat", "CAT", "pizza"])
    labels = np.uint8([[[0, 1], [255, 0]]])
    monkeypatch.setattr(localizer, "_cut", lambda feeds, batch, texts: {"labels": labels, "background": np.ones((1, 1), np.float32)})
    found = localizer._outputs(np.zeros((1, 3, 96, 96), np.float32), chosen, 1)
    assert found["labels"].tolist() == [[[0, 2], [255, 0]]] and found["labels"].dtype == np.uint8
    assert found["background"].shape == (1, 1)


def test_a_softmax_counts_equal_similarities_once() -> None:
    similarity = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    geometry = fit((40, 50), (40, 50), 10)
    once = heatmaps.heatmaps(similarity, geometry, "softmax", 10.0)
    assert (heatmaps.heatmaps(similarity[[0, 1, 0, 2]], geometry, "softmax", 10.0) == once[[0, 1, 0, 2]]).all()
    alone = heatmaps.heatmaps(similarity[[0, 0]], geometry, "softmax", 10.0)
    assert (alone == heatmaps.heatmaps(similarity[:1], geometry, "picture")[[0, 0]]).all()
