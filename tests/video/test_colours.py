"""Colours of video: matrices and ranges, pixel formats and transparency come out as the RGB that went in."""

from pathlib import Path

import av
import numpy as np
import pytest

from clips import Picture, write_clip
from fastloc.video.sources.av_pixels import to_rgb
from fastloc.video.sources.iterables import frame_of
from fastloc.video.sources.open_source import open_source
from reading import read

LOSSLESS = {"qp": "0"}
# eight columns of known colours
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50), (30, 180, 220), (128, 128, 128)]


def columns(height: int = 48, width: int = 64) -> Picture:
    picture = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        picture[:, width * number // 8 : width * (number + 1) // 8] = colour
    return picture


def worst(pixels: Picture) -> int:
    """The largest error in the middle of a column."""
    height, width = pixels.shape[:2]
    middles = np.array([pixels[height // 2, width * (2 * number + 1) // 16] for number in range(8)]).astype(int)
    return int(np.abs(middles - COLOURS).max())


# (matrix, said, full range, pixel format, size): 8-bit steps in YUV are up to 3 of 255 in RGB, the wrong matrix is 20 or more
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("matrix", "tagged", "size", "pixels"),
    [
        ("bt601", True, (48, 64), "yuv420p"),
        ("bt601", False, (48, 64), "yuv420p"),
        ("bt709", True, (48, 64), "yuv420p"),
        ("bt709", True, (48, 64), "yuv444p"),
        ("bt709", True, (48, 64), "yuv422p10le"),
        ("bt601", True, (640, 64), "yuv420p"),
        ("bt709", False, (640, 64), "yuv420p"),
        ("bt709", False, (48, 1280), "yuv420p"),
    ],
)
def test_colours(tmp_path: Path, matrix: str, tagged: bool, size: tuple[int, int], pixels: str, full: bool) -> None:
    path = write_clip(
        tmp_path / "x.mkv", [columns(*size)], matrix=matrix, tagged=tagged, pixel_format=pixels, full_range=full, options=LOSSLESS
    )  # fmt: skip
    assert worst(read(open_source(path))[0].rgb) <= 4


@pytest.mark.parametrize("pixels", ["rgba", "bgra", "gbrp", "rgb48le", "yuva420p", "nv12", "gray", "gray10le", "gray16le", "ya8"])
def test_pixel_formats(pixels: str) -> None:
    frame = av.VideoFrame.from_ndarray(columns(), format="rgb24").reformat(format=pixels)
    found = to_rgb(frame)
    if "gray" in pixels or pixels == "ya8":
        luma = np.array(COLOURS) @ (0.299, 0.587, 0.114)
        assert np.abs(found[24, 4::8].astype(float) - luma[:, None]).max() <= 2
    else:
        assert worst(found) <= 4


def test_transparency_is_over_white() -> None:
    frame = av.VideoFrame.from_ndarray(np.full((4, 6, 4), (200, 0, 0, 51), np.uint8), format="rgba")
    assert to_rgb(frame)[0, 0].tolist() == [244, 204, 204]
    assert frame_of(frame, 0, 0.0, 0.0).rgb[3, 5].tolist() == [244, 204, 204]
