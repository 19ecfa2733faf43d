"""Files, cameras, iterables: every frame with its time, upright and in its colours, and one clear line for what is no video."""

import itertools
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from clips import SIZE, Picture, coded, colours, index_of, write_clip, write_sound
from fastloc.errors import FastlocError, FastlocWarning, VideoError
from fastloc.video import camera
from fastloc.video.av_pixels import Orientation, orientation, to_rgb
from fastloc.video.backoff import delays
from fastloc.video.frame import Frame
from fastloc.video.frames_of import FramesOf, frame_of
from fastloc.video.opening import open_source
from fastloc.video.source import Source
from fastloc.video.timeline import Timeline

UNEVEN = [0, 0.1, 0.15, 0.4, 0.41, 0.8, 1.0, 1.2, 1.5, 1.9, 2.0, 2.5]
LOSSLESS = {"qp": "0"}
# eight columns of known colours
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50), (30, 180, 220), (128, 128, 128)]


def read(source: Source) -> list[Frame]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FastlocWarning)
        return list(source.frames())


def shown(frames: list[Frame]) -> list[int]:
    return [index_of(frame.rgb) for frame in frames]


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


def fails(given: Any, **settings: Any) -> str:
    with pytest.raises(VideoError) as raised:
        open_source(given, **settings)
    message = str(raised.value)
    assert "\n" not in message and raised.value.__cause__ is None
    return message


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
    wanted = times or [index / 10 for index in range(count)]
    assert [frame.time for frame in frames] == pytest.approx(wanted, abs=6e-4)
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
    # the code alone would not tell a picture that is upside down from one that is not
    assert np.abs(frames[3].rgb.astype(int) - coded(3)).mean() < 12


def test_an_angle_without_a_matrix(tmp_path: Path) -> None:
    """PyAV refuses side data as soon as it holds a kind that it does not know; the angle is then all there is."""

    class Strange:
        rotation = -90

        @property
        def side_data(self) -> None:
            raise ValueError("37 is not a valid Type")

    strange: Any = Strange()
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
    # the stamps themselves are told as they are
    assert frames[20].pts is not None and frames[19].pts is not None and frames[20].pts < frames[19].pts


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


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    song = write_sound(tmp_path / "song.mp3", cover=True)
    assert fails(song) == f"{song}: has no video, only sound and a cover"
    tone = write_sound(tmp_path / "tone.m4a", "aac")
    assert fails(tone) == f"{tone}: has no video, only sound"


def test_what_is_no_video(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("where is the dog?\n" * 40)
    assert fails(text) == f"{text}: is a text, not a video"
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    assert "noise.mp4: it is not a video" in fails(tmp_path / "noise.mp4")
    for suffix in (".jpg", ".png", ".webp", ".bmp"):
        Image.fromarray(coded(1)).save(tmp_path / f"still{suffix}")
        assert f"still{suffix}: is a picture, not a video; `fastloc locate`" in fails(tmp_path / f"still{suffix}")
    (tmp_path / "empty.mp4").touch()
    assert fails(tmp_path / "empty.mp4").endswith("empty.mp4: is empty (0 bytes)")
    assert fails(str(tmp_path)).startswith(f"{tmp_path}: is a folder")
    assert fails(tmp_path / "nowhere.mp4") == f"{tmp_path / 'nowhere.mp4'}: no such file"
    assert fails("a\0b.mp4").endswith("cannot be opened (embedded null byte)")


def test_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    assert fails(path) == f"{path}: it ended before there was a picture"
    whole = write_clip(tmp_path / "x.mkv", colours(1))
    assert fails(damage(whole, (0,))).endswith("none of its packets (1) can be decoded")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "x.mp4", colours(2))
    path.chmod(0)
    if os.geteuid() == 0:

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refused)
    assert fails(path) == f"{path}: no permission to read it"


def test_names_that_mean_something_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.mp4", "50%d.mp4", "7", "a b#c?d.mp4", "pipe:x.mp4"):
        write_clip(tmp_path / "plain.mp4", colours(2)).rename(tmp_path / name)
        assert shown(read(open_source(name))) == [0, 1], name
    uri = (tmp_path / "a b#c?d.mp4").as_uri()
    assert shown(read(open_source(uri))) == [0, 1]


def columns(high: int = 48, wide: int = 64) -> Picture:
    picture = np.zeros((high, wide, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        picture[:, wide * number // 8 : wide * (number + 1) // 8] = colour
    return picture


def worst(pixels: Picture) -> int:
    """The largest error in the middle of a column."""
    high, wide = pixels.shape[:2]
    middles = np.array([pixels[high // 2, wide * (2 * number + 1) // 16] for number in range(8)]).astype(int)
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


def test_a_file_at_its_own_pace(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", colours(8), rate=25)
    source = open_source(path, live=True)
    assert source.live
    began = time.monotonic()
    frames = [(frame, time.monotonic()) for frame in source.frames()]
    for frame, came in frames:
        # never early; how late is the machine's matter
        assert began + frame.time <= frame.captured <= came
    assert shown([frame for frame, _ in frames]) == list(range(8))


def test_a_file_that_begins_anew(tmp_path: Path) -> None:
    source = open_source(write_clip(tmp_path / "x.mp4", colours(5)), loop=True)
    frames = list(itertools.islice(source.frames(), 13))
    assert [index_of(frame.rgb) for frame in frames] == [*range(5), *range(5), *range(3)]
    assert [frame.index for frame in frames] == list(range(13))
    assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in range(13)])


def test_closing_ends_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", [coded(0), coded(1)], [0, 60])
    source = open_source(path, live=True)
    frames = source.frames()
    next(frames)
    with pytest.raises(VideoError, match="is being read already"):
        next(source.frames())
    threading.Timer(0.05, source.close).start()
    began = time.monotonic()
    assert list(frames) == [] and time.monotonic() - began < 30
    source.close()
    unread = open_source(path)
    unread.close()
    assert list(unread.frames()) == []


def test_the_many_kinds_of_frames() -> None:
    picture = coded(9)
    tensor = Lent(picture)
    decoded = av.VideoFrame.from_ndarray(picture, format="rgb24")
    given = [picture, Image.fromarray(picture), decoded, tensor, picture / 255, np.dstack([picture, np.full(SIZE, 255, np.uint8)])]
    source = open_source(given, rate=20)
    frames = read(source)
    assert source.info.count == 6 and not source.live and tensor.copies == 0
    for frame, item in zip(frames, given, strict=True):
        assert frame.native is item and frame.size == SIZE and not frame.bgr
        assert np.array_equal(frame.rgb, picture)
    assert tensor.copies == 1
    assert [frame.time for frame in frames] == [index / 20 for index in range(6)]
    # what was RGB already is not copied
    assert frames[0].rgb is picture


class Lent:
    """A tensor of some library, which counts how often its pixels are fetched."""

    def __init__(self, pixels: Any) -> None:
        self.pixels, self.copies, self.shape, self.dtype = pixels, 0, pixels.shape, f"some.{pixels.dtype}"

    def cpu(self) -> Any:
        self.copies += 1
        return self.pixels

    def __dlpack__(self, **_: object) -> None:
        raise BufferError("on a device")


def test_blue_first() -> None:
    picture = coded(9)
    blue = np.ascontiguousarray(picture[..., ::-1])
    for given in (blue, Lent(blue)):
        frame = read(open_source([given], bgr=True))[0]
        assert frame.native is given and frame.bgr and np.array_equal(frame.rgb, picture)


def test_torch_tensors() -> None:
    import torch

    picture = coded(3)
    frame = read(open_source([torch.from_numpy(picture)]))[0]
    assert isinstance(frame.native, torch.Tensor) and np.array_equal(frame.rgb, picture)
    with pytest.raises(VideoError, match=r"frame 0 is a torch.uint8 tensor of shape \[3, 48, 64\]; permute\(1, 2, 0\) puts"):
        read(open_source([torch.from_numpy(picture).permute(2, 0, 1)]))


def test_decoded_frames_keep_their_times_and_turn(tmp_path: Path) -> None:
    pictures = [np.ascontiguousarray(np.rot90(picture)) for picture in colours(len(UNEVEN))]
    with av.open(str(write_clip(tmp_path / "x.mp4", pictures, UNEVEN, rotation=270))) as container:
        frames = read(open_source(container.decode(video=0)))
    assert [frame.time for frame in frames] == pytest.approx(UNEVEN)
    assert shown(frames) == list(range(len(UNEVEN))) and frames[0].size == SIZE


def test_frames_that_come_when_they_come() -> None:
    def slowly() -> Iterator[Picture]:
        for picture in colours(3):
            time.sleep(0.02)
            yield picture

    source = open_source(slowly(), live=True)
    frames = read(source)
    assert source.live and source.info.rate is None
    assert [frame.time for frame in frames] == [frame.captured - frames[0].captured for frame in frames]
    assert frames[2].time >= 0.04


def test_an_iterable_that_goes_wrong() -> None:
    def broken() -> Iterator[Any]:
        yield coded(0)
        raise KeyError("mine")

    frames = open_source(broken()).frames()
    next(frames)
    # whoever made it wants to see it as it is
    with pytest.raises(KeyError, match="mine"):
        next(frames)
    with pytest.raises(VideoError, match=r"frame 1 is a str: a frame is uint8 \[H, W, 3\]"):
        read(open_source([coded(0), "x"]))
    with pytest.raises(VideoError, match=r"frame 0 has shape \[48, 64, 7\]"):
        read(open_source([np.zeros((48, 64, 7), np.uint8)]))
    with pytest.raises(VideoError, match="frames: there was none in the generator"):
        read(open_source(each for each in ()))
    assert fails([]) == "frames: there is none in the list"


def test_a_generator_is_closed() -> None:
    ended = threading.Event()

    def endless() -> Iterator[Picture]:
        try:
            while True:
                yield coded(0)
        finally:
            ended.set()

    source = FramesOf(endless())
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == [] and ended.is_set()


def test_a_source_is_taken_as_it_is() -> None:
    source = FramesOf(colours(2))
    assert open_source(source) is source
    assert fails(source, live=True) == "live= means nothing for a Source; they take no options"


def test_what_is_no_source() -> None:
    taken = "a video source is a path, an address (rtsp://, http:// …), a camera (0, 'camera:0'), an iterable of frames or a Source"
    for given, hint in (
        (None, ", not a NoneType"), (2.5, ", not a float"), (b"x", ", not a bytes"), (True, ", not a bool"), ({}, ", not a dict"),
        (coded(0), ", not a ndarray; one picture is no video"), (Image.new("RGB", (4, 4)), ", not a Image; one picture is no video"),
        (sys.stdin, "; give the path of the file"),
    ):  # fmt: skip
        message = fails(given)
        assert message.startswith(taken) and hint in message, given


def test_settings_that_mean_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "x.mp4", colours(2))
    assert fails(path, bgr=True) == "bgr= means nothing for files; they take live, loop, format, options"
    assert fails(colours(2), loop=True) == "loop= means nothing for iterables of frames; they take bgr, live, rate"
    assert fails(path, rate=0) == "rate is 0: more than 0 is wanted"
    assert fails(path, timeout=-1).startswith("timeout is -1")
    assert fails(path, backoff=(2, 1)).startswith("backoff is (2, 1)")
    assert "unknown format 'mp5': did you mean" in fails(path, format="mp5")


@pytest.mark.skipif(bool(camera._video_nodes()) or sys.platform != "linux", reason="needs Linux without a camera")
def test_no_camera() -> None:
    for given in (0, np.int64(0), "0", "camera:0"):
        assert fails(given) == "camera 0: /dev/video0 is not there; cameras here: none"
    assert fails("/dev/video7") == "camera /dev/video7: /dev/video7 is not there; cameras here: none"
    assert fails(-1) == "camera -1: cameras count from 0"


def test_a_camera_that_ffmpeg_draws() -> None:
    """The path a camera takes, on an input device that needs none."""
    source = camera.open_camera("testsrc=size=64x48:rate=30,realtime", format="lavfi")
    assert source.live and source.info.size == SIZE and source.info.duration is None
    frames = list(itertools.islice(source.frames(), 6))
    assert [frame.index for frame in frames] == list(range(6))
    assert all(later.captured - former.captured > 0.005 for former, later in itertools.pairwise(frames[2:]))
    source.close()


def test_a_camera_that_is_taken_away() -> None:
    source = camera.open_camera("testsrc=size=64x48:rate=30:duration=0.2", format="lavfi", retries=3, backoff=(0.01, 0.02))
    frames = list(itertools.islice(source.frames(), 15))
    assert source.reconnects == 2 and [frame.index for frame in frames] == list(range(15))
    times = [frame.time for frame in frames]
    assert times == sorted(times) and len(set(times)) == 15
    source.close()


def test_timeline() -> None:
    line, unit = Timeline(0.1), Fraction(1, 10)
    assert [line.place(pts, unit) for pts in (7, 8, 10, 10)] == pytest.approx([0, 0.1, 0.3, 0.3])
    # out of its place, and a clock that was set back
    assert line.place(9, unit) is None
    line.expect_restart()
    assert [line.place(pts, unit) for pts in (2, 3)] == pytest.approx([0.4, 0.5])
    assert line.place(1, unit) is None
    assert line.place(None, unit) == pytest.approx(0.6)
    line.resume(2.0)
    assert [line.place(pts, unit) for pts in (500, 501)] == pytest.approx([2.6, 2.7])
    first = Timeline(0.1)
    assert [first.place(pts, unit) for pts in (None, 5, 6)] == pytest.approx([0, 0.1, 0.2])


def test_delays_double_to_a_cap_and_vary() -> None:
    assert [wait for wait, _ in zip(delays(0.5, 3, lambda: 0.0), range(5), strict=False)] == [0.5, 1, 2, 3, 3]
    assert [wait for wait, _ in zip(delays(0.5, 3, lambda: 1.0), range(3), strict=False)] == [0.25, 0.5, 1]
    assert len({round(wait, 9) for wait, _ in zip(delays(1, 1), range(20), strict=False)}) > 10


def test_importing_it_loads_neither_pyav_nor_torch() -> None:
    check = "import sys; import fastloc.video.opening, fastloc.video.frames_of; print([m for m in ('av', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fastloc.video.opening.find_spec", lambda name: None)
    assert 'pip install "fastloc[video]"' in fails(tmp_path / "x.mp4")
    assert len(read(open_source(colours(2)))) == 2


def test_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = damage(write_clip(tmp_path / "x.mp4", colours(20)), (3, 10))
    list(open_source(path).frames())
    with pytest.raises(FastlocError):
        open_source(__file__)
    assert capfd.readouterr().err == ""
