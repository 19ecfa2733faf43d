"""Video files: every frame with its time, upright, in any container and of any size."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clips import SIZE, coded, colours, write_clip
from fastloc.video.sources import av_pixels
from fastloc.video.sources.av_pixels import Orientation, orientation
from fastloc.video.sources.open_source import open_source
from reading import UNEVEN, read, shown


@pytest.mark.parametrize("times", [None, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("x.mp4", {}),
        ("x.mp4", {"audio": "aac", "gop": 3}),
        ("x.mov", {"audio": "pcm"}),
        ("x.mkv", {"codec": "ffv1", "pixel_format": "yuv444p"}),
        ("x.webm", {"audio": "vorbis"}),
        ("x.webm", {"codec": "libvpx-vp9", "audio": "opus"}),
        ("x.ts", {"audio": "mp3"}),
        ("x.mp4", {"codec": "libx265"}),
        ("x.mp4", {"codec": "mpeg4", "time_base": Fraction(1, 1000)}),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_every_frame_with_its_time(tmp_path: Path, name: str, settings: dict[str, Any], times: list[float] | None) -> None:
    count = len(times) if times else 24
    source = open_source(write_clip(tmp_path / name, colours(count), times, **settings))
    frames = read(source)
    assert shown(frames) == list(range(count)) == [frame.index for frame in frames]
    expected = times or [index / 10 for index in range(count)]
    assert [frame.time for frame in frames] == pytest.approx(expected, abs=6e-4)
    for frame in frames:
        assert frame.pts is not None and frame.time_base is not None and frames[0].pts is not None
        # exactly what the file says, relative to the first
        assert frame.time == float((frame.pts - frames[0].pts) * frame.time_base)
        assert frame.size == SIZE and frame.native.pts == frame.pts and frame.native.time_base == frame.time_base
    info = source.info
    assert (info.size, info.audio, info.time_base) == (SIZE, "audio" in settings, frames[0].time_base)
    assert source.corrupt == source.reconnects == 0 and not source.live
    assert info.duration is not None and info.duration > frames[-1].time - 0.5
    # a source is read once
    assert list(source.frames()) == []


def test_pixels_are_made_when_they_are_asked_for(tmp_path: Path) -> None:
    frames = read(open_source(write_clip(tmp_path / "x.mp4", colours(3))))
    assert not any(frame.converted for frame in frames)
    pixels = frames[1].rgb
    assert pixels.shape == (*SIZE, 3) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert frames[1].rgb is pixels and frames[1].converted and not frames[2].converted


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_and_mirrored_clips_come_out_upright(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    # what is written is turned back by hand: players turn counterclockwise by `degrees`, then flip sideways
    pictures = [np.ascontiguousarray(np.rot90(picture[:, ::-1] if mirrored else picture, -degrees // 90)) for picture in colours(4)]
    path = write_clip(tmp_path / "x.mp4", pictures, rotation=degrees, mirrored=mirrored, pixel_aspect=Fraction(4, 3), options={"crf": "4"})
    source = open_source(path)
    frames = read(source)
    assert shown(frames) == [0, 1, 2, 3]
    assert {frame.size for frame in frames} == {SIZE} == {frame.rgb.shape[:2] for frame in frames} and source.info.size == SIZE
    assert source.info.pixel_aspect == (Fraction(3, 4) if degrees % 180 else Fraction(4, 3))
    # the code alone would not distinguish a picture that is upside down from one that is not
    assert np.abs(frames[3].rgb.astype(int) - coded(3)).mean() < 12


def test_an_angle_without_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV refuses side data as soon as it holds a kind that it does not know; the angle is then all there is."""

    def refused(frame: object) -> None:
        raise ValueError("37 is not a valid Type")

    monkeypatch.setattr(av_pixels, "SideDataContainer", refused)
    strange: Any = SimpleNamespace(rotation=-90)
    pixels = coded(5)
    assert np.array_equal(orientation(strange).apply(pixels), np.rot90(pixels, -1))
    assert Orientation(True, True, True).size(3, 5) == (5, 3)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"), [(".mkv", "ffv1", "yuv420p"), (".avi", "mjpeg", "yuvj420p"), (".webm", "libvpx", "yuv420p")]
)
def test_odd_sizes(tmp_path: Path, suffix: str, codec: str, pixels: str) -> None:
    path = write_clip(tmp_path / f"x{suffix}", colours(4, (49, 67)), codec=codec, pixel_format=pixels)
    frames = read(open_source(path))
    assert shown(frames) == [0, 1, 2, 3] and frames[0].rgb.shape == (49, 67, 3)


def test_a_size_that_changes_and_a_clock_that_starts_again(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{name}.ts", colours(20, size, first)) for name, size, first in (("a", SIZE, 0), ("b", (32, 96), 20))]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    source = open_source(joined)
    frames = read(source)
    assert shown(frames) == list(range(40)) and source.corrupt == 0
    assert [frame.size for frame in frames] == [SIZE] * 20 + [(32, 96)] * 20
    assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in range(40)])
    # the stamps themselves are passed on as they are
    assert frames[20].pts is not None and frames[19].pts is not None and frames[20].pts < frames[19].pts
