"""Bytes of a picture from a file, a pipe that you name on purpose, an http(s) address or an open file, within limits."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from fastloc._version import __version__
from fastloc.errors import FastlocError, ImageError
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["MAX_BYTES", "MAX_PIXELS", "content_of", "is_address", "opened"]

# pixels of a picture that is decoded; from as many on Pillow warns of a decompression bomb
MAX_PIXELS = 89_478_485
# bytes that are read from what does not say its size: a pipe, standard input, an address, an open file
MAX_BYTES = 256 << 20
# seconds that an address may be silent
PATIENCE = 20.0
# pipes of this process, which nobody names by mistake: /dev/fd is also what a shell's <(command) becomes
_ON_PURPOSE = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
_STREAM = 1 << 20


def is_address(source: object) -> bool:
    """True for an http(s) address."""
    return isinstance(source, str) and source[:8].lower().startswith(("http://", "https://"))


@contextmanager
def opened(source: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a picture's file or address; yield it, seekable, and its size in bytes. Raises ImageError."""
    if is_address(source):
        content = _fetched(str(source))
        yield io.BytesIO(content), len(content)
        return
    name = os.fsdecode(source)
    if "://" in name and not os.path.exists(name):
        raise ImageError(f"{name}: must be a file or an http(s) address; fetch it first")
    try:
        # a pipe would wait for a writer, perhaps for ever; opened like this it does not, and is found out before it is read
        descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode):
                yield file, os.fstat(descriptor).st_size
                return
            _check_kind(name, mode)
            os.set_blocking(descriptor, True)
            content = content_of(file, name)
        yield io.BytesIO(content), len(content)
    # of whoever reads it, too
    except FastlocError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except PermissionError:
        raise ImageError(f"{name}: no permission to read it") from None
    except (OSError, ValueError) as error:
        # opened for reading, a socket says ENXIO
        reason = "is a socket" if _is_socket(source) else getattr(error, "strerror", None) or error
        raise ImageError(f"{name!r}: cannot be opened ({reason})") from None


def content_of(file: Any, name: str) -> bytes:
    """All bytes of an open binary file, up to `MAX_BYTES`. Raises ImageError."""
    parts: list[bytes] = []
    size = 0
    try:
        while size <= MAX_BYTES:
            part = file.read(min(_STREAM, MAX_BYTES + 1 - size))
            if not part:
                return b"".join(parts)
            if not isinstance(part, (bytes, bytearray, memoryview)):
                raise ImageError(f"{name}: must be opened in binary mode, got text; open(path, 'rb') does")
            parts.append(bytes(part))
            size += len(part)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name}: cannot be read ({error})") from None
    raise ImageError(f"{name}: must hold at most {MAX_BYTES:,} bytes where it is no file on disk; save it first")


def _check_kind(name: str, mode: int) -> None:
    """Raise ImageError unless it is a pipe, or standard input, that the caller names on purpose."""
    if stat.S_ISDIR(mode):
        raise ImageError(f"{name}: must be a picture, got a folder")
    if name.startswith(_ON_PURPOSE):
        return
    kind = "named pipe" if stat.S_ISFIFO(mode) else "device"
    hint = "; give it as standard input: `- < pipe`" if stat.S_ISFIFO(mode) else ""
    raise ImageError(f"{name}: must be a regular file, got a {kind}{hint}")


def _is_socket(source: str | os.PathLike[str]) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(source).st_mode)
    except (OSError, ValueError):
        return False


def _fetched(address: str) -> bytes:
    # with its certificates and proxies it takes 50 ms to import
    from urllib.error import HTTPError
    from urllib.request import Request, build_opener

    try:
        request = Request(address, headers={"User-Agent": f"fastloc/{__version__}", "Accept": "image/*,*/*;q=0.5"})
        with build_opener(_same_scheme()).open(request, timeout=PATIENCE) as answer:
            if int(answer.headers.get("Content-Length") or 0) > MAX_BYTES:
                raise ImageError(f"{address}: must hold at most {MAX_BYTES:,} bytes, got {answer.headers['Content-Length']}")
            return content_of(answer, address)
    except ImageError:
        raise
    except HTTPError as error:
        raise ImageError(f"{address}: cannot be fetched ({error.code} {error.reason})") from None
    # urllib raises OSErrors, http.client its own errors, and idna a UnicodeError
    except Exception as error:
        pass_on(error)
        raise ImageError(f"{address}: cannot be fetched ({getattr(error, 'reason', None) or error})") from None


def _same_scheme() -> Any:
    """A handler that follows redirections to http(s) alone: urllib's own also goes to ftp."""
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler

    class Redirect(HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if not is_address(newurl):
                raise HTTPError(req.full_url, code, f"it leads to {newurl!r}", headers, fp)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return Redirect()
