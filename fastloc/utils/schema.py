"""Checks of a file's content: JSON to typed objects, and every mistake as one line that names the file and the field.

A dataclass is the schema: its annotations say the types, and its `__post_init__` the ranges. msgspec reads them. It is imported at the
first file from elsewhere, so that fastloc's own files are read without it.
"""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

from fastloc.errors import FastlocError, ModelError, unknown

__all__ = [
    "JSON_BYTES", "SHOWN", "convert", "count", "decode", "first_line", "limited", "number", "one_line", "one_of", "plain", "read_file",
    "shown",
]  # fmt: skip

T = TypeVar("T")
# of one JSON text; a manifest with its golden has 1 MB at most, a table of temperatures 0.1 MB
JSON_BYTES = 16 << 20
# of one read of a file
PART = 1 << 24
# characters of a value that a message shows, and of what a library says
SHOWN, LINE = 60, 300
# msgspec's messages; compiled by the first of them
_AT = r"(?P<what>.*?)(?: - at `\$(?P<at>[^`]*)`)?"
_TYPES = r"Expected `(?P<rule>[^`]*)`(?P<more>.*?)(?:, got (?P<got>.*))?"
_MISSING = r"Object missing required field `(?P<name>[^`]*)`"


def decode(content: str | bytes, kind: type[T], name: str, limit: int | None = None, error: type[FastlocError] = ModelError) -> T:
    """An object of `kind` from JSON; fields that `kind` does not have are left out.

    Args:
        name: the beginning of a message: the file and its damaged part.
        limit: bytes that there may be; by default JSON_BYTES.

    Raises:
        FastlocError: of the class `error`: too long, no JSON, nested too deep, or not of the kind.
    """
    limited(len(content), JSON_BYTES if limit is None else limit, name, error)
    import msgspec

    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as raised:
        raise error(f"{name} ({_line(raised)})") from raised


def convert(content: object, kind: type[T], name: str, error: type[FastlocError] = ModelError, *, strict: bool = True) -> T:
    """An object of `kind` from the dict that `plain` returns. Arguments and errors as for `decode`; not strict: numbers may be strings."""
    import msgspec

    try:
        return msgspec.convert(content, type=kind, strict=strict)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as raised:
        raise error(f"{name} ({_line(raised)})") from raised


def plain(content: str | bytes, name: str, limit: int | None = None, error: type[FastlocError] = ModelError) -> dict[str, Any]:
    """A JSON object as a dict, without a schema. Arguments and errors as for `decode`."""
    limited(len(content), JSON_BYTES if limit is None else limit, name, error)
    try:
        # 1e400 and NaN are no JSON, and no number of any file
        found = json.loads(content, parse_constant=_refuse, parse_float=_finite)
        # half a surrogate pair is no text: it could not be written, printed or encoded
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, OverflowError, RecursionError) as raised:
        raise error(f"{name} ({_line(raised)})") from raised
    if not isinstance(found, dict):
        raise error(f"{name} (it must be a JSON object, got {type(found).__name__})")
    return found


def read_file(path: Path, name: str, limit: int | None = None, error: type[FastlocError] = ModelError) -> bytes:
    """The content of a small file; reading stops at the limit.

    Raises:
        FastlocError: of the class `error`: it cannot be read, or is longer.
    """
    most = JSON_BYTES if limit is None else limit
    try:
        # a pipe would be waited for
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise error(f"{name} cannot be read: it is not a file")
        with path.open("rb") as file:
            # in parts: a whole read takes as many bytes as it asks for, before it knows how many there are
            parts: list[bytes] = []
            while (left := most + 1 - sum(map(len, parts))) > 0 and (part := file.read(min(left, PART))):
                parts.append(part)
            content = b"".join(parts)
    except FastlocError:
        raise
    except (OSError, ValueError) as raised:
        raise error(f"{name} cannot be read: {getattr(raised, 'strerror', None) or raised}") from raised
    limited(len(content), most, name, error)
    return content.removeprefix(b"\xef\xbb\xbf")


def limited(size: int, limit: int, name: str, error: type[FastlocError] = ModelError) -> None:
    """Raise for more bytes than a limit."""
    if size > limit:
        raise error(f"{name} (it must have at most {limit:,} bytes)")


def count(name: str, value: int, most: int, least: int = 1) -> None:
    """Raise FastlocError unless a whole number is within its range."""
    if type(value) is not int or not least <= value <= most:
        raise FastlocError(f"{name} must be a whole number from {least} to {most}, got {shown(value)}")


def number(name: str, value: float, least: float, most: float) -> None:
    """Raise FastlocError unless a number is within its range; NaN never is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise FastlocError(f"{name} must be a number from {least:g} to {most:g}, got {shown(value)}")


def one_of(name: str, value: str, known: Collection[str]) -> None:
    """Raise FastlocError for a name that is not in a table."""
    if value not in known:
        raise FastlocError(unknown(name, value[:SHOWN], known))


def one_line(name: str, value: str, most: int = 1000) -> None:
    """Raise FastlocError for a name that a message or a terminal could not show in one line."""
    if len(value) > most or any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in value):
        raise FastlocError(f"{name} must be one line of at most {most} characters without control characters, got {shown(value)}")


def shown(value: object) -> str:
    """A value as a message shows it: its beginning."""
    # the largest numbers have no decimal text
    text = f"a number of {value.bit_length()} bits" if isinstance(value, int) and value.bit_length() > 128 else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def first_line(error: BaseException) -> str:
    """The message of an exception, in one line."""
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    line = next((line for line in lines if line), type(error).__name__)
    # it may quote the file
    plain_line = "".join(each if each.isprintable() else "?" for each in line[: LINE + 1])
    return plain_line if len(line) <= LINE else f"{plain_line[:LINE]}…"


def _line(error: Exception) -> str:
    """The message of msgspec in the form of fastloc's messages."""
    if isinstance(error, RecursionError):
        return "it must not be nested so deep"
    found = re.fullmatch(_AT, first_line(error))
    what, at = (found["what"], found["at"] or "") if found else (str(error), "")
    at = at.removeprefix(".")
    if missing := re.fullmatch(_MISSING, what):
        return f"{at}{': ' if at else ''}{missing['name']!r} is missing"
    if types := re.fullmatch(_TYPES, what):
        got = f", got {types['got'].strip('`')}" if types["got"] else ""
        return f"{at or 'it'} must be {types['rule'].replace('`', '')}{types['more']}{got}"
    return f"{at}: {what}" if at else what


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:SHOWN]} is out of range")
    return value


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")
