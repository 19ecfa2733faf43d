"""A track of pictures in a container that is written."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

__all__ = ["add_pictures"]


def add_pictures(
    output: OutputContainer, encoder: str, options: dict[str, str], size: tuple[int, int], time_base: Fraction, rate: Fraction,
    pixel_aspect: Fraction,
) -> Any:  # fmt: skip
    """Adds a stream of yuv420p in BT.709, limited range; `size` is (height, width). Raises av.FFmpegError for what the encoder refuses."""
    stream: Any = output.add_stream(encoder, options=options)
    codec = stream.codec_context
    codec.height, codec.width = size
    codec.pix_fmt, codec.sample_aspect_ratio = "yuv420p", pixel_aspect
    stream.time_base = codec.time_base = time_base
    codec.framerate = rate
    codec.color_range, codec.colorspace = ColorRange.MPEG, Colorspace.ITU709
    codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    codec.open()
    return stream
