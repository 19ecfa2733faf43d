"""Every range of a manifest, at both of its ends: the last value that is taken, and the first that is not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastloc import embedded
from fastloc.errors import FastlocError, ModelError
from fastloc.onnx_file import header, limits
from fastloc.onnx_file.golden import Golden
from fastloc.onnx_file.manifest import KEY, Input, Manifest, Model, Texts
from fastloc.recipes import recipe
from fastloc.recipes.presence import UNCALIBRATED

MODEL = Model("tiny", "a" * 64, "b" * 64, (8, 8), 16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic")
INPUT = Input("pixels", "NCHW", False, (32, 40), None, "stretch", None, (32, 40))
TEXTS = Texts(None)
GOLDEN = Golden(7, 2, (32, 40), 3, {})
MANIFEST = Manifest("0.2.0", MODEL, recipe("gem"), INPUT, TEXTS, ("similarity", "scores"), "float32", "ort", 20, GOLDEN)

# part, field, values that are taken, values that are refused
RANGES: list[tuple[Any, str, tuple[Any, ...], tuple[Any, ...]]] = [
    (MODEL, "patch", ((1, limits.PATCH), (limits.PATCH, 1)), ((0, 8), (8, 0), (limits.PATCH + 1, 8), (8, limits.PATCH + 1))),
    (MODEL, "embed", (1, limits.EMBED), (0, limits.EMBED + 1, 16.0, True)),
    (MODEL, "mean", ((-1e6, 0.0, 1e6),), ((1e6 + 1, 0.0, 0.0), (0.0, -1e6 - 1, 0.0), (0.0, 0.0, math.nan))),
    (MODEL, "std", ((1e-6, 1.0, 1e6),), ((1e-6 / 2, 1.0, 1.0), (1.0, 1e6 + 1, 1.0), (1.0, 1.0, 0.0), (1.0, 1.0, -0.1))),
    (MODEL, "interpolation", ("bilinear", "nearest"), ("cubic", "")),
    (MODEL, "logit_scale", (1e-6, 1e6, 100.0), (1e-7, 1e6 + 1, math.nan, True)),
    (MODEL, "logit_bias", (None, -1e6, 0.0, 1e6), (-1e6 - 1, 1e6 + 1, math.nan)),
    (MODEL, "tower", ("vit", "resnet"), ("cnn",)),
    (MODEL, "name", ("x" * 1000, ""), ("x" * 1001, "a\nb")),
    (MODEL, "weights", ("",), ("a\x00",)),
    (MODEL, "text", ("",), ("a\u2028",)),
    (INPUT, "kind", ("bytes",), ("frames", "pixel")),
    (INPUT, "layout", ("NHWC",), ("CHW",)),
    (INPUT, "fit", ("crop", "naflex"), ("squeeze",)),
    (INPUT, "model_fit", ("", "crop"), ("squeeze",)),
    (INPUT, "batch", (None, 1, limits.BATCH), (0, -1, limits.BATCH + 1)),
    (INPUT, "size", (None, (1, limits.SIDE), (limits.SIDE, 1)), ((0, 8), (8, 0), (limits.SIDE + 1, 8), (8, limits.SIDE + 1))),
    (INPUT, "frame", ((1, 1), (limits.SIDE, 1)), ((0, 8), (8, limits.SIDE + 1))),
    (INPUT, "usual", (1, 8192, (1, limits.SIDE)), (0, (8, 0), (8, limits.SIDE + 1), limits.SIDE + 1)),
    (TEXTS, "count", (1, limits.TEXTS), (0, -1, limits.TEXTS + 1)),
    (TEXTS, "names", (("a",) * limits.TEXTS,), (("a",) * (limits.TEXTS + 1),)),
    (TEXTS, "template", ("x" * 1000,), ("x" * 1001, "a\nb")),
    (MANIFEST, "version", ("x",), ("a\nb",)),
    (MANIFEST, "outputs", (("similarity",), ("labels", "heatmaps")), ((), ("similarity", "similarity"), ("similarities",))),
    (MANIFEST, "dtype", ("float16", "int8-dynamic"), ("float64",)),
    (MANIFEST, "spelling", ("onnx",), ("other",)),
    (MANIFEST, "opset", (1, 1000), (0, 1001)),
    (GOLDEN, "seed", (0, (1 << 32) - 1), (-1, 1 << 32)),
    (GOLDEN, "batch", (1, limits.BATCH), (0, limits.BATCH + 1)),
    (GOLDEN, "texts", (0, limits.TEXTS), (-1, limits.TEXTS + 1)),
    (GOLDEN, "size", ((1, limits.SIDE >> 2),), ((0, 8), (8, 0), (limits.SIDE + 1, 1))),
]
CASES = [(part, name, value, True) for part, name, good, _ in RANGES for value in good]
CASES += [(part, name, value, False) for part, name, _, bad in RANGES for value in bad]


@pytest.mark.parametrize(("part", "name", "value", "good"), CASES, ids=lambda value: str(value)[:30])
def test_ranges(part: Any, name: str, value: Any, good: bool) -> None:
    if good:
        assert getattr(replace(part, **{name: value}), name) == value
        return
    with pytest.raises((FastlocError, TypeError)):
        replace(part, **{name: value})


def test_products_have_limits_too() -> None:
    most = 1 << 13
    assert most * most * 2 == limits.PIXELS
    for name in ("size", "frame", "usual"):
        assert replace(INPUT, batch=2, **{name: (most, most)})
        with pytest.raises(FastlocError, match=f"pixels of batch and {name} must be a whole number from 1 to {limits.PIXELS}, got "):
            replace(INPUT, batch=3, **{name: (most, most)})
    with pytest.raises(FastlocError, match="pixels of batch and usual"):
        replace(INPUT, batch=2, usual=most + 1)
    with pytest.raises(FastlocError, match="pixels of the golden"):
        replace(GOLDEN, batch=2, size=(most, most + 1))
    wide = replace(MODEL, embed=limits.EMBED)
    most = limits.NUMBERS // limits.EMBED
    for texts, golden in ((Texts(most), None), (Texts(None, ("a",) * most), None), (TEXTS, replace(GOLDEN, texts=most))):
        assert replace(MANIFEST, model=wide, texts=texts, golden=golden)
    for texts, golden in ((Texts(most + 1), None), (Texts(None, ("a",) * (most + 1)), None), (TEXTS, replace(GOLDEN, texts=most + 1))):
        with pytest.raises(FastlocError, match="numbers of all text embeddings must be a whole number from 1 to"):
            replace(MANIFEST, model=wide, texts=texts, golden=golden)


def test_baked_texts_are_counted() -> None:
    assert Texts(2, ("a", "b")).baked and Texts(None, ("a",)).baked and not TEXTS.baked
    for count in (1, 3):
        with pytest.raises(FastlocError, match=f"count of texts must be that of the baked ones, 2, got {count}"):
            Texts(count, ("a", "b"))


def test_frames_need_their_size() -> None:
    assert replace(INPUT, kind="frames", frame=(64, 80)).name == "frames" and INPUT.name == "pixels"
    with pytest.raises(FastlocError, match=r"frame must be the camera's size, \(height, width\), got None"):
        replace(INPUT, kind="frames")


def test_a_golden_of_an_output_that_the_file_has_not() -> None:
    from fastloc.onnx_file.golden import Sample

    sample = Sample.take(np.zeros((1, 1, 2, 2), np.float32))
    assert replace(MANIFEST, golden=replace(GOLDEN, outputs={"scores": sample}))
    with pytest.raises(FastlocError, match="outputs of the golden must be among similarity, scores, got"):
        replace(MANIFEST, golden=replace(GOLDEN, outputs={"labels": sample}))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize("kind", ["pixels", "bytes", "frames"])
def test_pictures_as_each_input_takes_them(kind: str, bgr: bool, layout: str) -> None:
    shown = np.arange(2 * 3 * 5 * 3, dtype=np.uint8).reshape(2, 3, 5, 3)
    made = replace(INPUT, kind=kind, bgr=bgr, layout=layout, frame=(3, 5)).laid_out(shown, MODEL)
    assert made.flags.c_contiguous and made.dtype == (np.uint8 if kind == "frames" else np.float32)
    for channel in range(3):
        found = made[:, channel] if layout == "NCHW" else made[..., channel]
        source = 2 - channel if bgr else channel
        expected = shown[..., source].astype(np.float64)
        if kind == "pixels":
            expected = (expected / 255 - MODEL.mean[source]) / MODEL.std[source]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_geometry_of_a_picture() -> None:
    assert INPUT.geometry((50, 70), (8, 8)).input == (32, 40)
    dynamic = replace(INPUT, size=None)
    assert dynamic.geometry((50, 70), (8, 8)).input == (32, 40) and dynamic.geometry((50, 70), (8, 8), 16).input == (16, 16)
    # of a size that a short-side fit made, the short side
    aspect = replace(INPUT, size=None, fit="aspect")
    assert aspect.geometry((50, 100), (8, 8)).input == (32, 64)
    assert aspect.geometry((50, 100), (8, 8), (24, 16)).input == (16, 32)
    # of a picture that is left as it is the file's own size says nothing about the bound
    own = replace(INPUT, size=(32, 40), fit="own", usual=64)
    assert own.geometry((50, 100), (8, 8)).input == (48, 104) and own.geometry((50, 100), (8, 8), 24).input == (24, 48)


def test_golden_inputs() -> None:
    fed = MANIFEST.golden_inputs()
    assert {name: (each.shape, each.dtype.name) for name, each in fed.items()} == {
        "pixels": ((2, 3, 32, 40), "float32"), "text_embeddings": ((3, 16), "float32"),
    }  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(fed["text_embeddings"], axis=1), 1, atol=1e-6)
    baked = replace(MANIFEST, texts=Texts(3, ("a", "b", "c"))).golden_inputs()
    assert list(baked) == ["pixels"]
    with pytest.raises(ModelError, match="the file has no golden"):
        replace(MANIFEST, golden=None).golden_inputs()


def test_there_and_back() -> None:
    assert Manifest.loads(MANIFEST.dumps()) == MANIFEST and Manifest.of({KEY: MANIFEST.dumps()}, "x.onnx") == MANIFEST
    named = replace(MANIFEST, texts=Texts(None, ("Grüße",)))
    assert "Grüße" in named.dumps() and Manifest.loads(named.dumps()) == named
    for text in ("{}", "[]", "", MANIFEST.dumps().replace('"format": 1', '"format": 2')):
        with pytest.raises(ModelError, match=r"x\.onnx"):
            Manifest.loads(text, "x.onnx")
    with pytest.raises(ModelError, match=r"x\.onnx was not exported by fastloc"):
        Manifest.of({}, "x.onnx")
    # the schema is read by, unless the file came with fastloc
    with pytest.raises(ModelError, match=r"x\.onnx"):
        Manifest.of({KEY: MANIFEST.dumps().replace('"format": 1', '"format": 2')}, "x.onnx")


def test_the_shipped_file_is_read_alike_with_and_without_the_schema() -> None:
    pairs = header.read(embedded.GEM_ONNX).metadata
    assert Manifest.of(pairs, "gem.onnx", shipped=True) == Manifest.of(pairs, "gem.onnx", shipped=False)
    # what an older fastloc does not know is left out
    more = json.dumps({**json.loads(pairs[KEY]), "later": 1})
    assert Manifest.of({KEY: more}, "gem.onnx", shipped=True) == Manifest.of(pairs, "gem.onnx")
    bare = {name: value for name, value in json.loads(pairs[KEY]).items() if name not in ("golden", "calibration")}
    read = Manifest.of({KEY: json.dumps(bare)}, "gem.onnx", shipped=True)
    assert read.golden is None and read.calibration == UNCALIBRATED
