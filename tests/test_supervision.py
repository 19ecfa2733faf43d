"""Results as supervision's detections, and the examples of the page on pipelines."""

from __future__ import annotations

import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fastloc
from fastloc import Localizer, Result
from fastloc.adapters import to_supervision
from fastloc.errors import FastlocError
from fastloc.imaging.geometry import fit
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
