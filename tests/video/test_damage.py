"""Damaged video files: decodable frames are shown, others are counted, and there is no other message."""

import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import colours, write_clip
from fastloc.errors import FastlocError, FastlocWarning
from fastloc.video.sources.open_source import open_source
from reading import fails, read, shown


def damage(path: Path, packets: tuple[int, ...]) -> Path:
    """The file with noise in place of those packets' data."""
    with av.open(str(path)) as container:
        datas = [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]
    content = path.read_bytes()
    for number in packets:
        noise = np.random.default_rng(number).integers(0, 256, len(datas[number]), np.uint8).tobytes()
        assert content.count(datas[number]) == 1
        content = content.replace(datas[number], noise)
    bad = path.with_stem(f"{path.stem}-{'-'.join(map(str, packets))}")
    bad.write_bytes(content)
    return bad


@pytest.mark.slow("twenty damaged videos", quick=6)
@pytest.mark.parametrize("packets", [(0,), (5,), (10,), (20,), (36,), (37,), (38,), (39,), (36, 38), (37, 39)], ids=str)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_damaged_packet_is_skipped_and_counted(tmp_path: Path, suffix: str, packets: tuple[int, ...]) -> None:
    """Key frames, others, and the last ones, which several threads decode at once when the file ends."""
    path = damage(write_clip(tmp_path / f"x{suffix}", colours(40)), packets)
    source = open_source(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = list(source.frames())
    assert len(frames) + source.corrupt == 40
    # without a key frame its group is lost
    lost = 10 if {0, 10, 20} & set(packets) else len(packets)
    assert len(packets) <= source.corrupt <= lost
    times = [frame.time for frame in frames]
    assert times == sorted(times) and len(set(times)) == len(times)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    if len(packets) == 1 and packets[0] == 36:
        assert shown(frames)[-4:] == [36, 37, 38, 39]


def test_nothing_is_lost_at_the_end_with_many_threads(tmp_path: Path) -> None:
    """The packets kept for it are few, however long the file."""
    path = write_clip(tmp_path / "x.mkv", colours(250), gop=5)
    bad = damage(path, (247,))
    source: Any = open_source(bad)
    frames = read(source)
    assert len(frames) == 249 and source.corrupt == 1
    assert sum(len(group.packets) for group in source._reader._tail._groups) < 80


def test_a_frame_that_the_decoder_calls_corrupt_is_not_shown(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mkv", colours(12), options={"bf": "0"})
    with av.open(str(path)) as container:
        data = [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size][5]
    # its first quarter decodes, the rest is concealed
    path.write_bytes(path.read_bytes().replace(data, data[: len(data) // 4] + bytes(len(data) - len(data) // 4)))
    source = open_source(path)
    frames = read(source)
    assert (len(frames), source.corrupt) == (11, 1) and 5 not in [round(frame.time * 10) for frame in frames]


@pytest.mark.parametrize(("suffix", "share", "why"), [(".mp4", 0.9, "frames are not there"), (".mkv", 0.5, "said to last 4.0 s")])
def test_a_file_that_is_cut_short(tmp_path: Path, suffix: str, share: float, why: str) -> None:
    path = write_clip(tmp_path / f"x{suffix}", colours(40), container_options={"movflags": "faststart"} if suffix == ".mp4" else None)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.warns(FastlocWarning, match=why):
        frames = list(open_source(path).frames())
    assert 2 < len(frames) < 40 and shown(frames)[:3] == [0, 1, 2]


def test_a_file_without_its_index(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", colours(20))
    path.write_bytes(path.read_bytes()[:1500])
    assert fails(path) == f"{path}: it is not a video, or is cut short before its index"


def test_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    assert fails(path) == f"{path}: it ended before there was a picture"
    whole = write_clip(tmp_path / "x.mkv", colours(1))
    assert fails(damage(whole, (0,))).endswith("none of its packets (1) can be decoded")


def test_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = damage(write_clip(tmp_path / "x.mp4", colours(20)), (3, 10))
    list(open_source(path).frames())
    with pytest.raises(FastlocError):
        open_source(__file__)
    assert capfd.readouterr().err == ""
