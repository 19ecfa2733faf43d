"""A frame located without a picture has the results of the call with a picture, in every kind of localizer."""

import json
import time

import numpy as np
import pytest
from PIL import Image

import fastloc
from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocError, ImageError, TextError
from fastloc.video.locator import Locator
from fastloc.video.sources.frame import Frame
from fastloc.video.temporal import BACKGROUND
from fastloc.video.worker import Worker
from onnx_files import tiny_model

SCENES = json.loads((SAMPLES / "samples.json").read_text())
MARKET = np.asarray(Image.open(SAMPLES / "market.webp").convert("RGB"))
TEXTS = ["cat", "pizza", "red car"]


@pytest.fixture(scope="module")
def localizer() -> fastloc.Localizer:
    return fastloc.Localizer(device="cpu")


@pytest.fixture(scope="module")
def exported() -> fastloc.OnnxLocalizer:
    return fastloc.OnnxLocalizer(providers="cpu")


def framed(pixels: np.ndarray, native: object = None, bgr: bool = False) -> Frame:
    return Frame(0, 0.0, time.monotonic(), pixels.shape[:2], lambda: pixels, native, bgr=bgr)


@pytest.mark.parametrize("kind", ["localizer", "exported"])
def test_a_frame_says_what_the_picture_says(kind: str, request: pytest.FixtureRequest):
    engine = request.getfixturevalue(kind)
    locator = Locator(engine)
    found = locator.locate(framed(MARKET), locator.prepare(TEXTS)).result(Image.fromarray(MARKET))
    want = engine(MARKET, TEXTS)
    np.testing.assert_array_equal(found.similarity, want.similarity)
    np.testing.assert_array_equal(found.heatmaps, want.heatmaps)
    assert (found.method, found.model, found.texts, found.order) == (want.method, want.model, want.texts, want.order)
    assert locator.logit_scale == pytest.approx(21.8, abs=0.01)


@pytest.mark.parametrize("method", ["clip_surgery", "naclip", "grad_cam", "rollout", "rclip"])
def test_every_kind_of_method_goes(localizer: fastloc.Localizer, method: str):
    other = localizer.with_method(method)
    locator = Locator(other)
    found = locator.locate(framed(MARKET), locator.prepare(TEXTS)).result(Image.fromarray(MARKET))
    np.testing.assert_array_equal(found.similarity, other(MARKET, TEXTS).similarity)


def test_where_the_device_does_not_resize_pillow_does(localizer: fastloc.Localizer):
    pillow = fastloc.Localizer(device="cpu", plan={"frames": "pillow"})
    plain = localizer.predict_frame(MARKET, localizer.encode_texts(TEXTS))
    np.testing.assert_allclose(pillow.predict_frame(MARKET, pillow.encode_texts(TEXTS)).similarity, plain.similarity, atol=1e-6)
    turned = np.ascontiguousarray(MARKET[..., ::-1])
    for engine in (pillow, localizer):
        got = engine.predict_frame(turned, engine.encode_texts(TEXTS), bgr=True)
        np.testing.assert_allclose(got.similarity, plain.similarity, atol=1e-6)


def test_arrays_may_be_views_and_read_only(localizer: fastloc.Localizer, exported: fastloc.OnnxLocalizer):
    view = MARKET[20:-20:2, ::-2]
    frozen = np.array(view)
    frozen.flags.writeable = False
    for engine in (localizer, exported):
        prompts = engine.encode_texts(TEXTS)
        expected = engine.predict_frame(np.array(view), prompts).similarity
        for each in (view, frozen):
            np.testing.assert_array_equal(engine.predict_frame(each, prompts).similarity, expected)


def test_a_tensor_on_a_device_is_not_converted(localizer: fastloc.Localizer):
    import torch

    class OnDevice:
        """A tensor that says it lies on a GPU, and whose frame has no pixels on the host."""

        def __init__(self, pixels: np.ndarray) -> None:
            self.tensor = torch.from_numpy(np.array(pixels))

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, **_: object) -> object:
            return self.tensor.__dlpack__()

    def refuse() -> np.ndarray:
        raise AssertionError("copied to the host")

    seen = []

    class Kept:
        def encode_texts(self, texts: list[str]) -> list[str]:
            return localizer.encode_texts(texts)

        def predict_frame(self, frame: OnDevice, prompts: list[str], bgr: bool = False):
            seen.append(bgr)
            return localizer.predict_frame(frame.tensor, prompts, bgr)

        __call__ = encode_texts

    locator = Locator(Kept())
    frame = Frame(0, 0.0, 0.0, MARKET.shape[:2], refuse, OnDevice(MARKET[..., ::-1]), bgr=True)
    found = locator.locate(frame, locator.prepare(TEXTS))
    np.testing.assert_array_equal(found.similarity, localizer.predict_frame(MARKET, localizer.encode_texts(TEXTS)).similarity)
    assert seen == [True] and not frame.converted


def test_a_function_of_picture_and_texts_is_a_localizer(exported: fastloc.OnnxLocalizer):
    locator = Locator(lambda picture, texts: exported(picture, texts))
    found = locator.locate(framed(MARKET), locator.prepare("cat"))
    np.testing.assert_array_equal(found.similarity, exported(MARKET, "cat").similarity)
    assert locator.logit_scale == 100


def test_a_camera_s_file_takes_the_frame_as_it_is(tmp_path):
    from fastloc.onnx_file.golden import unit_texts
    from onnx_files import EMBED

    tiny_model(tmp_path / "frames.onnx", kind="frames", layout="NHWC", frame=(64, 96), size=(32, 48))
    names = ("a", "b")
    engine = fastloc.OnnxLocalizer(tmp_path / "frames.onnx", embeddings=(names, unit_texts(3, 2, EMBED)), providers="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    locator = Locator(engine)
    prompts = locator.prepare(None)
    assert prompts.texts == names
    np.testing.assert_array_equal(locator.locate(framed(pixels), prompts).similarity, engine(pixels).similarity)
    with pytest.raises(ImageError, match="64"):
        locator.locate(framed(pixels[:40]), prompts)


@pytest.mark.filterwarnings("error::fastloc.FastlocWarning")
def test_a_background_holds_what_is_not_there_down(localizer: fastloc.Localizer):
    calm, plain = (Worker(["cat", "penguin"], localizer, maps=maps) for maps in ("background", "frame"))
    heat = {name: each.answer(framed(MARKET)).result for name, each in (("calm", calm), ("plain", plain))}
    assert calm.background == BACKGROUND and heat["calm"].texts == ("cat", "penguin")
    present, absent = heat["calm"].heatmaps.max((1, 2))
    # by its own range what is absent is as hot as what is there
    assert heat["plain"].heatmaps.max((1, 2)).tolist() == [1, 1]
    assert present > 0.5 > 0.1 > absent
    cat = np.asarray(Image.open(SAMPLES / SCENES["market"]["mask"])) == 1
    point = heat["calm"].points()[0]
    assert cat[point.y, point.x]


def test_texts_that_are_asked_for_are_no_background(localizer: fastloc.Localizer):
    prompts = Locator(localizer).prepare(["sky", "cat"], ["cat", "wall", "wall"])
    assert prompts.texts == ("sky", "cat") and prompts.background == ("wall",)


def test_texts_that_cannot_be_are_reported(localizer: fastloc.Localizer):
    for texts in (None, [], [""], [3]):
        with pytest.raises(TextError):
            Locator(localizer).prepare(texts)


def test_limits_are_checked(localizer: fastloc.Localizer):
    from dataclasses import replace

    result = localizer(MARKET, TEXTS)
    for limits, message in (([[0, 1]], "3 pairs"), ([[1, 0]] * 3, "3 pairs"), ([[0, np.nan]] * 3, "3 pairs")):
        with pytest.raises(FastlocError, match=f"limits must be {message}"):
            replace(result, limits=np.float32(limits))
    shares = localizer.with_method("naclip")(MARKET, TEXTS)
    with pytest.raises(FastlocError, match="order must be 'grid' or 'picture' where limits are set"):
        replace(shares, limits=np.float32([[0, 1]] * 3))


def test_limits_are_read_out_everywhere(localizer: fastloc.Localizer):
    from dataclasses import replace

    result = localizer(MARKET, TEXTS)
    low, high = result.similarity.min() - 1, result.similarity.max() + 1
    wide = replace(result, limits=np.float32([[low, high]] * 3))
    assert wide.heatmaps.min() > 0.3 and wide.heatmaps.max() < 0.7
    # the same peaks, less hot; refined too
    assert [(each.x, each.y) for each in wide.points()] == [(each.x, each.y) for each in result.points()]
    assert wide.boxes(0.9) == [] and wide.to_dict()["limits"] == wide.limits.tolist()
    refined = wide.refined(iterations=1)
    assert refined.heatmaps.min() > 0.3 and refined.heatmaps.max() < 0.7
