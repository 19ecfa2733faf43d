"""Frames that come from others' pipelines, and results that go into them: OpenCV, DLPack, NV12, supervision, raw outputs."""

from __future__ import annotations

import subprocess
import sys
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

import fastloc
from fastloc import CnnLocalizer, Localizer, OnnxLocalizer, Result
from fastloc.adapters import nv12_to_rgb, result_of, to_supervision
from fastloc.errors import FastlocError, ImageError, TextError
from fastloc.functional.frame_formats import MATRICES
from fastloc.imaging import images
from fastloc.imaging.geometry import fit
from fastloc.onnx_file import header
from onnx_files import tiny_model
from repo import REPO, SAMPLES

with warnings.catch_warnings():
    # it works without OpenCV, and warns of that at length
    warnings.simplefilter("ignore")
    import supervision as sv

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


def result(*maps: str) -> Result:
    """Maps drawn with digits, a patch each, 10 pixels a side."""
    grids = np.array([[[float(cell) for cell in row] for row in drawn.split()] for drawn in maps], np.float32)
    size = (grids.shape[1] * 10, grids.shape[2] * 10)
    texts = tuple("abc"[: len(maps)])
    return Result(picture=Image.fromarray(frame(size)), texts=texts, similarity=grids, geometry=fit(size, size, 10), order="grid")


# two regions, one within the other's box; one at the edge
DRAWN = ("999990 900090 900800 900000 999999", "000000 000000 000000 070000 000009")


@pytest.mark.parametrize("masks", [True, False])
def test_detections_are_the_boxes_with_their_regions(masks: bool) -> None:
    located = result(*DRAWN)
    found, boxes = to_supervision(located, masks=masks), located.boxes()
    assert len(found) == len(boxes) == 4
    assert found.xyxy.tolist() == [[box.x0, box.y0, box.x1, box.y1] for box in boxes] and found.xyxy.dtype == np.float32
    assert found.confidence is not None and found.confidence.tolist() == pytest.approx([box.value for box in boxes])
    assert found.class_id is not None and found.class_id.tolist() == [0, 0, 1, 1]
    assert found.data["class_name"].tolist() == ["a", "a", "b", "b"]
    assert (found.mask is None) == (not masks)
    if found.mask is None:
        return
    assert found.mask.shape == (4, 50, 60) and found.mask.dtype == np.bool_
    for mask, box in zip(found.mask, boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (box.x0, box.y0, box.x1, box.y1)
    # the second lies in the first one's box, and in the first one's mask none of it does
    assert not (found.mask[0] & found.mask[1]).any()
    assert np.array_equal(found.mask[:2].any(0), located.masks()[0]) and np.array_equal(found.mask[2:].any(0), located.masks()[1])


def test_regions_of_detections_are_scipy_s() -> None:
    from scipy import ndimage

    grid = np.random.default_rng(0).standard_normal((3, 9, 11)).astype(np.float32)
    for order in ("picture", "softmax"):
        located = Result(
            picture=Image.new("RGB", (110, 90)), texts=tuple("abc"), similarity=grid, geometry=fit((90, 110), (90, 110), 10), order=order,
            logit_scale=1.0,
        )  # fmt: skip
        found = to_supervision(located, min_area=1)
        assert found.mask is not None and found.class_id is not None
        expected = set()
        for text, mask in enumerate(located.masks()):
            regions, count = ndimage.label(mask, np.ones((3, 3)))
            expected |= {(text, (regions == number).tobytes()) for number in range(1, count + 1)}
        assert len(expected) > 3
        assert {(int(text), mask.tobytes()) for text, mask in zip(found.class_id, found.mask, strict=True)} == expected


def test_the_same_text_twice_is_two_classes() -> None:
    located = result(*DRAWN)
    twice = Result(picture=located.picture, texts=("a", "a"), similarity=located.similarity, geometry=located.geometry, order="grid")
    found = to_supervision(twice)
    assert found.class_id is not None and found.class_id.tolist() == [0, 0, 1, 1]


def test_nothing_found_is_supervision_s_empty() -> None:
    for located in (result("000 000"), result(DRAWN[0])):
        found = to_supervision(located, threshold=0.5 if located.similarity.max() == 0 else 1.5)
        assert found.is_empty() and len(found) == 0 and found.xyxy.shape == (0, 4)
        assert sv.BoxAnnotator().annotate(frame(), found).shape == (60, 90, 3)
        assert len(sv.Detections.merge([found, to_supervision(result(DRAWN[0]))])) == 2
    # a text without a region beside one with
    assert to_supervision(result("000 000", "009 000")).data["class_name"].tolist() == ["b"]


@pytest.mark.parametrize("name", ["BoxAnnotator", "MaskAnnotator", "LabelAnnotator", "PolygonAnnotator", "HeatMapAnnotator"])
def test_annotators_draw_detections(name: str) -> None:
    annotator = getattr(sv, name)
    located = result(*DRAWN)
    before = np.asarray(located.picture)[..., ::-1].copy()
    after = annotator().annotate(before.copy(), to_supervision(located))
    assert after.shape == before.shape and (after != before).any()


def test_zones_and_trackers_take_detections() -> None:
    found = to_supervision(result(*DRAWN))
    assert sv.PolygonZone(np.array([[0, 0], [70, 0], [70, 60], [0, 60]])).trigger(found).all()
    assert len(found.with_nms(0.9)) == 4 and len(found[found.data["class_name"] == "b"]) == 2
    if hasattr(sv, "ByteTrack"):
        tracked = sv.ByteTrack().update_with_detections(found)
        assert tracked.tracker_id is not None and len(tracked)


def test_what_threshold_and_least_area_do() -> None:
    located = result(*DRAWN)
    assert len(to_supervision(located, min_area=800)) == 2
    with pytest.raises(FastlocError, match="threshold"):
        to_supervision(located, threshold=float("nan"))


def test_without_supervision_the_error_names_the_extra(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["supervision"] = sys.modules["torch"] = None
import fastloc.adapters
try:
    fastloc.adapters.to_supervision(None)
except fastloc.FastlocError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == 'this needs supervision, which is not installed: pip install "fastloc[supervision]"', done.stderr


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


def clip(path: Path) -> Path:
    """Three frames of the sample, as a video."""
    picture = av.VideoFrame.from_image(Image.open(SAMPLE).convert("RGB"))
    with av.open(path, "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path


def test_supervision_s_frames_go_into_a_stream_and_its_results_come_out(tmp_path: Path) -> None:
    path = str(clip(tmp_path / "clip.mp4"))
    with fastloc.stream(sv.get_video_frames_generator(path), TEXTS, localizer(), bgr=True) as stream:
        found = [each.result for each in stream]
    expected = [localizer()(each[..., ::-1], TEXTS) for each in sv.get_video_frames_generator(path)]
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.similarity - other.similarity).max() < 2e-6
        assert to_supervision(one).xyxy.tolist() == to_supervision(other).xyxy.tolist()


def blocks() -> dict[str, str]:
    """The document's Python, by the first package that it imports."""
    text = (REPO / "docs" / "guide" / "pipelines.md").read_text()
    codes = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    return {code.split()[1].partition(".")[0]: code for code in codes}


def test_the_document_s_examples_are_python_and_fastloc_has_their_names() -> None:
    import ast

    assert set(blocks()) == {"cv2", "av", "torch", "PyNvVideoCodec", "supervision", "gi", "ctypes"}
    for code in blocks().values():
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fastloc"):
                exec(compile(ast.Module([node], []), "pipelines.md", "exec"))


@pytest.mark.parametrize("name", ["av", "supervision"])
def test_the_document_s_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(compile(blocks()[name], "pipelines.md", "exec"), space)
    if name == "av":
        assert capsys.readouterr().out.count("'cat'") == 3
    else:
        assert "cat" in space["found"].data["class_name"].tolist()
