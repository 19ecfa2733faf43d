"""The wire format against protobuf's own examples and onnx's own writer."""

from __future__ import annotations

import pytest

from fastloc.embedded import GEM_ONNX
from fastloc.onnx_file import graph, header
from fastloc.onnx_file.protobuf import BYTES, FIXED32, FIXED64, VARINT, Damaged, fields, signed, varint


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
