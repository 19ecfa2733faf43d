"""Text between a program and its terminal: any encoding, closed streams, and control characters inside names."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fastloc.errors import FastlocError

__all__ = ["from_bytes", "printable", "say", "silence", "streams"]

# what moves the cursor, colours, sets titles or turns the direction of writing, and bytes that are no text; line ends and tabs stay
_ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Python's way of carrying bytes that are no text in the encoding of the locale
_BYTES = range(0xDC80, 0xDD00)


def from_bytes(text: str) -> str:
    """The typed text, decoded where the locale left it as bytes (a UTF-8 terminal under LC_ALL=C). Other bytes stay unchanged."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # surrogates that no byte stands for
        return text


def printable(text: str) -> str:
    r"""The text without control characters, which are shown as \x1b; line ends and tabs stay."""
    return text if text.isprintable() else _ODD.sub(_escaped, from_bytes(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code in _BYTES:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def say(*lines: object, error: bool = False) -> None:
    """Print lines, in printable characters; error: to standard error."""
    print(*(printable(str(line)) for line in lines), sep="\n", file=sys.stderr if error else sys.stdout)


@contextmanager
def streams() -> Iterator[None]:
    """Within this context standard output and error take every character: those that their encoding lacks are written as \\u escapes.

    A closed standard error is replaced by a null stream. Raises FastlocError where standard output is closed.
    """
    for number in range(3):
        # the next file that is opened would get this number, and what libraries print
        with suppress(OSError):
            _fill(number)
    before = sys.stderr
    if before is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the rest of the program
    changed = [(stream, stream.errors) for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    try:
        for stream, _ in changed:
            stream.reconfigure(errors="backslashreplace")
        if sys.stdout is None:
            raise FastlocError("standard output is closed; send it to a file or to /dev/null")
        yield
    finally:
        for stream, errors in changed:
            stream.reconfigure(errors=errors)


def _fill(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)


def silence(stream: Any) -> None:
    """Discard the buffered output, so that flushing it does not fail again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        target = os.open(os.devnull, os.O_WRONLY)
        os.dup2(target, stream.fileno())
        os.close(target)
