"""Iterables of frames: arrays, pictures, tensors and decoded frames, each as it was given, and closed in the end."""

import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from clips import SIZE, Picture, coded, colours, write_clip
from fastloc.errors import FastlocWarning, VideoError
from fastloc.video.sources.iterables import FramesOf
from fastloc.video.sources.open_source import open_source
from reading import UNEVEN, fails, read, shown


def test_the_many_kinds_of_frames() -> None:
    picture = coded(9)
    tensor = Lent(picture)
    decoded = av.VideoFrame.from_ndarray(picture, format="rgb24")
    inputs = [picture, Image.fromarray(picture), decoded, tensor, picture / 255, np.dstack([picture, np.full(SIZE, 255, np.uint8)])]
    source = open_source(inputs, rate=20)
    frames = read(source)
    assert source.info.count == 6 and not source.live and tensor.copies == 0
    for frame, item in zip(frames, inputs, strict=True):
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
    for source in (blue, Lent(blue)):
        frame = read(open_source([source], bgr=True))[0]
        assert frame.native is source and frame.bgr and np.array_equal(frame.rgb, picture)


def test_torch_tensors() -> None:
    import torch

    picture = coded(3)
    frame = read(open_source([torch.from_numpy(picture)]))[0]
    assert isinstance(frame.native, torch.Tensor) and np.array_equal(frame.rgb, picture)
    with pytest.raises(VideoError, match=r"frame 0 must be .*, got a torch.uint8 tensor of shape \[3, 48, 64\]; permute\(1, 2, 0\) puts"):
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
    with pytest.raises(VideoError, match=r"frame 1 must be uint8 \[H, W, 3\], .* got a str"):
        read(open_source([coded(0), "x"]))
    with pytest.raises(VideoError, match=r"frame 0 must be .*, got shape \[48, 64, 7\]"):
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


def test_a_dark_frame_among_bright_ones_of_16_bits_stays_dark() -> None:
    bright, dark = np.full((4, 5, 3), 60000, np.uint16), np.full((4, 5, 3), 600, np.uint16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [int(frame.rgb[0, 0, 0]) for frame in FramesOf([bright, dark, bright]).frames()] == [233, 2, 233]


def test_a_stream_of_12_bits_is_reported_once() -> None:
    inputs = [np.full((4, 5), value, np.uint16) for value in (4095, 2048, 4000)]
    with pytest.warns(FastlocWarning, match="12 bits") as caught:
        frames = [int(frame.rgb[0, 0, 0]) for frame in FramesOf(inputs).frames()]
    assert frames == [255, 128, 249] and len(caught) == 1
