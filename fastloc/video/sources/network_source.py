"""Addresses: RTSP, HTTP and what else FFmpeg speaks."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastloc.errors import VideoError, unknown
from fastloc.video.sources.av_base import AvSource
from fastloc.video.sources.av_container import open_container
from fastloc.video.sources.av_reader import Opened, Reader
from fastloc.video.sources.file_source import FileSource
from fastloc.video.sources.reconnecting_source import LiveSource
from fastloc.video.sources.redact import redact_address

__all__ = ["SCHEMES", "Scheme", "open_address"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """What is known of an address by its scheme.

    live       whether it has no end; None where only what is found there says it
    options    FFmpeg's, unless the caller says otherwise
    """

    live: bool | None = True
    options: dict[str, str] = field(default_factory=dict)


# over UDP pictures would have holes. `fflags=nobuffer` is not here: it throws away what was read to find out what the stream is, its key
# frame too, while decoding that takes a moment and "newest" skips it
_RTSP = Scheme(options={"rtsp_transport": "tcp"})
# opened anew at the same byte where the connection breaks before the length that was announced
_HTTP = Scheme(None, {"reconnect": "1", "reconnect_delay_max": "4"})
_UDP = Scheme(options={"overrun_nonfatal": "1"})
SCHEMES = {
    "rtsp": _RTSP, "rtsps": _RTSP, "http": _HTTP, "https": _HTTP, "rtmp": Scheme(), "rtmps": Scheme(), "udp": _UDP, "rtp": _UDP,
    "srt": Scheme(), "tcp": Scheme(), "tls": Scheme(), "ftp": Scheme(None),
}  # fmt: skip


def open_address(
    address: str, *, live: bool | None = None, loop: bool = False, format: str | None = None, options: dict[str, str] | None = None,
    timeout: float = 10.0, retries: int | None = None, backoff: tuple[float, float] = (0.5, 15.0),
) -> AvSource:  # fmt: skip
    """A source on the network. What says how long it lasts is read like a file, to its end; else it is live and opened again when lost.

    Raises VideoError: a scheme that is not in `SCHEMES`, no connection, no video. It never waits longer than `timeout` seconds for data.
    """
    name = redact_address(address)
    kind = address.partition("://")[0].lower()
    if kind not in SCHEMES:
        raise VideoError(f"{name}: {unknown('scheme', kind, SCHEMES)}")
    scheme = SCHEMES[kind]
    wanted = scheme.options | (options or {})

    # no partial, which would show the address to whoever prints it
    def opening() -> Opened:
        return open_container(name, address, format=format, options=wanted, timeout=timeout)

    def connect() -> Reader:
        return Reader(name, opening, quick=scheme.live, patience=timeout)

    reader = connect()
    if scheme.live is None and reader.info.duration is not None:
        return FileSource(reader, connect, bool(live), loop, remote=True)
    if loop:
        reader.close()
        raise VideoError(f"{name}: has no end, so it cannot loop")
    return LiveSource(reader, connect, live=live is not False, retries=retries, backoff=backoff)
