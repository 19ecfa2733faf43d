"""The scale that a model was trained at, in everything that multiplies by one: checkpoints whose scale is not CLIP's 100."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fastloc import CnnLocalizer, Localizer, OnnxLocalizer
from fastloc.bench.peers.seeded import seeded_state, text_shapes, vision_shapes
from fastloc.errors import FastlocError
from fastloc.export.to_onnx import Options, export
from fastloc.functional import heatmaps
from fastloc.functional.similarity import grids
from fastloc.onnx_file.manifest import Manifest
from fastloc.recipes import RECIPES, recipe
from fastloc.reference import scores as literal
from fastloc.video.temporal import Temporal
from towers import config

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
TEXTS = ["red circle", "dog", "a car"]
# the scale of CLIP, and others
SCALES = (100.0, 30.0)
# methods whose authors take the model's scale, before a softmax or a gradient
OWN = ("cliptrase", "tagclip", "grad_cam", "grad_cam_clip_es", "bi_modal", "bi_modal_last")
FIXED = {
    "maskclip": 40, "sclip": 40, "clearclip": 50, "naclip": 40, "resclip": 40, "pearl": 40, "itaclip": 40, "sc_clip": 40, "sfp": 40,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for each scale, the same but for it."""
    path, settings = tmp_path_factory.mktemp("scales"), {**config(activation="quick_gelu"), "text_cfg": TEXT}
    (path / "tiny.json").write_text(json.dumps(settings))
    state = {name: torch.from_numpy(each) for name, each in seeded_state(vision_shapes(settings) | text_shapes(settings), 0).items()}
    for scale in SCALES:
        save_file({**state, "logit_scale": torch.tensor(scale).log()}, path / f"{scale:g}.safetensors")
    return path


@pytest.fixture(scope="module")
def at(folder: Path) -> Any:
    return cache(lambda scale: Localizer(str(folder / "tiny.json"), str(folder / f"{scale:g}.safetensors"), size=(24, 40)))


def picture() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", OWN)
def test_the_maps_are_those_of_the_authors_at_the_models_scale(method: str, scale: float, at: Any) -> None:
    found = at(scale).with_method(method)
    row = found.recipe
    assert row == RECIPES[method].at_scale(found.logit_scale) and row != RECIPES[method]
    result = found(picture(), TEXTS)
    weights, words = found.source.weights.to(dtype=torch.float64), found.source.text(TEXTS, found.template).double()
    geometry = found.geometry((24, 40))
    pixels = found.pixels(result.picture, geometry)[None].double()
    # stated literally, at the number that stands in the checkpoint, with none of the weights'
    stated = recipe(method, logit_scale=scale) if row.reads == "patches" else recipe(method, target_scale=scale)
    expected = literal.scores(weights, pixels, words, stated)
    grid = expected[0].T.reshape(3, 3, 5)
    assert np.abs(result.similarity - grid.numpy()).max() < 1e-3 * float(grid.abs().max())
    if row.readout.order == "softmax":
        shares = heatmaps.heatmaps(grid[None], geometry, "softmax", scale)[0].numpy()
        assert np.abs(result.heatmaps - shares).max() < 1e-3


@pytest.mark.parametrize("method", [*OWN, "cliper"])
def test_the_scale_matters(method: str, at: Any) -> None:
    """Maps differ by the scale, but where a map is a multiple of it (the last block alone) its heat is the same."""
    one, other = (at(scale).with_method(method)(picture(), TEXTS) for scale in SCALES)
    if method == "bi_modal_last":
        np.testing.assert_allclose(one.similarity * 0.3, other.similarity, rtol=1e-4)
    else:
        assert np.abs(one.heatmaps - other.heatmaps).max() > 0.01


@pytest.mark.parametrize("method", sorted(set(RECIPES) - set(OWN) - {"eclip", "gem_calibrated", "cliper"}))
def test_what_the_authors_fix_stays(method: str, at: Any) -> None:
    row = at(30.0).with_method(method).recipe
    assert row == RECIPES[method]
    if row.readout.order == "softmax":
        assert row.readout.scale == FIXED[method]


def test_a_number_can_be_given(at: Any) -> None:
    expected = at(100.0).with_method("tagclip")(picture(), TEXTS).heatmaps
    np.testing.assert_allclose(at(30.0).with_method("tagclip", logit_scale=100.0)(picture(), TEXTS).heatmaps, expected, atol=1e-5)
    expected = at(100.0).with_method("bi_modal")(picture(), TEXTS).similarity
    found = at(30.0).with_method("bi_modal", target_scale=100.0)(picture(), TEXTS).similarity
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # in place of what authors fix too, and for a method that has another order
    assert at(30.0).with_method("sclip", logit_scale="model").recipe.readout.scale == pytest.approx(30)
    assert at(30.0).with_method("gem", order="softmax").recipe.readout.scale == pytest.approx(30)


def test_functions_of_weights_take_the_weights_own(at: Any) -> None:
    """A recipe that no localizer has seen."""
    found = at(30.0).with_method("bi_modal")
    pixels, words = torch.randn(1, 3, 24, 40, generator=torch.Generator().manual_seed(0)), found.source.text(TEXTS, "plain")
    one, _ = grids(found.source.weights, pixels, words, RECIPES["bi_modal"])
    other, _ = grids(found.source.weights, pixels, words, found.recipe)
    assert torch.equal(one, other)


@pytest.mark.parametrize("method", ["tagclip", pytest.param("bi_modal", marks=pytest.mark.slow("a gradient is exported"))])
def test_an_exported_file_has_the_number_baked_in_and_says_it(method: str, at: Any, tmp_path: Path) -> None:
    found = at(30.0).with_method(method)
    options = Options(size=(24, 40), texts=tuple(TEXTS), outputs=("similarity", "heatmaps"))
    manifest = export(found, tmp_path / "file.onnx", options)
    assert manifest.model.logit_scale == pytest.approx(30)
    assert (manifest.recipe.target_scale if method == "bi_modal" else manifest.recipe.readout.logit_scale) == pytest.approx(30)
    mine, expected = OnnxLocalizer(tmp_path / "file.onnx", providers="cpu"), found(picture(), TEXTS)
    result = mine(picture())
    assert result.logit_scale == expected.logit_scale == pytest.approx(30)
    np.testing.assert_allclose(result.heatmaps, expected.heatmaps, atol=2e-3)
    pixels = found.pixels(expected.picture, expected.geometry).numpy()[None]
    np.testing.assert_allclose(mine.run(pixels)["heatmaps"][0], expected.heatmaps, atol=2e-3)


def test_files_of_before_models_had_a_scale_load_as_they_were() -> None:
    report = json.loads(OnnxLocalizer(providers="cpu").manifest.dumps())
    report["recipe"] |= {"target_scale": 100.0, "readout": {"score": "cosine", "order": "softmax", "logit_scale": 100.0, "reverse": False}}
    del report["model"]["logit_scale"]
    manifest = Manifest.loads(json.dumps(report))
    assert (manifest.model.logit_scale, manifest.recipe.target_scale, manifest.recipe.readout.scale) == (100, 100, 100)


def test_a_classifier_says_that_it_has_none() -> None:
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    localizer = CnnLocalizer(torch.nn.Sequential(*layers), size=32, method="cam")
    assert localizer.logit_scale is None
    with pytest.raises(FastlocError, match="maps must be 'frame' or 'running' for a classifier, got 'background'"):
        Temporal(0.0, "background", localizer.logit_scale)


@pytest.mark.slow("exports a SigLIP")
def test_the_scores_of_a_model_with_a_bias_are_its_own_probabilities(folder: Path, tmp_path: Path) -> None:
    """In both engines; the weights are those of the others."""
    path = tmp_path / "biased.safetensors"
    save_file({**load_file(folder / "30.safetensors"), "logit_bias": torch.tensor([-2.5])}, path)
    made = Localizer(str(folder / "tiny.json"), str(path), size=(24, 40))
    assert made.logit_bias == -2.5
    result = made(picture(), TEXTS)
    assert result.image_scores is not None and result.scores is not None
    expected = 1 / (1 + np.exp(2.5 - 30 * result.image_scores.astype(np.float64)))
    np.testing.assert_allclose(result.scores, expected, rtol=1e-5)
    export(made, tmp_path / "biased.onnx", Options(size=(24, 40), outputs=("similarity", "scores", "background")))
    file = OnnxLocalizer(tmp_path / "biased.onnx", embeddings={text: made.source.text([text], made.template)[0].numpy() for text in TEXTS})
    assert file.manifest.model.logit_bias == -2.5
    np.testing.assert_allclose(file(picture(), TEXTS).scores, expected, rtol=1e-3)


@pytest.mark.parametrize(("bias", "found"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_bias_that_is_none(bias: float, found: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "biased.safetensors"
    save_file({**load_file(folder / "30.safetensors"), "logit_bias": torch.tensor(bias)}, path)
    with pytest.raises(FastlocError, match=f"logit_bias of the weights must be a finite number, got {found}; the file is damaged"):
        Localizer(str(folder / "tiny.json"), str(path))
