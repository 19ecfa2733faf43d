"""The wire format of protobuf, read in place: a message is a run of fields, each a number, a wire type and content.

A reader of our own, because the torch-free rooms have neither onnx nor protobuf. Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Damaged", "fields", "inner", "signed", "varint"]

# wire types: a number of any length, 8 bytes, a length and so many bytes, 4 bytes
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


class Damaged(ValueError):
    """Raised for a message that breaks off, or that is none; its text goes behind a file's name."""


def varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number at this position, 0 … 2^64 - 1, and the position after it. Raises Damaged."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise Damaged("is truncated in the middle of a number")
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1), at
    raise Damaged("is not an ONNX file, or damaged")


def signed(value: int) -> int:
    """An int64, whose negative numbers are written as the largest ones."""
    return value - (1 << 64) if value >> 63 else value


def fields(view: memoryview, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, begin, end) of each field from `start` to `stop`, content at view[begin:end].

    `end` can lie beyond `stop`, and beyond the view, where a message was cut off: the caller decides what that means. Raises Damaged.
    """
    at, stop = start, len(view) if stop is None else stop
    while at < stop:
        key, begin = varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            _, at = varint(view, begin)
        elif wire == BYTES:
            length, begin = varint(view, begin)
            at = begin + length
        elif wire in _FIXED:
            at = begin + _FIXED[wire]
        else:
            raise Damaged("is not an ONNX file, or damaged")
        yield number, wire, begin, at


def inner(view: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message inside another one, none of which may lie beyond it. Raises Damaged."""
    for number, wire, begin, end in fields(view, start, stop):
        if end > stop:
            raise Damaged("is damaged: a field is longer than what it is in")
        yield number, wire, begin, end
