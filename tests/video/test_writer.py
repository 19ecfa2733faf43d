"""Videos written: their timing, sound and colours against what went in, and what is left where writing ends badly."""

import os
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")

from clips import coded, colours, index_of, write_clip  # noqa: E402
from fastloc.errors import FastlocWarning, VideoError  # noqa: E402
from fastloc.video.output.partial_file import PartialFile  # noqa: E402
from fastloc.video.output.writer import VideoWriter, fitted  # noqa: E402
from repo import REPO, SUPPORT  # noqa: E402
from written import largest_file, partial, pictures, sounds, times  # noqa: E402

UNITS = (*(Fraction(1, each) for each in (90000, 1000, 15360, 24, 7, 10**6)), Fraction(1001, 30000))


def uneven(count: int, unit: Fraction, start: int, seed: int = 0) -> list[int]:
    """Timestamps of a variable frame rate."""
    step = max(int(Fraction(1, 30) / unit), 1)
    return [int(each) for each in start + np.cumsum(np.random.default_rng(seed).integers(1, 3 * step + 1, count))]


def copied(source: Path, target: Path, **options: Any) -> Path:
    """The source's pictures and sound written again."""
    with av.open(str(source)) as file:
        stream = file.streams.video[0]
        with VideoWriter(target, time_base=stream.time_base, rate=10, sound=source, **options) as video:
            for frame in file.decode(stream):
                video.write(frame.to_ndarray(format="rgb24"), frame.pts)
    return target


@pytest.mark.slow("writes a video of every kind", quick=8)
@pytest.mark.parametrize("unit", UNITS, ids=str)
@pytest.mark.parametrize("start", [0, 7], ids=["from 0", "later"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_every_timestamp_is_kept(tmp_path: Path, unit: Fraction, start: int, suffix: str) -> None:
    """Variable frame rates, first pictures that are late, and every unit of time: exactly, as fractions of a second."""
    first = start * max(int(Fraction(1, 30) / unit), 1)
    expected = uneven(40, unit, first, seed=start)
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, time_base=unit, rate=30) as video:
        for index, pts in enumerate(expected):
            video.write(coded(index), pts)
    assert times(path) == [pts * unit for pts in expected], f"{unit} from {first}"
    assert [index_of(each) for each in pictures(path)] == list(range(40))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow("writes a video of every kind", quick=3)
@pytest.mark.parametrize(
    ("name", "audio", "codec"),
    [("a.mp4", "aac", "aac"), ("a.ts", "aac", "aac"), ("a.mkv", "aac", "aac"), ("m.mp4", "mp3", "mp3"), ("o.mkv", "opus", "opus"),
     ("w.webm", "opus", "opus"), ("v.mkv", "vorbis", "aac"), ("p.mov", "pcm", "aac"), ("p.mkv", "pcm", "aac")],
)  # fmt: skip
def test_timing_and_sound_of_containers(tmp_path: Path, name: str, audio: str, codec: str) -> None:
    """Pictures of 40 uneven times, and the sound: as it was, or as AAC; at the same time beside the pictures, as long as before."""
    moments = np.cumsum(np.random.default_rng(3).uniform(0.02, 0.12, 40)).tolist()
    source = write_clip(tmp_path / name, colours(40), moments, audio=audio)
    target = copied(source, tmp_path / "out.mp4")
    assert times(target) == times(source), name
    (_, start, end, wave), (became, begins, ends, after) = sounds(source), sounds(target)
    assert became == codec, name
    frame = Fraction(1024, 44100)
    assert abs(begins - start) < Fraction(1, 1000) and abs(ends - end) <= frame, f"{name}: {float(start)} … {float(end)} s became {ends}"
    # the tone is there, and as loud
    assert np.abs(after).mean() == pytest.approx(np.abs(wave / (32768 if wave.dtype == np.int16 else 1)).mean(), rel=0.1), name
    # Opus begins with 6.5 ms that only Matroska can mark as left out
    if codec == audio != "opus" and name != "a.ts":
        assert np.array_equal(wave, after[: len(wave)]), f"{name}: packets are copied, so samples are the same"


def test_pcm_is_kept_in_mov(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "p.mov", colours(5), audio="pcm")
    target = copied(source, tmp_path / "out.mov")
    assert sounds(target)[0] == "pcm_s16le" and np.array_equal(sounds(source)[3], sounds(target)[3])


def test_all_tracks_and_their_languages(tmp_path: Path) -> None:
    source = tmp_path / "two.mkv"
    with av.open(str(source), "w") as made:
        tracks = [made.add_stream("aac", rate=44100, layout="mono") for _ in range(2)]
        for track, language in zip(tracks, ("eng", "fra"), strict=True):
            track.metadata["language"] = language
        for track in tracks:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            made.mux(track.encode(frame) + track.encode(None))
    with VideoWriter(tmp_path / "out.mp4", rate=10, sound=source) as video:
        for index in range(8):
            video.write(coded(index))
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [stream.metadata.get("language") for stream in file.streams.audio] == ["eng", "fra"]


def test_missing_sound_becomes_silence(tmp_path: Path) -> None:
    """AAC has no gaps: what comes after one must not move."""
    source, rate = tmp_path / "gap.mkv", 44100
    with av.open(str(source), "w") as made:
        track = made.add_stream("pcm_s16le", rate=rate, layout="mono")
        for second, level in ((0, 8000), (3, 16000)):
            frame = av.AudioFrame.from_ndarray(np.full((1, rate), level, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, second * rate, Fraction(1, rate)
            made.mux(track.encode(frame))
    with VideoWriter(tmp_path / "out.mp4", rate=5, sound=source) as video:
        for index in range(20):
            video.write(coded(index))
    _, start, end, wave = sounds(tmp_path / "out.mp4")
    loud = [float(np.abs(wave[int((second + 0.3) * rate) : int((second + 0.7) * rate)]).mean()) for second in range(4)]
    assert start == 0 and abs(float(end) - 4) < 0.05, (float(start), float(end))
    assert loud[1] < 1e-3 and loud[2] < 1e-3 and loud[0] > 1e-3, loud


def test_sound_that_cannot_be_kept_is_a_warning(tmp_path: Path) -> None:
    damaged = tmp_path / "noise.mp3"
    damaged.write_bytes(bytes(range(256)) * 20)
    video = VideoWriter(tmp_path / "out.mp4", sound=damaged)
    with pytest.warns(FastlocWarning, match=r"noise\.mp3: its sound cannot be read"):
        video.write(coded(0))
    video.close()
    assert len(times(tmp_path / "out.mp4")) == 1


def test_a_part_of_the_sound(tmp_path: Path) -> None:
    """Moved to 0, pictures take with them the sound of their time, and no other."""
    source = write_clip(tmp_path / "in.mp4", colours(40), audio="aac")
    with VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 10), rate=10, sound=source, from_zero=True) as video:
        for index in range(10, 20):
            video.write(coded(index), index)
        video.close(rest=False)
    _, start, end, _ = sounds(tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == [Fraction(index, 10) for index in range(10)]
    assert 0 <= start < Fraction(1024, 44100) and abs(end - 1) < Fraction(2048, 44100), (float(start), float(end))


def test_colours_come_back(tmp_path: Path) -> None:
    """Known colours in flat blocks, within a few steps, and tagged as what they are: BT.709, limited range."""
    expected = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (10, 200, 120), (250, 120, 30)]
    picture = np.repeat(np.array(expected, np.uint8)[None, :, None], 32, axis=2).reshape(1, -1, 3).repeat(64, axis=0)
    with VideoWriter(tmp_path / "out.mp4") as video:
        for _ in range(5):
            video.write(picture)
    with av.open(str(tmp_path / "out.mp4")) as file:
        frame = list(file.decode(video=0))[-1]
    assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)
    back = frame.to_ndarray(format="rgb24")
    for index, colour in enumerate(expected):
        seen = back[32, 32 * index + 16].astype(int)
        assert np.abs(seen - colour).max() <= 4, f"{colour} became {seen.tolist()}"


def test_pixel_aspect(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", pixel_aspect=Fraction(64, 45)) as video:
        video.write(coded(0))
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(64, 45)


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64), (1, 1)], ids=str)
def test_odd_sides_are_filled_up(tmp_path: Path, size: tuple[int, int]) -> None:
    """By the last row and column once more: every pixel stays where it was."""
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    even = size[0] + size[0] % 2, size[1] + size[1] % 2
    made = fitted(picture, even)
    assert made.shape == (*even, 3) and np.array_equal(made[: size[0], : size[1]], picture)
    assert np.array_equal(made[-1], made[size[0] - 1]) and np.array_equal(made[:, -1], made[:, size[1] - 1])
    with VideoWriter(tmp_path / "out.mp4") as video:
        video.write(picture)
    assert [each.shape for each in pictures(tmp_path / "out.mp4")] == [(*even, 3)]


def test_another_size_is_fitted_into_the_first(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4") as video:
        video.write(np.full((48, 64, 3), 200, np.uint8))
        video.write(np.full((96, 48, 3), 200, np.uint8))
    first, second = pictures(tmp_path / "out.mp4")
    assert first.shape == second.shape == (48, 64, 3)
    assert second[:, :16].max() < 16 and second[:, -16:].max() < 16 and second[24, 32].min() > 190, "24 x 48, in the middle, on black"


def test_timestamps_that_stand_still_move_on(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 1000), rate=25) as video:
        for index, pts in enumerate([100, 140, 140, 120, 200, None, None]):
            video.write(coded(index), pts)
    assert [each * 1000 for each in times(tmp_path / "out.mp4")] == [100, 140, 141, 142, 200, 258, 316]


@pytest.mark.parametrize("first", [-500, 61_000], ids=["before 0", "after a minute"])
def test_starts_that_players_cannot_show_are_moved(tmp_path: Path, first: int, recwarn: pytest.WarningsRecorder) -> None:
    with VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 1000)) as video:
        for index in range(3):
            video.write(coded(index), first + 40 * index)
    assert times(tmp_path / "out.mp4") == [0, Fraction(40, 1000), Fraction(80, 1000)]
    notes = [f"{tmp_path / 'out.mp4'}: starts at 0; its source starts at 61.0 s"]
    assert [str(each.message) for each in recwarn] == (notes if first > 0 else [])


def _no_folder(folder: Path) -> Path:
    return folder / "none" / "out.mp4"


def _a_folder(folder: Path) -> Path:
    (folder / "d.mp4").mkdir()
    return folder / "d.mp4"


def _there(folder: Path) -> Path:
    (folder / "there.mp4").write_bytes(b"mine")
    return folder / "there.mp4"


BAD = {
    "the folder .* does not exist": _no_folder,
    "must be a file, got a folder": _a_folder,
    "exists already; --force": _there,
    r"must be one of \.mp4, \.m4v, \.mov, \.mkv, \.webm, got '\.avi'": lambda folder: folder / "out.avi",
    "got none": lambda folder: folder / "out",
    "File name too long": lambda folder: folder / f"{'x' * 300}.mp4",
    "(cannot be written|does not exist)": lambda folder: Path("/proc/out.mp4"),
}


@pytest.mark.parametrize("message", BAD, ids=str)
def test_what_cannot_be_written_is_reported_before_anything_is(tmp_path: Path, message: str) -> None:
    target = BAD[message](tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(VideoError, match=message):
        VideoWriter(target)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, to whom every folder is open: the system's refusal is played."""

    def refuse(*args: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr("fastloc.video.output.partial_file.create", refuse)
    with pytest.raises(VideoError, match=r"out\.mp4: cannot be written \(Permission denied\)"):
        VideoWriter(tmp_path / "out.mp4")


def test_sizes_that_h264_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="pictures of 16400 x 2 cannot be encoded as h264"), VideoWriter(tmp_path / "out.mp4") as video:
        video.write(np.zeros((2, 16400, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_no_pictures_leave_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4"):
        assert partial(tmp_path / "out.mp4").exists()
    assert not list(tmp_path.iterdir())


def broken_off(video: VideoWriter, count: int) -> None:
    with video:
        for index in range(count):
            video.write(coded(index), index)
        raise ZeroDivisionError


def test_an_error_leaves_a_playable_part_and_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"of another day")
    source = write_clip(tmp_path / "in.mp4", colours(40), audio="aac")
    message = r"out\.partial-\w{8}\.mp4: holds what was written until then, and can be played"
    with pytest.warns(FastlocWarning, match=message), pytest.raises(ZeroDivisionError):
        broken_off(VideoWriter(target, time_base=Fraction(1, 10), rate=10, sound=source, force=True), 13)
    assert target.read_bytes() == b"of another day"
    assert times(partial(target)) == [Fraction(index, 10) for index in range(13)]
    assert abs(sounds(partial(target))[2] - Fraction(13, 10)) < Fraction(3000, 44100), "no sound after the last picture"


def filled(video: VideoWriter, count: int) -> VideoWriter:
    """Pictures that need bytes, ten a second."""
    for index in range(count):
        video.write(np.random.default_rng(index).integers(0, 255, (96, 128, 3)).astype(np.uint8), index)
    return video


def test_a_full_disk_leaves_what_fitted(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    video = VideoWriter(target, time_base=Fraction(1, 10), rate=10)
    message = r"cannot be written \(File too large\); what was written until then is in .*out\.partial-\w{8}\.mp4"
    with largest_file(150_000), pytest.raises(VideoError, match=message) as caught:
        filled(video, 200)
    assert len(str(caught.value).splitlines()) == 1
    kept = times(partial(target))
    assert len(kept) >= 5 and kept == [Fraction(index, 10) for index in range(len(kept))]
    assert list(tmp_path.iterdir()) == [partial(target)]


def test_a_disk_that_is_full_at_the_very_end(tmp_path: Path) -> None:
    """The fragments' own indices stay where the index of the whole file has no room."""
    target = tmp_path / "out.mp4"
    video = filled(VideoWriter(target, time_base=Fraction(1, 10), rate=10), 100)
    with largest_file(partial(target).stat().st_size + 10), pytest.raises(VideoError, match="File too large"):
        video.close()
    assert len(times(partial(target))) > 20 and not target.exists()


def test_a_disk_that_is_full_at_once(tmp_path: Path) -> None:
    """Nothing that could be played: nothing is left."""
    video = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 10), rate=10)
    with largest_file(1000), pytest.raises(VideoError, match=r"cannot be written \(File too large\)$"):
        filled(video, 100)
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_a_playable_file(tmp_path: Path) -> None:
    """kill -9 after 60 pictures: all but those of the encoder and of the last fragment are there, at their times."""
    script = f"""
        import os, signal, sys
        sys.path[:0] = [{str(REPO)!r}, {str(SUPPORT)!r}]
        from fractions import Fraction
        from clips import coded
        from fastloc.video.output.writer import VideoWriter
        video = VideoWriter("out.mp4", time_base=Fraction(1, 10), rate=10)
        for index in range(100):
            video.write(coded(index), index + 3)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(script)], cwd=tmp_path, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    kept = times(partial(tmp_path / "out.mp4"))
    assert 40 <= len(kept) <= 100, f"{len(kept)} of 100"
    assert kept == [Fraction(index + 3, 10) for index in range(len(kept))]
    assert [index_of(each) for each in pictures(partial(tmp_path / "out.mp4"))] == list(range(len(kept)))


def test_one_index_and_key_frames_to_jump_to(tmp_path: Path) -> None:
    """A complete file is an ordinary one: the fragments' indices are gone, and any place is near a key frame."""
    with VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 10), rate=10) as video:
        for index in range(100):
            video.write(coded(index), index)
    content = (tmp_path / "out.mp4").read_bytes()
    boxes, at = [], 0
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        boxes.append(kind.decode())
        at += int.from_bytes(content[at + 8 : at + 16], "big") if size == 1 else size
    assert boxes == ["ftyp", "free", "mdat", "moov"]
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].frames == 100 and file.streams.video[0].duration * file.streams.video[0].time_base == 10
        file.seek(7_500_000)
        frame = next(file.decode(video=0))
        assert 5.4 <= frame.time <= 7.5 and index_of(frame.to_ndarray(format="rgb24")) == round(frame.time * 10)


def test_somebody_else_made_the_file_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    video = VideoWriter(target)
    video.write(coded(0))
    target.write_bytes(b"mine")
    with pytest.raises(VideoError, match="was made by somebody else meanwhile"):
        video.close()
    assert target.read_bytes() == b"mine" and len(times(partial(target))) == 1


def test_after_a_failure_nothing_more_is_written(tmp_path: Path) -> None:
    """Not even over the beginning, where a header would spoil what is there."""
    file = PartialFile(tmp_path / "x.bin")
    with largest_file(10):
        assert file.write(b"0123456789ab") == 12 and file.failed is not None
    assert file.seek(0, os.SEEK_SET) == 0 and file.write(b"xyz") == 3 and file.tell() == 3
    file.close()
    assert file.part.read_bytes() == b"0123456789"
