"""What an ONNX file says of itself: metadata, operators and the files it needs, read without onnx and without loading a weight.

An ONNX file is one protobuf message, a run of (field number, wire type, content). Only the lengths of what is not wanted are read, so this
takes milliseconds for any size, and says of a broken file what is wrong before a runtime spends minutes on it. Field numbers are those of
onnx.proto3 (ONNX IR).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastloc.errors import ModelError
from fastloc.onnx_file.manifest import Manifest

__all__ = ["Header", "read"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# ModelProto: the fields a file may begin with, and how each is encoded
_MODEL = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES, 8: BYTES, 14: BYTES, 20: BYTES, 25: BYTES}
_GRAPH, _METADATA = 7, 14
_NODE, _INITIALIZER, _OPERATOR = 1, 5, 4
_EXTERNAL_DATA = 13


class _Damaged(Exception):
    pass


@dataclass
class Header:
    """metadata: the file's own key-value pairs. external: the names of the files beside it that hold weights, and the bytes each must
    have at least. operators: how many nodes of each type the graph has at its top level."""

    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    external: dict[str, int] = field(default_factory=dict)
    operators: Counter[str] = field(default_factory=Counter)

    def manifest(self) -> Manifest:
        """What fastloc wrote into it; raises ModelError as `Manifest.of` does."""
        return Manifest.of(self.metadata, str(self.path))

    def digest(self) -> str:
        """sha256 of the file and of the files it needs, in hexadecimal."""
        digest = hashlib.sha256()
        for path in (self.path, *(self.path.parent / name for name in sorted(self.external))):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def read(path: str | os.PathLike[str]) -> Header:
    """Read what an ONNX file says of itself.

    Raises:
        ModelError: no such file, not an ONNX file, truncated or damaged, or a file of weights that it needs is missing or too short.
    """
    found = Header(Path(path))
    try:
        size = found.path.stat().st_size
        with found.path.open("rb") as file:
            _model(file, size, found)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder, not an ONNX file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _Damaged as error:
        raise ModelError(f"{path}: {error}") from None
    _check_external(found)
    return found


def _model(file: BinaryIO, size: int, found: Header) -> None:
    if not size:
        raise _Damaged("is empty (0 bytes)")
    seen: set[int] = set()
    for number, wire, start, stop in _fields(file, size):
        if not seen and _MODEL.get(number) != wire:
            raise _Damaged("is not an ONNX file")
        # checked here, so that a file that is something else altogether is not called truncated
        if stop > size:
            raise _Damaged(f"is truncated: it has {size} bytes, and would have at least {stop}")
        seen.add(number)
        if number == _GRAPH:
            _graph(file, start, stop, found)
        elif number == _METADATA:
            key, value = _pair(file, start, stop)
            found.metadata[key] = value
        file.seek(stop)
    if _GRAPH not in seen:
        raise _Damaged("is truncated, or not an ONNX file: it holds no graph")


def _graph(file: BinaryIO, start: int, stop: int, found: Header) -> None:
    file.seek(start)
    for number, _, begin, end in _fields(file, stop):
        if number == _NODE:
            found.operators[_text(file, begin, end, _OPERATOR)] += 1
        elif number == _INITIALIZER:
            _weights(file, begin, end, found)
        file.seek(end)


def _weights(file: BinaryIO, start: int, stop: int, found: Header) -> None:
    """One tensor: where its numbers are, if they are in another file."""
    place: dict[str, str] = {}
    file.seek(start)
    for number, _, begin, end in _fields(file, stop):
        if number == _EXTERNAL_DATA:
            key, value = _pair(file, begin, end)
            place[key] = value
        file.seek(end)
    if "location" in place:
        needed = int(place.get("offset", 0)) + int(place.get("length", 0))
        found.external[place["location"]] = max(found.external.get(place["location"], 0), needed)


def _check_external(found: Header) -> None:
    for name, needed in found.external.items():
        data = found.path.parent / name
        if not data.is_file():
            raise ModelError(f"{found.path}: its weights are in {data}, which is missing: copy both files together")
        if data.stat().st_size < needed:
            raise ModelError(f"{data}: is truncated: it has {data.stat().st_size} bytes, and {found.path} needs {needed}")


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, start, stop) of each field up to `end`; whoever takes it leaves the file at `stop`."""
    while file.tell() < end:
        tag = _varint(file)
        number, wire = tag >> 3, tag & 7
        start = file.tell()
        if wire == VARINT:
            _varint(file)
            stop = file.tell()
        elif wire == BYTES:
            length = _varint(file)
            start = file.tell()
            stop = start + length
        elif wire in (FIXED32, FIXED64):
            stop = start + (8 if wire == FIXED64 else 4)
        else:
            raise _Damaged("is not an ONNX file, or damaged")
        yield number, wire, start, stop


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            raise _Damaged("is truncated in the middle of a number")
        value |= (byte[0] & 127) << shift
        shift += 7
        if byte[0] < 128:
            return value
        if shift > 63:
            raise _Damaged("is not an ONNX file, or damaged")


def _pair(file: BinaryIO, start: int, stop: int) -> tuple[str, str]:
    return _text(file, start, stop, 1), _text(file, start, stop, 2)


def _text(file: BinaryIO, start: int, stop: int, wanted: int) -> str:
    """The text in field `wanted` of a message, or "" where it has none."""
    file.seek(start)
    for number, wire, begin, end in _fields(file, stop):
        if number == wanted and wire == BYTES:
            file.seek(begin)
            return file.read(end - begin).decode("utf-8", "replace")
        file.seek(end)
    return ""
