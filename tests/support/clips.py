"""Small clips for tests: pictures that show their own index after lossy coding, and one function that writes them to any container."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

# bits of the index, left to right, most significant first
BITS = 8
SIZE = (48, 64)
# the encoder where none is named
CODECS = {".webm": "libvpx", ".gif": "gif", ".mjpeg": "mjpeg", ".apng": "apng"}
# the encoder, its options, samples a second and sample format
AUDIO = {
    "aac": ("aac", {}, 44100, "fltp"),
    "pcm": ("pcm_s16le", {}, 44100, "s16"),
    "vorbis": ("vorbis", {"strict": "experimental"}, 44100, "fltp"),
    "opus": ("libopus", {}, 48000, "flt"),
    "mp3": ("libmp3lame", {}, 44100, "fltp"),
}
# swscale's name, and the number that a stream is tagged with
MATRICES = {"bt601": (Colorspace.ITU601, 6), "bt709": (Colorspace.ITU709, 1)}


def coded(index: int, size: tuple[int, int] = SIZE) -> Picture:
    """uint8 [H, W, 3]: `index` modulo 256 in black and white blocks along the lower quarter, a yellow square above that moves right."""
    height, width = size
    picture: Picture = np.full((height, width, 3), (40, 60, 110), np.uint8)
    edges, top = [width * bit // BITS for bit in range(BITS + 1)], height - height // 4
    for bit in range(BITS):
        picture[top:, edges[bit] : edges[bit + 1]] = 255 * (index >> (BITS - 1 - bit) & 1)
    side = height // 4
    left = index * 2 % (width - side)
    picture[height // 4 : height // 4 + side, left : left + side] = (250, 220, 30)
    return picture


def colours(count: int, size: tuple[int, int] = SIZE, first: int = 0) -> list[Picture]:
    """`count` pictures of `coded`, from index `first` on."""
    return [coded(first + index, size) for index in range(count)]


def index_of(picture: Picture) -> int:
    """The index that a picture of `coded` shows, uint8 [H, W, 3] of any size, after lossy coding too."""
    height, width = picture.shape[:2]
    # the middle of each block, away from the blur at its edges
    rows = slice(height - height // 4 + height // 12, height - height // 24)
    index = 0
    for bit in range(BITS):
        left, right = width * bit // BITS, width * (bit + 1) // BITS
        inset = (right - left) // 4
        index = index << 1 | int(picture[rows, left + inset : right - inset].mean() > 127)
    return index


def write_clip(
    path: Path, pictures: Sequence[Picture], times: Sequence[float] | None = None, *, rate: float = 10, codec: str | None = None,
    pixel_format: str = "yuv420p", time_base: Fraction | None = None, audio: str | None = None, rotation: int = 0, mirrored: bool = False,
    gop: int = 10, options: dict[str, str] | None = None, matrix: str | None = None, tagged: bool = True, full_range: bool = False,
    pixel_aspect: Fraction | None = None, container_options: dict[str, str] | None = None, container: str | None = None,
) -> Path:  # fmt: skip
    """Writes uint8 [H, W, 3] pictures, the first at `times[0]` seconds; without `times` at `rate` a second from 0. Returns `path`.

    times        uneven ones make a variable frame rate; they are rounded to `time_base`, by default 1/90000 s (the container may change it)
    codec        FFmpeg's name of the encoder; by default what goes with the extension, libx264 mostly
    audio        a row of AUDIO: a tone as long as the video
    rotation     degrees counterclockwise that a player has to turn the pictures by; `mirrored`: and flip them sideways
    gop          pictures from one key frame to the next
    matrix       a row of MATRICES; by default swscale's, bt601. `tagged`: whether the stream is tagged with it
    """
    unit = time_base or Fraction(1, 90000)
    moments = [index / rate for index in range(len(pictures))] if times is None else list(times)
    name = codec or CODECS.get(path.suffix, "libx264")
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as output:
        height, width = pictures[0].shape[:2]
        video: Any = output.add_stream(name, rate=Fraction(rate).limit_denominator(1001), options=_fast(name, gop) | (options or {}))
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        # without this the encoder rounds times to frames
        video.codec_context.time_base = unit
        video.time_base = unit
        if rotation or mirrored:
            video.set_display_rotation(rotation, hflip=mirrored)
        if pixel_aspect is not None:
            video.codec_context.sample_aspect_ratio = pixel_aspect
        if matrix is not None and tagged:
            video.codec_context.colorspace = MATRICES[matrix][1]
        if full_range:
            video.codec_context.color_range = int(ColorRange.JPEG)
        # both streams are there before the first packet
        sound = _sound(output, audio, moments[-1] - moments[0] + 1 / rate) if audio else []
        for picture, moment, after in zip(pictures, moments, [*moments[1:], moments[-1] + 1 / rate], strict=True):
            frame = _frame(picture, pixel_format, matrix, full_range)
            frame.pts, frame.time_base = round(moment / unit), unit
            frame.duration = round((after - moment) / unit)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for stream, frames in sound:
            for each in frames:
                output.mux(stream.encode(each))
            output.mux(stream.encode(None))
    return path


def write_sound(path: Path, audio: str = "mp3", seconds: float = 0.5, cover: bool = False) -> Path:
    """Writes a file without video; with `cover` a picture is attached to it, as music has."""
    with av.open(str(path), "w") as output:
        art: Any = output.add_stream("mjpeg", rate=1) if cover else None
        if art is not None:
            art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
            art.disposition = 1 << 10
        tones = _sound(output, audio, seconds)
        if art is not None:
            frame = _frame(coded(1), "yuvj420p", None, True)
            output.mux(art.encode(frame))
            output.mux(art.encode(None))
        for stream, frames in tones:
            for each in frames:
                output.mux(stream.encode(each))
            output.mux(stream.encode(None))
    return path


def _fast(codec: str, gop: int) -> dict[str, str]:
    if codec in ("libx264", "libx265", "libx264rgb"):
        quiet = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {"threads": "1"}
        return {"preset": "veryfast", "crf": "16", "g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", **quiet}
    if codec.startswith("libvpx"):
        return {"g": str(gop), "deadline": "realtime", "cpu-used": "8", "b": "1M", "threads": "1"}
    return {"g": str(gop), "qscale:v": "3", "b": "2M"} if codec.startswith(("mpeg", "mjpeg")) else {}


def _frame(picture: Picture, pixel_format: str, matrix: str | None, full_range: bool) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    target = ColorRange.JPEG if full_range else ColorRange.MPEG
    if matrix is None:
        return frame.reformat(format=pixel_format, dst_color_range=target)
    return frame.reformat(format=pixel_format, dst_colorspace=MATRICES[matrix][0], dst_color_range=target)


def _sound(output: Any, audio: str, seconds: float) -> list[tuple[Any, Iterable[av.AudioFrame]]]:
    codec, options, rate, layout = AUDIO[audio]
    stream = output.add_stream(codec, rate=rate, layout="stereo", options=dict(options))
    samples = np.arange(math.ceil(seconds * rate))
    tone = np.sin(samples * (2 * np.pi * 440 / rate)) * 0.3
    wave = np.stack([tone, tone])
    planes = (wave * 32767).astype(np.int16) if layout == "s16" else wave.astype(np.float32)
    packed = planes if layout.endswith("p") else planes.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), format=layout, layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return [(stream, [frame])]
