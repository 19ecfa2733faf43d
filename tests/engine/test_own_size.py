"""Pictures at their own size, as the authors of TagCLIP, CLIP-ES and Grad-ECLIP take them, and in an exported file."""

from functools import cache

import numpy as np
import pytest

from fastloc import FastlocError
from fastloc.engine import cost
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocWarning
from fastloc.export import to_onnx
from fastloc.export.options import Options
from fastloc.imaging.geometry import fit
from fastloc.onnx_file.manifest import Input

SIZES = [(75, 100), (40, 40), (100, 75)]


@cache
def official(method: str) -> Localizer:
    return embedded().with_method(method, official=True)


@cache
def embedded() -> Localizer:
    return Localizer()


@pytest.mark.parametrize(("method", "grid"), [("tagclip", (10, 13)), ("grad_eclip", (9, 13))])
def test_each_picture_has_a_grid_of_its_own(method: str, grid: tuple[int, int]) -> None:
    localizer = official(method)
    pictures = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i, size in enumerate(SIZES)]
    together = localizer(pictures, ["red car", "tree"])
    assert [each.similarity.shape[1:] for each in together] == [grid, (5, 5), grid[::-1]]
    for picture, found in zip(pictures, together, strict=True):
        assert found.heatmaps.shape == (2, *picture.shape[:2])
        np.testing.assert_allclose(found.similarity, localizer(picture, ["red car", "tree"]).similarity, atol=1e-5)


def test_bi_modal_takes_the_centre_at_the_trained_size() -> None:
    localizer = official("bi_modal_last")
    assert localizer.fit == "crop" and localizer.geometry((100, 300)).input == localizer.source.spec.image


def test_the_size_is_the_largest_short_side() -> None:
    localizer = official("grad_eclip")
    assert (localizer.fit, localizer.input_size) == ("own", 640)
    assert localizer.geometry((1280, 1920)).input == (640, 960)
    assert fit((1280, 1920), 320, 8, localizer.fit).input == (320, 480)
    with pytest.raises(FastlocError, match="size must give an input of at most"):
        localizer.geometry((640, 640 * 1000))


def test_a_costly_picture_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = official("tagclip")
    monkeypatch.setattr(cost, "LARGE", cost.operations(localizer.source.spec, (200, 200)))  # type: ignore[arg-type]
    localizer.geometry((100, 100))
    with pytest.warns(FastlocWarning, match="an input of 400 x 600 takes about"):
        localizer.geometry((400, 600))


def test_a_file_of_one_size_is_not_every_pictures_own() -> None:
    localizer = official("tagclip")
    assert to_onnx._fit(localizer, Options(size=(96, 96))) == "stretch"
    assert to_onnx._fit(localizer, Options()) == "own-up"
    with pytest.raises(FastlocError, match="fit must give one size, got 'own-up'"):
        to_onnx._fit(localizer, Options(size=(96, 96), fit="own-up"))
    # a camera's frames have one
    frames = to_onnx._completed(Options(kind="frames", layout="NHWC", frame=(75, 100)), localizer)
    made = to_onnx._geometry(localizer, frames)
    assert made is not None and made.input == frames.size == (80, 104)
    # down to 72 pixels, and then as if it were 640 that bounds it: the file says both
    nearest = official("grad_eclip")
    frames = to_onnx._completed(Options(kind="frames", layout="NHWC", frame=(75, 108)), nearest)
    made = to_onnx._geometry(nearest, frames)
    assert made is not None and made.input == frames.size == (72, 112)
    declared = Input("frames", "NHWC", False, frames.size, (75, 108), "own", 1, 640)
    assert declared.geometry((75, 108), (8, 8)) == made
    # of NaFlex the size counts patches: 144 of 8 x 8 pixels
    counted = embedded().with_method("itsm", fit="naflex")
    counted.input_size = 96
    frames = to_onnx._completed(Options(kind="frames", layout="NHWC", frame=(75, 100)), counted)
    made = to_onnx._geometry(counted, frames)
    assert made is not None and made.input == frames.size == (80, 112)
    assert Input("frames", "NHWC", False, frames.size, (75, 100), "naflex", 1, 96).geometry((75, 100), (8, 8)) == made
    with pytest.raises(FastlocError, match="size must be 80x104 for fit 'own-up' of frames of 75x100, got 96x96"):
        to_onnx._geometry(localizer, Options(kind="frames", layout="NHWC", frame=(75, 100), size=(96, 96)))
