"""The live page's binary messages, byte by byte: headers, limits, and what is refused."""

import math
import struct

import numpy as np
import pytest

pytest.importorskip("msgspec")

from fastloc.live.limits import MOMENT, Violation
from fastloc.live.protocol import Answer, Sent, read_answer, read_frame, write_answer, write_frame


@pytest.mark.parametrize("size", range(16))
def test_a_message_that_is_shorter_than_its_header(size: int) -> None:
    frame = write_frame(Sent(1, 2.0, 3, b""))
    assert len(frame) == 16 and read_frame(frame) == Sent(1, 2.0, 3, b"")
    with pytest.raises(Violation, match=f"a message of {size} bytes is no frame, whose header alone has 16"):
        read_frame(frame[:size])
    with pytest.raises(Violation, match=f"a message of {size} bytes is no answer"):
        read_answer(write_answer(Answer({}, np.zeros((1, 1, 1, 1), np.uint8), b""))[:size])


@pytest.mark.parametrize(("place", "value"), [(0, 0), (0, 2), (1, 2), (1, 0)])
def test_a_frame_of_another_version_or_kind(place: int, value: int) -> None:
    message = bytearray(write_frame(Sent(1, 2.0, 3, b"picture")))
    message[place] = value
    with pytest.raises(Violation, match=f"a message of version {message[0]}, kind {message[1]}; this server takes version 1, kind 1"):
        read_frame(bytes(message))


def test_times_within_the_moment() -> None:
    for time in (MOMENT, -MOMENT, 0.0):
        assert read_frame(write_frame(Sent(7, time, 3, b"x"))).time == time
    for time in (math.nextafter(MOMENT, math.inf), math.nextafter(-MOMENT, -math.inf), math.nan, math.inf, -math.inf):
        with pytest.raises(Violation, match=r"frame 7 was captured at .*, which is no time"):
            read_frame(write_frame(Sent(7, time, 3, b"x")))


def test_the_layout_of_both_headers() -> None:
    """As the page's wire.js reads and writes them."""
    assert write_frame(Sent(0x01020304, 1.0, 0x0506, b"p")) == bytes.fromhex("01 01 0605 04030201 000000000000f03f") + b"p"
    heat = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)
    parts = b'{"shape":[1,1,2,3]}', heat.tobytes(), b"jpeg"
    header = bytes.fromhex("01 02 0000") + b"".join(len(each).to_bytes(4, "little") for each in parts)
    assert write_answer(Answer({}, heat, b"jpeg")) == header + b"".join(parts)


def answered(facts: bytes, heat: bytes, picture: bytes = b"", version: int = 1, kind: int = 2, more: bytes = b"") -> bytes:
    return struct.pack("<BBHIII", version, kind, 0, len(facts), len(heat), len(picture)) + facts + heat + picture + more


GOOD = b'{"shape":[1,1,2,3]}'


def test_an_answer_without_a_picture() -> None:
    assert read_answer(answered(GOOD, bytes(6))).picture == b"" and read_answer(answered(GOOD, bytes(6), b"j")).picture == b"j"


WRONG = {
    "version": answered(GOOD, bytes(6), version=2), "kind": answered(GOOD, bytes(6), kind=1), "longer": answered(GOOD, bytes(6), more=b"x"),
    "shorter": answered(GOOD, bytes(6))[:-1],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_answer(name: str) -> None:
    with pytest.raises(Violation, match="is no answer"):
        read_answer(WRONG[name])


@pytest.mark.parametrize(
    "facts",
    [b"", b"[]", b"{", b"{}", b'{"shape":[1,1,2]}', b'{"shape":[1,1,2,4]}', b'{"shape":[-1,1,2,3]}', b'{"shape":[1,1,-1,3]}',
     b'{"shape":"1123"}', b'{"shape":[0,65537,2,3]}', b"[" * 5000],
)  # fmt: skip
def test_facts_that_are_broken(facts: bytes) -> None:
    with pytest.raises(Violation, match="the facts of an answer are broken, or do not fit its heat"):
        read_answer(answered(facts, bytes(6)))


def test_the_longest_side() -> None:
    assert read_answer(answered(b'{"shape":[0,65536,2,3]}', b"")).heat.shape == (0, 65536, 2, 3)
    with pytest.raises(Violation, match="the facts of an answer are broken"):
        read_answer(answered(b'{"shape":[0,65537,2,3]}', b""))


def test_a_header_alone_is_long_enough_and_has_no_facts() -> None:
    with pytest.raises(Violation, match="the facts of an answer are broken"):
        read_answer(answered(b"", b""))
