"""Hierarchical towers through Localizer and the command line: the same calls as for ViTs, with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc import Example, Localizer
from fastloc.cli import main
from fastloc.engine.best_method import BEST
from fastloc.errors import FastlocError
from fastloc.functional.hierarchical import forms
from fastloc.recipes.register_neurons import RegisterNeurons
from hierarchical_towers import config
from towers import error

METHODS = list(forms.FORMS)
NEURONS = RegisterNeurons(
    neurons=((0, (1,)),), registers=1, outliers="any", tokens=1, sizes=((64, 64),), pictures=1, source="none", model="another", tower="none"
)
TEXTS = ["a dog", "a cat", "grass"]


def picture(height: int = 60, width: int = 90, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of a small ConvNeXt."""
    path = tmp_path_factory.mktemp("model") / "tiny.json"
    path.write_text(json.dumps(config()))
    return path


@pytest.fixture(scope="module")
def localizer(file: Path) -> Localizer:
    return Localizer(str(file), "random", "itsm", size=(64, 96), batch=2, fit="stretch")


@pytest.mark.parametrize("method", METHODS)
def test_the_call(localizer: Localizer, method: str) -> None:
    other = localizer.with_method(method, fit="stretch")
    pictures = [picture(), picture(100, 30, 1), picture(seed=2)]
    results = other(pictures, TEXTS)
    for result, one in zip(results, pictures, strict=True):
        assert result.method == method and result.similarity.shape == (3, 2, 3) and result.heatmaps.shape == (3, one.height, one.width)
        assert result.scores is not None and ((result.scores > 0) & (result.scores < 1)).all()
        assert np.abs(other(one, TEXTS).similarity - result.similarity).max() <= 1e-4 * np.abs(result.similarity).max()
        assert len(result.points()) == 3


def test_grad_cam_of_an_earlier_stage_has_a_finer_grid(localizer: Localizer) -> None:
    result = localizer.with_method("grad_cam", fit="stretch", start=-2)(picture(), TEXTS)
    assert result.similarity.shape == (3, 4, 6) and result.heatmaps.shape == (3, 60, 90) and result.similarity.max() > 0


@pytest.mark.slow("28 million parameters in float64", quick=2)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["torch", "pillow"])
def test_frames_give_what_pictures_give(file: Path, method: str, how: str) -> None:
    run = Localizer(str(file), "random", method, size=(96, 64), fit="stretch", dtype="float64", plan={"frames": how})
    expected = run(picture(), TEXTS)
    frames = torch.from_numpy(np.array(picture()))[None].repeat(2, 1, 1, 1)
    grids, _ = run.similarity(frames, TEXTS)
    # Pillow's path rounds pixels to float32
    assert error(grids[:1], torch.from_numpy(expected.similarity)[None]) < 2e-5
    assert error(run.similarity(frames.flip(3), TEXTS, bgr=True)[0], grids) == 0


def test_an_example_stands_for_a_text(localizer: Localizer) -> None:
    box = Example(picture(), (0, 0, 40, 40))
    for method in METHODS:
        assert localizer.with_method(method)(picture(), [box, "a dog"]).similarity.shape[0] == 2


def test_defaults(file: Path) -> None:
    run = Localizer(str(file), "random", BEST)
    assert run.method == "grad_cam" and run.input_size == 64, "the size that it was trained at"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "'gem' is one of plain transformers, and tiny is a ConvNeXt"),
        ({"method": "itsm", "size": 100}, "size must be a multiple of the patch 32 x 32, got 100 x 100; instead of 100 use 96 or 128"),
        ({"method": "grad_cam", "start": -9}, "start of 'grad_cam' on a ConvNeXt must be a stage"),
        ({"method": "itsm", "plan": {"norm": "triton"}}, "unknown norm choice 'triton'"),
        ({"method": "itsm", "plan": {"launch": "graph"}, "device": "cpu"}, "launch 'graph' is not possible here"),
        ({"method": "itsm", "projections": "own"}, "projections"),
        ({"method": "itsm", "registers": NEURONS}, "model must be a ViT for test-time registers, got tiny, a ConvNeXt; registers"),
        ({"method": "gem_calibrated"}, "'gem_calibrated' is one of plain transformers"),
    ],
)
def test_what_does_not_fit_is_one_line(file: Path, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(FastlocError) as caught:
        Localizer(str(file), "random", **kwargs)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture().save(tmp_path / "a.png")
    model = ["--model", str(file), "--pretrained", "random"]
    base = ["locate", str(tmp_path / "a.png"), "-t", "a dog", *model, "--size", "64"]
    assert main([*base, "--method", "best", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["pictures"]
    assert found["method"] == "grad_cam" and found["grid"] == {"height": 2, "width": 2}
    assert main([*base, "-o", str(tmp_path / "none")]) != 0
    assert "'gem' is one of plain transformers" in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert main(["plan", *model, "--method", "itsm"]) == 0
    assert "blocks of one stage at most are changed" in capsys.readouterr().out
    calibrate = ["calibrate", "--from", "noise", *model, "-o", str(tmp_path / "t.json")]
    assert main(calibrate) != 0
    error_line = capsys.readouterr().err
    assert "Traceback" not in error_line and "must have blocks that attend over its whole grid, got tiny, a ConvNeXt" in error_line
    assert main(["registers", str(tmp_path / "a.png"), *model, "-o", str(tmp_path / "r.json")]) != 0
    assert "model must be a ViT for test-time registers, got tiny, a ConvNeXt; registers are tokens" in capsys.readouterr().err
    assert main(["export", *model, "--method", "itsm", "--size", "64", "-o", str(tmp_path / "x.onnx")]) == 0
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "x.onnx")]) == 0
    assert "computes on this device what it should" in capsys.readouterr().out
