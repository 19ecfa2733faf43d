"""The header of an ONNX file: metadata, operators and the files it needs, read without onnx and without loading a weight.

An ONNX file is one protobuf message, a run of (field number, wire type, content). Of unneeded fields only the lengths are read, so this
takes milliseconds for any size, and reports the fault of a broken file before a runtime spends minutes on it. Field numbers are those of
onnx.proto3 (ONNX IR).
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fastloc import embedded
from fastloc.errors import ModelError
from fastloc.onnx_file.manifest import Manifest
from fastloc.onnx_file.protobuf import BYTES, VARINT, Damaged, fields, inner
from fastloc.utils.schema import shown

__all__ = ["METADATA_BYTES", "Header", "read"]

# of all metadata: a manifest has 1 MB at most, and the largest tokenizers there are have 10 MB as they are packed
METADATA_BYTES = 64 << 20
# characters of an operator's name, and of a path of weights
_OPERATOR_LENGTH, _PATH_LENGTH = 256, 1024

# ModelProto: the fields a file may begin with, and how each is encoded
_MODEL = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES, 8: BYTES, 14: BYTES, 20: BYTES, 25: BYTES}
_GRAPH, _METADATA = 7, 14
_NODE, _INITIALIZER, _OPERATOR = 1, 5, 4
_EXTERNAL_DATA = 13


@dataclass
class Header:
    """metadata: the file's own key-value pairs. external: the names of the files beside it that hold weights, and the bytes each must
    have at least. operators: the number of nodes of each type at the graph's top level."""

    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    external: dict[str, int] = field(default_factory=dict)
    operators: Counter[str] = field(default_factory=Counter)

    def manifest(self) -> Manifest:
        """The manifest that fastloc wrote into the file; raises ModelError as `Manifest.of` does."""
        return Manifest.of(self.metadata, str(self.path), self.shipped)

    @property
    def shipped(self) -> bool:
        """True for a file that came with fastloc, which is read without the checks for files from elsewhere."""
        return embedded.holds(self.path)

    def digest(self) -> str:
        """sha256 of the file and of the files it needs, in hexadecimal."""
        digest = hashlib.sha256()
        for path in (self.path, *(self.path.parent / name for name in sorted(self.external))):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def read(path: str | os.PathLike[str]) -> Header:
    """Read a file's header.

    Raises:
        ModelError: no such file, not an ONNX file, truncated or damaged, or a file of weights that it needs is missing or too short.
    """
    found = Header(Path(path))
    try:
        if os.path.exists(found.path) and not (os.path.isfile(found.path) or os.path.isdir(found.path)):
            # a pipe would be waited for
            raise Damaged("is not a file")
        with found.path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise Damaged("is empty (0 bytes)")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                _model(view, found)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: must be an ONNX file, got a folder") from None
    except Damaged as error:
        raise ModelError(f"{path}: {error}") from None
    except (OSError, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    _check_external(found)
    return found


def _model(view: memoryview, found: Header) -> None:
    seen: set[int] = set()
    left = METADATA_BYTES
    for number, wire, begin, end in fields(view):
        if not seen and _MODEL.get(number) != wire:
            raise Damaged("is not an ONNX file")
        # checked here, so that a file that is something else altogether is not called truncated
        if end > len(view):
            raise Damaged(f"is truncated: it has {len(view)} bytes, and would have at least {end}")
        seen.add(number)
        if number == _GRAPH and wire == BYTES:
            _graph(view, begin, end, found)
        elif number == _METADATA and wire == BYTES:
            left -= end - begin
            if left < 0:
                raise Damaged(f"must have at most {METADATA_BYTES:,} bytes of metadata, got more")
            key, value = _pair(view, begin, end, METADATA_BYTES)
            found.metadata[key] = value
    if _GRAPH not in seen:
        raise Damaged("is truncated, or not an ONNX file: it holds no graph")


def _graph(view: memoryview, start: int, stop: int, found: Header) -> None:
    for number, wire, begin, end in inner(view, start, stop):
        if number == _NODE and wire == BYTES:
            found.operators[_text(view, begin, end, _OPERATOR, _OPERATOR_LENGTH)] += 1
        elif number == _INITIALIZER and wire == BYTES:
            _weights(view, begin, end, found)


def _weights(view: memoryview, start: int, stop: int, found: Header) -> None:
    """Read one tensor: the location of its numbers, if they are in another file."""
    place: dict[str, str] = {}
    for number, wire, begin, end in inner(view, start, stop):
        if number == _EXTERNAL_DATA and wire == BYTES:
            key, value = _pair(view, begin, end, _PATH_LENGTH)
            place[key] = value
    if "location" in place:
        name = _location(place["location"])
        needed = _size("offset", place.get("offset", "0")) + _size("length", place.get("length", "0"))
        found.external[name] = max(found.external.get(name, 0), needed)


def _location(name: str) -> str:
    """A file of weights, which lies in the file's folder or below it. Raises Damaged for any other place."""
    parts = name.replace("\\", "/").split("/")
    elsewhere = not parts[0] or ":" in parts[0] or ".." in parts
    if elsewhere or not name.isprintable() or max(map(len, parts)) > 255:
        raise Damaged(f"is damaged: the location of its weights must be a path below the file's folder, got {shown(name)}")
    return name


def _size(what: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise Damaged(f"is damaged: the {what} of its weights must be a number of bytes, got {shown(text)}")
    return int(text)


def _check_external(found: Header) -> None:
    for name, needed in found.external.items():
        data = found.path.parent / name
        try:
            size = data.stat().st_size if os.path.isfile(data) else None
        except OSError as error:
            raise ModelError(f"{found.path}: its weights are in {data}, which cannot be read ({error.strerror})") from None
        if size is None:
            raise ModelError(f"{found.path}: its weights are in {data}, which is missing: copy both files together")
        if size < needed:
            raise ModelError(f"{data}: is truncated: it has {size} bytes, and {found.path} needs {needed}")


def _pair(view: memoryview, start: int, stop: int, most: int) -> tuple[str, str]:
    return _text(view, start, stop, 1, most), _text(view, start, stop, 2, most)


def _text(view: memoryview, start: int, stop: int, field: int, most: int) -> str:
    """The text in field `field` of a message, or "" where it has none. Raises Damaged for a longer one than `most` bytes."""
    for number, wire, begin, end in inner(view, start, stop):
        if number == field and wire == BYTES:
            if end - begin > most:
                raise Damaged(f"is damaged: a name must have at most {most} bytes, got {end - begin}")
            return bytes(view[begin:end]).decode("utf-8", "replace")
    return ""
