"""Inputs made of a decoder's planes: against the RGB picture of the same frame, resized by Pillow."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

import fastloc
from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocError, ImageError
from fastloc.imaging.geometry import FITS, fit
from fastloc.imaging.preprocess import INTERPOLATIONS, prepare
from fastloc.imaging.reduced_picture import ScaledPicture
from fastloc.video.locator import Locator
from fastloc.video.sources.frame import Frame
from fastloc.video.sources.iterables import frame_of
from fastloc.video.sources.planes import to_rgb, to_yuv

SIZE = (360, 640)
TEXTS = ["cat", "pizza"]
ENGINES = {"torch": lambda: fastloc.Localizer(device="cpu"), "onnxruntime": lambda: fastloc.OnnxLocalizer(providers="cpu")}


def frame(pixels: Any, index: int = 0) -> Frame:
    """A decoder's frame of pixels uint8 [H, W, 3]: 4:2:0, BT.709, limited range."""
    made = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    made = made.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
    made.pts, made.time_base = index, Fraction(1, 25)
    return frame_of(made, index, index / 25, 0.0)


def smooth(size: tuple[int, int] = SIZE, seed: int = 0) -> Any:
    """Pixels uint8 [H, W, 3] with grain."""
    random = np.random.default_rng(seed)
    pixels = Image.fromarray(random.integers(40, 216, (12, 16, 3), dtype=np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
    return (np.asarray(pixels) + random.normal(0, 4, (*size, 1))).clip(0, 255).astype(np.uint8)


def scene(size: tuple[int, int] = SIZE) -> Any:
    """A picture of things that the embedded model knows."""
    return np.asarray(Image.open(SAMPLES / "market.webp").convert("RGB").resize(size[::-1]))


def test_colours_are_those_of_the_other_direction() -> None:
    """Planes of every value, turned to RGB and back; colours that no screen has end at its edge."""
    luma, blue, red = (each.astype(np.uint8) for each in np.meshgrid(range(0, 256, 5), range(0, 256, 15), range(0, 256, 15)))
    found = to_rgb(luma.reshape(1, -1), blue.reshape(1, -1), red.reshape(1, -1))
    assert found.dtype == np.float32 and found.min() == 0 and found.max() == 255
    inside = ((found > 0) & (found < 255)).all(0).ravel()
    back = to_yuv(np.moveaxis(found, 0, -1)).reshape(-1, 3)
    assert inside.mean() > 0.1
    np.testing.assert_allclose(back[inside], np.stack([luma, blue, red], axis=-1).reshape(-1, 3)[inside], atol=1e-3)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(112, 112), (96, 168), (45, 333), (31, 30), (400, 700)], ids=str)
def test_a_scaled_frame_is_the_resized_picture(interpolation: str, size: tuple[int, int]) -> None:
    """Within what 8 bits in between, another kernel and the RGB conversion, 1.4 steps too dark, make of grain; nearest pixels are others
    where two are as near."""
    given = frame(smooth())
    found = given.planes.scaled(size, interpolation)
    expected = np.asarray(Image.fromarray(given.rgb).resize(size[::-1], INTERPOLATIONS[interpolation])).transpose(2, 0, 1)
    off = np.abs(found - expected)
    assert found.shape == (3, *size) and found.dtype == np.float32 and 0 <= found.min() <= found.max() <= 255
    assert off.mean() < (6 if interpolation == "nearest" else 2.5) and np.quantile(off, 0.99) < (24 if interpolation == "nearest" else 8)


def test_places_stay_where_they_are() -> None:
    """Ramps up and down each axis are scaled without a shift: less than a fiftieth of a pixel of the scaled frame. What rounding to luma's
    steps adds is the same for both."""
    size = (90, 100)
    for axis in (0, 1):
        up = np.linspace(20, 235, SIZE[axis])
        at = (np.arange(size[axis]) + 0.5) / size[axis] * SIZE[axis] - 0.5
        off = []
        for ramp in (up, up[::-1]):
            pixels = np.broadcast_to(np.expand_dims(ramp, 1 - axis), SIZE)[..., None].repeat(3, 2).round().astype(np.uint8)
            found = frame(pixels).planes.scaled(size)[1].mean(1 - axis)
            off.append((found - np.interp(at, np.arange(SIZE[axis]), ramp))[5:-5].mean())
        assert abs(off[0] - off[1]) / 2 < 0.02 * (up[-1] - up[0]) / size[axis]


@pytest.mark.parametrize("how", FITS)
def test_every_fit(how: str) -> None:
    """Crops and borders lie where they do for a picture."""
    given = frame(smooth())
    geometry = fit(SIZE, 64, 8, how)
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    found = prepare(given.picture, geometry, mean, std)
    expected = prepare(Image.fromarray(given.rgb), geometry, mean, std)
    assert found.shape == expected.shape and found.dtype == np.float32 and found.flags.c_contiguous
    assert np.array_equal(found == 0, expected == 0)
    assert np.abs(found - expected).mean() < 2.5 / 255 / 0.26


def test_an_untagged_frame_of_high_definition_is_the_tagged_one() -> None:
    pixels = smooth((600, 1100))
    tagged, untagged = frame(pixels), frame(pixels)
    untagged.native.colorspace, untagged.native.color_range = 2, 0
    np.testing.assert_array_equal(untagged.planes.scaled((112, 200)), tagged.planes.scaled((112, 200)))
    np.testing.assert_array_equal(untagged.rgb, tagged.rgb)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("times", [1.5, 2.5, 3, 3.5, 5, 7, 12, 23.5, 40])
def test_grey_stays_grey_at_every_scale(interpolation: str, times: float) -> None:
    """The levels of a plain frame do not depend on how often its rows and columns are scaled down, but for one step of luma."""
    for axis, count, grey in product((0, 1), (20, 33), (0, 90, 255)):
        size, small = [112, 112], [112, 112]
        size[axis], small[axis] = round(count * times / 2) * 2, count
        given = frame(np.full((*size, 3), grey, np.uint8))
        found = given.planes.scaled(tuple(small), interpolation)
        assert np.ptp(found) <= 1.01 * 255 / 219
        np.testing.assert_allclose(found, grey, atol=1.5)


def test_a_frame_that_is_far_too_large() -> None:
    """It is converted and resized, as a picture is."""
    given = frame(smooth((64, 2048)))
    expected = np.asarray(Image.fromarray(given.planes.rgb()).resize((2, 4), Image.Resampling.BICUBIC), np.float32)
    np.testing.assert_array_equal(given.planes.scaled((4, 2)), expected.transpose(2, 0, 1))


def test_what_is_kept_from_frame_to_frame_changes_nothing() -> None:
    """In a thread that has scaled other sizes, and in a new one: the same numbers."""
    small, large = frame(smooth((64, 96))).planes, frame(smooth()).planes
    for planes, size in ((large, (20, 30)), (small, (20, 30)), (large, (40, 60)), (large, (20, 30)), (small, (40, 60))):
        with ThreadPoolExecutor(1) as pool:
            expected = pool.submit(planes.scaled, size).result()
        np.testing.assert_array_equal(planes.scaled(size), expected)


def test_a_frame_that_cannot_be_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("no")

    given = frame(smooth()).planes
    monkeypatch.setattr("fastloc.video.sources.planes._KEPT.scaler", lambda _: SimpleNamespace(reformat=fails))
    with pytest.raises(ImageError, match=r"a frame cannot be scaled to 200 x 300 \(ValueError\)"):
        given.scaled((200, 300))


def test_the_picture_is_the_frame() -> None:
    given = frame(smooth())
    picture = given.picture
    assert isinstance(picture, ScaledPicture) and picture.size == SIZE[::-1] and picture.mode == "RGB"
    picture.scaled((20, 30), "bicubic")
    assert not given.converted
    np.testing.assert_array_equal(np.asarray(picture), given.rgb)
    assert frame_of(smooth(), 0, 0.0, 0.0).picture is None


@pytest.mark.parametrize("kind", ENGINES)
def test_a_stream_of_reduced_frames(kind: str) -> None:
    """Each frame's similarities are near those of its RGB picture, its peak is in the same patch or beside it, a batch has the same; the
    RGB pixels are made when somebody reads them."""
    engine = ENGINES[kind]()
    frames = [frame(np.roll(scene(), 40 * i, axis=1), i).native for i in range(4)]
    full = list(fastloc.stream(frames, TEXTS, engine, rate=25))
    found = list(fastloc.stream(frames, TEXTS, engine, rate=25, decode="reduced"))
    batch = list(fastloc.stream(frames, TEXTS, engine, rate=25, decode="reduced", batch=2))
    assert len(found) == len(batch) == 4
    for each, other, together in zip(found, full, batch, strict=True):
        assert not each.frame.converted and other.frame.converted
        span = float(np.ptp(other.located.similarity))
        difference = np.abs(each.located.similarity - other.located.similarity).max()
        assert 0 < difference < 0.1 * span
        np.testing.assert_allclose(together.located.similarity, each.located.similarity, atol=1e-5)
        cell = max(SIZE[0] / each.located.similarity.shape[1], SIZE[1] / each.located.similarity.shape[2])
        for point, expected in zip(each.result.points(), other.result.points(), strict=True):
            assert max(abs(point.x - expected.x), abs(point.y - expected.y)) <= cell
        assert not each.frame.converted
        np.testing.assert_array_equal(np.asarray(each.result.picture), each.frame.rgb)


@pytest.mark.parametrize("kind", ENGINES)
def test_frames_without_planes_are_the_full_ones(kind: str) -> None:
    engine = ENGINES[kind]()
    frames = [np.roll(scene(), 40 * i, axis=1) for i in range(2)]
    for each, other in zip(
        fastloc.stream(frames, TEXTS, engine, decode="reduced"), fastloc.stream(frames, TEXTS, engine), strict=True
    ):
        np.testing.assert_array_equal(each.located.similarity, other.located.similarity)


@pytest.mark.parametrize("kind", ENGINES)
def test_pictures_and_arrays_in_one_batch(kind: str) -> None:
    """Each has its own answer; sizes that differ are refused."""
    engine = ENGINES[kind]()
    texts, given = engine.encode_texts(TEXTS), frame(scene())
    found = engine.predict_frames([given.picture, given.rgb], texts)
    for prediction, each in zip(found, (given.picture, given.rgb), strict=True):
        np.testing.assert_allclose(prediction.similarity, engine.predict_frame(each, texts).similarity, atol=1e-5)
    if kind == "torch":
        with pytest.raises(ImageError, match="frames of a batch must be of one size"):
            engine.predict_frames([given.picture, given.rgb[:100]], texts)


def test_a_pipeline_takes_decode_too() -> None:
    with fastloc.Pipeline(TEXTS, fastloc.OnnxLocalizer(providers="cpu"), decode="reduced") as pipeline:
        found = pipeline.submit(frame(scene()).native).result(30)
        assert not found.frame.converted
        assert pipeline._description()["decode"] == "reduced"


def test_a_function_gets_the_full_picture() -> None:
    seen: list[Image.Image] = []
    engine = fastloc.OnnxLocalizer(providers="cpu")

    def call(picture: Image.Image, texts: list[str]) -> Any:
        seen.append(picture)
        return engine(picture, texts)

    locator, given = Locator(call, "reduced"), frame(scene())
    assert locator.reads_pixels(given)
    locator.locate(given, locator.prepare(TEXTS))
    np.testing.assert_array_equal(np.asarray(seen[0]), given.rgb)


def test_an_unknown_decode_is_refused(tmp_path: Path) -> None:
    for wrong in (lambda: Locator(None, "half"), lambda: fastloc.stream([scene()], TEXTS, decode="half")):
        with pytest.raises(FastlocError, match=r"decode.*half"):
            wrong()
