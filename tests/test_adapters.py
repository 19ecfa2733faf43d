"""Frames that come from others' pipelines, and raw outputs that become results: OpenCV, DLPack, NV12."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fastloc import CnnLocalizer, Localizer, OnnxLocalizer
from fastloc.adapters import nv12_to_rgb, result_of
from fastloc.errors import FastlocError, ImageError, TextError
from fastloc.functional.frames.formats import MATRICES
from fastloc.imaging import images
from fastloc.onnx_file import header
from onnx_files import tiny_model
from repo import SAMPLES

SAMPLE = SAMPLES / "market.png"
TEXTS = ["cat", "red car"]
Frame = NDArray[np.uint8]


@cache
def localizer() -> Localizer:
    return Localizer(device="cpu")


def frame(size: tuple[int, int] = (60, 90), channels: int = 3) -> Frame:
    return np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)


# the same frame, blue first, as it lies in others' memory
LAYOUTS: dict[str, Callable[[Frame], Any]] = {
    "packed": lambda rgb: rgb[..., ::-1].copy(),
    "running backwards": lambda rgb: rgb[..., ::-1],
    "a part of a larger one": lambda rgb: np.pad(rgb[..., ::-1], ((3, 2), (5, 7), (0, 0)))[3:-2, 5:-7],
    "every other column": lambda rgb: np.repeat(rgb[..., ::-1], 2, 1)[:, ::2],
    "column by column": lambda rgb: np.asfortranarray(rgb[..., ::-1]),
    "read only": lambda rgb: read_only(rgb[..., ::-1].copy()),
    "with alpha": lambda rgb: np.concatenate([rgb[..., ::-1], np.full_like(rgb[..., :1], 255)], 2),
    "as floats": lambda rgb: rgb[..., ::-1] / np.float64(255),
    "planar tensor": lambda rgb: torch.from_numpy(rgb[..., ::-1].transpose(2, 0, 1).copy()),
}


def read_only(array: Frame) -> Frame:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_frame_of_opencv_is_the_same_picture_to_the_bit(layout: str) -> None:
    rgb = frame()
    source = LAYOUTS[layout](rgb)
    before = np.asarray(source).copy()
    assert np.array_equal(np.asarray(images.load(source, bgr=True)), rgb)
    assert np.array_equal(np.asarray(source), before), "the caller's frame was written to"


def test_transparent_and_grey_frames_of_opencv() -> None:
    rgba, grey = frame(channels=4), frame(channels=1)
    assert images.load(rgba[..., [2, 1, 0, 3]], bgr=True).tobytes() == images.load(rgba).tobytes()
    assert images.load(grey[..., 0], bgr=True).tobytes() == images.load(grey).tobytes()


def engines() -> dict[str, Any]:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return {
        "Localizer": (localizer(), TEXTS),
        "OnnxLocalizer": (OnnxLocalizer(providers="cpu"), TEXTS),
        "CnnLocalizer": (CnnLocalizer(module, method="cam", size=32, layer="0", device="cpu"), ["0", "1"]),
    }


@pytest.mark.parametrize("name", ["Localizer", "OnnxLocalizer", "CnnLocalizer"])
def test_every_engine_takes_blue_first(name: str) -> None:
    engine, texts = engines()[name]
    rgb, view = frame(), frame()[..., ::-1]
    expected = engine(rgb, texts)
    for found in (engine(view, texts, bgr=True), *engine([view, view], texts, bgr=True)):
        assert np.allclose(found.similarity, expected.similarity, atol=2e-6)
        assert found.picture.tobytes() == expected.picture.tobytes()
    assert np.array_equal(engine(view, texts, bgr=True).similarity, expected.similarity)
    assert not np.array_equal(engine(view, texts).similarity, expected.similarity), "blue first makes no difference"
    for other in (SAMPLE, str(SAMPLE), SAMPLE.read_bytes(), Image.fromarray(rgb)):
        with pytest.raises(ImageError, match="must be an array or a tensor for bgr"):
            engine(other, texts, bgr=True)


def test_a_submitted_frame_may_be_blue_first() -> None:
    found = localizer().submit(frame()[..., ::-1], TEXTS, bgr=True).result()
    assert np.array_equal(found.similarity, localizer()(frame(), TEXTS).similarity)
    with pytest.raises(ImageError, match="must be an array or a tensor for bgr"):
        localizer().submit(SAMPLE, TEXTS, bgr=True)


class Device:
    """Frames behind `__dlpack__` alone, as cupy's and decoders' are; any way to the host fails the test."""

    def __init__(self, memory: Tensor) -> None:
        self.memory, self.asked = memory, 0

    def __dlpack__(self, **how: Any) -> Any:
        self.asked += 1
        return self.memory.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self.memory.__dlpack_device__()

    def __getattr__(self, name: str) -> Any:
        if name in ("cpu", "numpy", "get", "tolist", "__array__", "__array_interface__", "__getitem__", "__len__", "__buffer__"):
            raise AssertionError(f"{name} would bring the frames to the host")
        raise AttributeError(name)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The pixels that the localizer hands to its engine."""
    seen: list[Tensor] = []
    engine = localizer().engine

    class Spy:
        def __call__(self, pixels: Tensor, *rest: Any, **more: Any) -> Any:
            seen.append(pixels)
            return engine(pixels, *rest, **more)

        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

    monkeypatch.setattr(localizer(), "engine", Spy())
    return seen


CALLS: dict[str, Callable[[Any], Any]] = {
    "similarity": lambda frames: localizer().similarity(frames, TEXTS)[0],
    "heatmaps": lambda frames: localizer().heatmaps(frames, TEXTS),
    "labels": lambda frames: localizer().labels(frames, TEXTS),
}


@pytest.mark.parametrize("call", CALLS)
def test_frames_behind_dlpack_are_read_where_they_lie(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = torch.from_numpy(np.stack([frame(), frame()[::-1]]))
    expected = CALLS[call](memory)
    seen, source = spied(monkeypatch), Device(memory)
    found = CALLS[call](source)
    assert source.asked == 1 and [each.data_ptr() for each in seen] == [memory.data_ptr()], "the frames were copied"
    assert torch.equal(found, expected)
    # the way out: a consumer shares what was computed
    assert torch.from_dlpack(found).data_ptr() == found.data_ptr()


@pytest.mark.parametrize("kind", ["array", "read-only array", "part of an array", "tensor"])
def test_host_arrays_are_shared_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.stack([frame(), frame()])
    fixed, part = read_only(whole.copy()), whole[:, 5:, 7:]
    source: Any = {"array": whole, "read-only array": fixed, "part of an array": part, "tensor": torch.from_numpy(whole)}[kind]
    seen = spied(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        localizer().similarity(source, TEXTS)
    place = source.data_ptr() if isinstance(source, Tensor) else source.ctypes.data
    assert [each.data_ptr() for each in seen] == [place], "the frames were copied"


def test_what_cannot_be_shared() -> None:
    for call in CALLS.values():
        with pytest.raises(ImageError, match=r"frames must be .*__dlpack__, got a list"):
            call([[1, 2]])
        with pytest.raises(ImageError, match="there is bgr=True"):
            call(frame()[None, ..., ::-1])
        with pytest.raises(ImageError, match=r"frames must be torch\.uint8 \[B, H, W, 3\]"):
            call(np.zeros((2, 3, 4), np.uint8))


# libswscale's matrices, by name
SPACES = {"bt601": av.video.reformatter.Colorspace.ITU601, "bt709": av.video.reformatter.Colorspace.ITU709}
# its quick path is two steps too dark on average
FLAGS = av.video.reformatter.Interpolation
EXACT = FLAGS.POINT | FLAGS.ACCURATE_RND | FLAGS.FULL_CHR_H_INT
RANGES = {False: av.video.reformatter.ColorRange.MPEG, True: av.video.reformatter.ColorRange.JPEG}


def smooth(size: tuple[int, int]) -> Frame:
    """Slow waves of colour: chroma is halved, so sharp edges would measure the filter alone."""
    y, x = np.mgrid[: size[0], : size[1]] / 40
    waves = np.stack([np.sin(x), np.cos(y + x / 2), np.sin(y / 2 - x / 3)], -1)
    return np.rint(127.5 + 100 * waves).astype(np.uint8)


def surface(rgb: Frame, matrix: str, full: bool) -> Frame:
    """NV12 by libswscale, [H * 3 / 2, W]."""
    made = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="nv12", dst_colorspace=SPACES[matrix], dst_color_range=RANGES[full])
    luma, chroma = (np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : rgb.shape[1]] for plane in made.planes)
    return np.concatenate([luma, chroma])


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", SPACES)
def test_nv12_is_what_libswscale_makes_of_it(matrix: str, full: bool) -> None:
    rgb = smooth((120, 160))
    planes = surface(rgb, matrix, full)
    source = av.VideoFrame.from_ndarray(planes, "nv12")
    expected = source.reformat(
        format="rgb24", src_colorspace=SPACES[matrix], src_color_range=RANGES[full], dst_color_range=RANGES[True], interpolation=EXACT
    ).to_ndarray().astype(int)  # fmt: skip
    found = nv12_to_rgb(torch.from_numpy(planes), matrix=matrix, full_range=full)
    assert found.shape == rgb.shape and found.dtype == torch.uint8
    error = np.abs(found.numpy().astype(int) - expected)
    assert error.max() <= 1 and error.mean() < 0.02, f"{error.max()} steps, {error.mean():.4f} on average"
    other = nv12_to_rgb(torch.from_numpy(planes), matrix="bt2020", full_range=not full)
    assert np.abs(other.numpy().astype(int) - expected).max() > 10


def test_nv12_with_padding_in_batches_and_behind_dlpack() -> None:
    planes = surface(smooth((60, 90)), "bt709", False)
    luma, chroma = planes[:60], planes[60:]
    # a decoder's surface: rows and pitch rounded up
    padded = np.concatenate([np.pad(luma, ((0, 4), (0, 38))), np.pad(chroma, ((0, 2), (0, 38)))])
    expected = nv12_to_rgb(planes)
    assert torch.equal(nv12_to_rgb(padded, 60, 90), expected)
    both = nv12_to_rgb(Device(torch.from_numpy(np.stack([padded, padded[::-1]]))), 60, 90)
    assert both.shape == (2, 60, 90, 3) and torch.equal(both[0], expected)
    assert torch.equal(nv12_to_rgb(padded, 59, 89), expected[:59, :89])
    # what comes out goes in
    assert localizer().heatmaps(both, TEXTS).shape == (2, 2, 60, 90)


def test_no_nv12() -> None:
    for wrong in (np.zeros((6, 4), np.float32), np.zeros((7, 4), np.uint8), np.zeros((6, 5), np.uint8), np.zeros(6, np.uint8)):
        with pytest.raises(ImageError, match=r"\[rows \* 3 / 2, pitch\]"):
            nv12_to_rgb(wrong)
    with pytest.raises(FastlocError, match="unknown matrix 'bt708': did you mean 'bt709'"):
        nv12_to_rgb(np.zeros((6, 4), np.uint8), matrix="bt708")
    with pytest.raises(FastlocError, match="must lie in its surface of 4 x 4, got 8 x 4"):
        nv12_to_rgb(np.zeros((6, 4), np.uint8), 8)
    assert all(0 < row.red < 1 and 0 < row.blue < 1 - row.red for row in MATRICES.values())


@pytest.mark.parametrize("size", [(32, 40), None], ids=["fixed", "any size"])
@pytest.mark.parametrize("picture", [(32, 40), (75, 60)], ids=str)
def test_raw_outputs_are_the_result_that_the_runtime_gives(size: tuple[int, int] | None, picture: tuple[int, int], tmp_path: Path) -> None:
    file, names = tmp_path / "tiny.onnx", ("cat", "dog", "tree")
    tiny_model(file, kind="bytes", names=names, size=size)
    engine, manifest = OnnxLocalizer(file, providers="cpu"), header.read(file).manifest()
    source = frame(picture)
    expected = engine(source)
    resized = np.asarray(Image.fromarray(source).resize((40, 32), Image.Resampling.BICUBIC), np.float32).transpose(2, 0, 1)
    raw = engine.run(resized[None])
    for outputs, shown in ((raw, source), ({name: each[0] for name, each in raw.items()}, picture)):
        found = result_of(outputs, manifest, shown)
        assert np.abs(found.heatmaps - expected.heatmaps).max() < 1e-5 and found.texts == names
        assert found.image_scores is not None and expected.image_scores is not None
        assert np.allclose(found.image_scores, expected.image_scores, atol=1e-6) and found.no_scores == expected.no_scores
        assert found.to_dict()["method"] == "gem" and found.picture.size == picture[::-1]
    # a pipeline's buffer is used again
    buffer = raw["similarity"].copy()
    kept = result_of({"similarity": buffer}, manifest, picture)
    buffer[:] = 0
    assert np.array_equal(kept.similarity, raw["similarity"][0]) and kept.scores is None
    assert np.array_equal(result_of(raw, manifest, source[..., ::-1], bgr=True).picture, source)


def test_raw_outputs_that_are_none(tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.onnx")
    manifest, grid = header.read(tmp_path / "tiny.onnx").manifest(), np.zeros((2, 4, 5), np.float32)
    assert result_of({"similarity": grid}, manifest, (32, 40), texts=["a", "b"]).texts == ("a", "b")
    with pytest.raises(TextError, match="texts must be given for a file without"):
        result_of({"similarity": grid}, manifest, (32, 40))
    with pytest.raises(TextError, match="texts must be 2, one a similarity, got 3"):
        result_of({"similarity": grid}, manifest, (32, 40), texts=["a", "b", "c"])
    with pytest.raises(FastlocError, match=r"outputs must hold 'similarity', .*, got labels"):
        result_of({"labels": grid}, manifest, (32, 40), texts=["a", "b"])
    with pytest.raises(FastlocError, match="the file's grid, 4 x 5, got 5 x 4"):
        result_of({"similarity": grid.transpose(0, 2, 1)}, manifest, (32, 40), texts=["a", "b"])
    for wrong in (np.zeros((2, 2, 4, 5)), np.zeros((4, 5))):
        with pytest.raises(FastlocError, match="must be that of one frame"):
            result_of({"similarity": wrong}, manifest, (32, 40), texts=["a", "b"])
