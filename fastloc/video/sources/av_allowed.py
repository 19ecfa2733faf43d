"""The demuxers and protocols that FFmpeg may use for each kind of source.

Playlists, lists of files, descriptions of streams and patterns of names are demuxers too: a file of such a kind makes FFmpeg read other
files or call other machines, whatever its own name is. None of them is on a list but HLS, where the playlist came from the network itself.
FFmpeg hands the lists on to everything that a file or a playlist refers to.
"""

from __future__ import annotations

from dataclasses import dataclass

# a header may claim any size, and decoders allocate what it claims
from fastloc.imaging.images import MAX_PIXELS

__all__ = ["LOCAL", "MAX_PIXELS", "VIDEO", "Allowed", "local_place"]

# containers and bare streams with pictures; a name stands for its row in FFmpeg ("mov" is mp4, m4a and 3gp too, "matroska" webm)
VIDEO = (
    "mov", "matroska", "mpegts", "mpeg", "avi", "flv", "asf", "ogg", "gif", "apng", "ivf", "nut", "mxf", "dv", "gxf", "wtv", "rm", "amv",
    "h264", "hevc", "vvc", "av1", "obu", "m4v", "mpegvideo", "mjpeg", "mpjpeg", "vc1", "h263", "yuv4mpegpipe",
)  # fmt: skip
# read to say what they are, and for the sound beside pictures
SOUND = ("mp3", "aac", "wav", "flac", "aiff", "caf", "ac3", "eac3", "amr", "au", "w64")
PICTURES = ("jpeg_pipe", "png_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "gif_pipe", "j2k_pipe", "jpegxl_pipe", "pgm_pipe", "ppm_pipe")


@dataclass(frozen=True, slots=True)
class Allowed:
    """The protocols and demuxers of one kind of source, by their names in FFmpeg."""

    protocols: tuple[str, ...] = ()
    demuxers: tuple[str, ...] = (*VIDEO, *SOUND, *PICTURES)

    def options(self, format: str | None = None, max_pixels: int = MAX_PIXELS) -> dict[str, str]:
        """The lists as FFmpeg's options, and the limit of a frame's size. `format` was named by the caller, and is allowed for that."""
        demuxers = self.demuxers if format is None else (*self.demuxers, format)
        # an empty list would allow everything
        lists = {"protocol_whitelist": ",".join(self.protocols or ("none",)), "format_whitelist": ",".join(demuxers or ("none",))}
        return lists | {"max_pixels": str(max_pixels)}


LOCAL = Allowed(("file",))


def local_place(path: object) -> str:
    """A file as FFmpeg gets it: the prefix keeps a colon in the name from being read as a protocol."""
    return f"file:{path}"
