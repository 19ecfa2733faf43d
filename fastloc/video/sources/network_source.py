"""Addresses: RTSP, HTTP and what else FFmpeg speaks."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastloc.errors import VideoError, unknown
from fastloc.video.sources.av_allowed import LOCAL, MAX_PIXELS, VIDEO, Allowed
from fastloc.video.sources.av_base import AvSource
from fastloc.video.sources.av_container import open_container
from fastloc.video.sources.av_reader import Opened, Reader
from fastloc.video.sources.file_source import FileSource
from fastloc.video.sources.reconnecting_source import LiveSource
from fastloc.video.sources.redact import redact_address

__all__ = ["SCHEMES", "Scheme", "open_address"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """Properties of an address by its scheme.

    Attributes:
        allowed: what FFmpeg may use to read it; never the protocol "file": nothing that comes from there may name a file of this machine
        live: whether it has no end; None where only what is found there says it
        options: FFmpeg's, unless the caller says otherwise
    """

    allowed: Allowed
    live: bool | None = True
    options: dict[str, str] = field(default_factory=dict)


# over UDP pictures would have holes. `fflags=nobuffer` is not here: it throws away what was read to find out what the stream is, its key
# frame too, while decoding that takes a moment and "newest" skips it
_RTSP = Scheme(Allowed(("rtp", "srtp", "udp", "tcp", "tls", "http", "https", "httpproxy"), ("rtsp",)), options={"rtsp_transport": "tcp"})
# opened anew at the same byte where the connection breaks before the length that was announced. A playlist there may name other addresses
_HTTP = Scheme(
    Allowed(("http", "https", "httpproxy", "tcp", "tls", "crypto"), (*LOCAL.demuxers, "hls")), None,
    {"reconnect": "1", "reconnect_delay_max": "4"},
)  # fmt: skip
_RTMP = Scheme(Allowed(("rtmp", "rtmps", "rtmpt", "rtmpts", "ffrtmphttp", "http", "https", "tcp", "tls"), ("flv", "live_flv")))
_UDP = {"overrun_nonfatal": "1"}
SCHEMES = {
    "rtsp": _RTSP, "rtsps": _RTSP, "http": _HTTP, "https": _HTTP, "rtmp": _RTMP, "rtmps": _RTMP,
    "udp": Scheme(Allowed(("udp",)), options=_UDP), "rtp": Scheme(Allowed(("rtp", "srtp", "udp"), ("rtp", *VIDEO)), options=_UDP),
    "srt": Scheme(Allowed(("srt",))), "tcp": Scheme(Allowed(("tcp",))), "tls": Scheme(Allowed(("tls", "tcp"))),
    "ftp": Scheme(Allowed(("ftp", "tcp")), None),
}  # fmt: skip


def open_address(
    address: str, *, live: bool | None = None, loop: bool = False, format: str | None = None, options: dict[str, str] | None = None,
    timeout: float = 10.0, retries: int | None = None, backoff: tuple[float, float] = (0.5, 15.0), max_pixels: int = MAX_PIXELS,
) -> AvSource:  # fmt: skip
    """A source on the network. One that states its duration is read like a file, to its end; another is live and opened again when lost.

    Raises VideoError: a scheme that is not in `SCHEMES`, no connection, no video. It never waits longer than `timeout` seconds for data.
    """
    name = redact_address(address)
    kind = address.partition("://")[0].lower()
    if kind not in SCHEMES:
        raise VideoError(f"{name}: {unknown('scheme', kind, SCHEMES)}")
    scheme = SCHEMES[kind]
    merged = scheme.options | (options or {})

    # no partial, which would show the address where it is printed
    def opening() -> Opened:
        return open_container(name, address, scheme.allowed, format=format, options=merged, timeout=timeout, max_pixels=max_pixels)

    def connect() -> Reader:
        return Reader(name, opening, quick=scheme.live, patience=timeout)

    reader = connect()
    if scheme.live is None and reader.info.duration is not None:
        return FileSource(reader, connect, bool(live), loop, remote=True)
    if loop:
        reader.close()
        raise VideoError(f"{name}: has no end, so it cannot loop")
    return LiveSource(reader, connect, live=live is not False, retries=retries, backoff=backoff)
