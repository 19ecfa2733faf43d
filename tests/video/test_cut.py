"""Files that end in the middle: every frame that FFmpeg decodes comes, at its time."""

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from clips import colours, index_of, write_clip
from fastloc.errors import FastlocWarning, VideoError
from fastloc.video.sources.open_source import open_source
from reading import shown

TENTH = Fraction(1, 10)
# the extension, and how the clip is written
CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "ts": (".ts", {}),
    "ts, no B": (".ts", {"options": {"bf": "0"}}),
    "ts, mpeg2 and sound": (".ts", {"codec": "mpeg2video", "time_base": Fraction(1, 25), "audio": "aac"}),
    "ts, mpeg4": (".ts", {"codec": "mpeg4", "time_base": TENTH}),
    "mkv": (".mkv", {}),
    "mkv, mpeg4 with B": (".mkv", {"codec": "mpeg4", "options": {"bf": "2"}, "time_base": TENTH}),
    "mp4 in fragments": (".mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "gop": 3}),
    "avi": (".avi", {"time_base": TENTH, "audio": "aac"}),
    "avi, mpeg4": (".avi", {"codec": "mpeg4", "time_base": TENTH}),
    "avi, mjpeg": (".avi", {"codec": "mjpeg", "pixel_format": "yuvj420p", "time_base": TENTH}),
    "webm": (".webm", {"audio": "opus"}),
    "webm, vp9": (".webm", {"codec": "libvpx-vp9"}),
    "flv": (".flv", {"audio": "aac"}),
    "program stream": (".mpg", {"codec": "mpeg2video", "time_base": Fraction(1, 25)}),
}


def decodable(path: Path) -> list[int]:
    """The timestamps of all frames that can be had: packet after packet, then until the decoder is empty; in order."""
    frames = []
    try:
        with av.open(str(path)) as container:
            context: Any = container.streams.video[0].codec_context
            context.thread_type, context.thread_count = "SLICE", 1
            for packet in container.demux(video=0):
                try:
                    frames += context.decode(packet if packet.size else None)
                except av.FFmpegError:
                    continue
    # so short that it is no video any more
    except (av.FFmpegError, IndexError):
        pass
    return sorted(frame.pts for frame in frames)


def found(path: Path) -> list[int | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [frame.pts for frame in open_source(path).frames()]
    except VideoError:
        return []


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_of_a_file_that_is_cut(tmp_path: Path, name: str) -> None:
    suffix, settings = CLIPS[name]
    content = write_clip(tmp_path / f"whole{suffix}", colours(10), **settings).read_bytes()
    path, most = tmp_path / f"cut{suffix}", 0
    for share in (0.1, 0.2, 0.35, 0.5, 0.55, 0.65, 0.8, 0.9, 0.97, 1.0):
        path.write_bytes(content[: int(len(content) * share)])
        expected = decodable(path)
        assert found(path) == expected, share
        most = max(most, len(expected))
    assert most == 10


def test_what_is_cut_is_reported(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.ts", colours(10, (240, 320)), codec="mpeg2video", time_base=Fraction(1, 25))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    source = open_source(path)
    with pytest.warns(FastlocWarning, match="its last frame is shown as far as it is there"):
        count = len(list(source.frames()))
    assert count == len(decodable(path)) > 2 and source.corrupt == 0


def test_pictures_of_an_avi_are_in_order(tmp_path: Path) -> None:
    """It has no timestamps of pictures, only of packets, which come in another order where there are B frames: none is lost for that."""
    path = write_clip(tmp_path / "x.avi", colours(30), time_base=TENTH, gop=12)
    assert decodable(path) == list(range(1, 31)), "the clip has lost its point"
    source = open_source(path)
    frames = list(source.frames())
    assert shown(frames) == list(range(30)) and source.corrupt == 0
    assert [round(frame.time * 10) for frame in frames] == list(range(30))
    assert all(index_of(frame.rgb) == frame.index for frame in frames)
