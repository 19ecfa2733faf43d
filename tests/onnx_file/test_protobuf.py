"""The wire format against protobuf's own examples and onnx's own writer."""

from __future__ import annotations

import pytest

from fastloc.embedded import GEM_ONNX
from fastloc.onnx_file import graph, header
from fastloc.onnx_file.protobuf import BYTES, FIXED32, FIXED64, VARINT, Damaged, fields, inner, signed, varint


def test_the_examples_of_protobuf_s_documentation() -> None:
    assert varint(memoryview(b"\x96\x01"), 0) == (150, 2)
    # field 1 is 150; field 2 is the text "testing"; field 3 holds the first message
    message = memoryview(b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01")
    assert list(fields(message)) == [(1, VARINT, 1, 3), (2, BYTES, 5, 12), (3, BYTES, 14, 17)]
    assert list(fields(message, 14, 17)) == [(1, VARINT, 15, 17)]


def test_numbers_of_fixed_length_and_negative_ones() -> None:
    assert list(fields(memoryview(b"\x0d\0\0\0\0\x11\0\0\0\0\0\0\0\0"))) == [(1, FIXED32, 1, 5), (2, FIXED64, 6, 14)]
    minus_two = b"\xfe" + b"\xff" * 8 + b"\x01"
    assert signed(varint(memoryview(minus_two), 0)[0]) == -2 and signed(5) == 5


@pytest.mark.parametrize("message", [b"\x96", b"\x08", b"\x12", b"\x0b\0", b"\xff" * 11], ids=bytes.hex)
def test_what_breaks_off_or_is_none(message: bytes) -> None:
    with pytest.raises(Damaged, match=r"truncated|damaged"):
        list(fields(memoryview(message)))


def test_a_cut_message_says_how_long_it_would_be() -> None:
    assert list(fields(memoryview(b"\x12\x07test"))) == [(2, BYTES, 2, 9)]


def test_header_and_graph_agree_on_a_shipped_file() -> None:
    found = graph.read(GEM_ONNX)
    assert header.read(GEM_ONNX).operators.total() == len(found.graph.nodes) > 100


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_numbers_of_every_length(value: int) -> None:
    content, rest = b"", value
    while rest > 127:
        content, rest = content + bytes([rest & 127 | 128]), rest >> 7
    content += bytes([rest])
    assert varint(memoryview(b"\xff" + content + b"\x01"), 1) == (value, 1 + len(content))
    assert signed(value) == (value if value < 1 << 63 else value - (1 << 64))
    for cut in range(len(content)):
        with pytest.raises(Damaged, match="is truncated in the middle of a number"):
            varint(memoryview(content[:cut]), 0)


def test_a_number_of_ten_bytes_is_the_longest() -> None:
    # bits beyond the 64th are left out, as protobuf does
    assert varint(memoryview(b"\xff" * 9 + b"\x7f"), 0) == ((1 << 64) - 1, 10)
    with pytest.raises(Damaged, match="is not an ONNX file, or damaged"):
        varint(memoryview(b"\xff" * 10 + b"\x01"), 0)


@pytest.mark.parametrize("wire", [3, 4, 6, 7])
def test_wire_types_that_there_are_not(wire: int) -> None:
    with pytest.raises(Damaged, match="is not an ONNX file, or damaged"):
        list(fields(memoryview(bytes([1 << 3 | wire, 0, 0, 0, 0]))))


def test_fields_inside_another_message() -> None:
    # field 1 is the number 5, field 300 the text "ab"
    message = memoryview(b"\x08\x05\xe2\x12\x02ab\x08\x06")
    assert list(fields(message)) == [(1, VARINT, 1, 2), (300, BYTES, 5, 7), (1, VARINT, 8, 9)]
    assert list(inner(message, 0, 7)) == [(1, VARINT, 1, 2), (300, BYTES, 5, 7)]
    assert list(inner(message, 2, 7)) == [(300, BYTES, 5, 7)] and list(inner(message, 7, 7)) == []
    # a field that ends where the message does is inside, and one byte more is not
    with pytest.raises(Damaged, match="is damaged: a field is longer than what it is in"):
        list(inner(message, 0, 6))
    with pytest.raises(Damaged, match="a field is longer"):
        list(inner(memoryview(b"\x0d\0\0\0\0"), 0, 4))
