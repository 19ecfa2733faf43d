"""Binary messages over the WebSocket: frames and answers. Everything else is JSON, see `fastloc.live.messages`.

A frame, from the browser: a header of 16 bytes, little-endian, and the picture.

    uint8 version, uint8 kind (1), uint16 long side, uint32 id, float64 time of capture (ms, the browser's clock)

An answer: a header of 16 bytes, then as many bytes of JSON, heat and picture as it says.

    uint8 version, uint8 kind (2), uint16 0, uint32 length of the JSON, uint32 of the heat, uint32 of the picture

Heat is uint8 [M, T, h, w], methods by texts by rows by columns, 255 for heat 1; the JSON holds its shape. The picture is a JPEG where the
server has the source, and empty where the browser has. Ids of one client's frames rise; an answer to one says that none before it is
under way any more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fastloc.live.limits import MOMENT, Violation
from fastloc.live.messages import written

__all__ = ["VERSION", "Answer", "Sent", "read_answer", "read_frame", "write_answer", "write_frame"]

VERSION = 1
FRAME, ANSWER = 1, 2
_FRAME = struct.Struct("<BBHId")
_ANSWER = struct.Struct("<BBHIII")
_Side = Annotated[int, msgspec.Meta(ge=0, le=2**16)]
Shape = tuple[_Side, _Side, _Side, _Side]


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame as a browser sent it: `time` in ms by the browser's clock, `picture` as it was encoded."""

    id: int
    time: float
    side: int
    picture: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """An answer as it was sent: `facts` as `fastloc.live.response` makes them, heat uint8 [M, T, h, w]."""

    facts: dict[str, Any]
    heat: NDArray[np.uint8]
    picture: bytes


def write_frame(sent: Sent) -> bytes:
    """The message of a frame."""
    return _FRAME.pack(VERSION, FRAME, sent.side, sent.id, sent.time) + sent.picture


def read_frame(message: bytes) -> Sent:
    """The frame of a message. Raises Violation for what is none."""
    if len(message) < _FRAME.size:
        raise Violation(f"a message of {len(message)} bytes is no frame, whose header alone has {_FRAME.size}")
    version, kind, side, number, time = _FRAME.unpack_from(message)
    if (version, kind) != (VERSION, FRAME):
        raise Violation(f"a message of version {version}, kind {kind}; this server takes version {VERSION}, kind {FRAME}: reload the page")
    # NaN is within nothing
    if not -MOMENT <= time <= MOMENT:
        raise Violation(f"frame {number} was captured at {time}, which is no time")
    return Sent(number, time, side, message[_FRAME.size :])


def write_answer(answer: Answer) -> bytes:
    """The message of an answer; the shape of the heat is put into its facts."""
    facts = written({**answer.facts, "shape": answer.heat.shape})
    heat = answer.heat.tobytes()
    return b"".join((_ANSWER.pack(VERSION, ANSWER, 0, len(facts), len(heat), len(answer.picture)), facts, heat, answer.picture))


def read_answer(message: bytes) -> Answer:
    """The answer of a message, for clients written in Python. Raises Violation for what is none."""
    if len(message) < _ANSWER.size:
        raise Violation(f"a message of {len(message)} bytes is no answer")
    version, kind, _, length, heat, picture = _ANSWER.unpack_from(message)
    if (version, kind) != (VERSION, ANSWER) or len(message) != _ANSWER.size + length + heat + picture:
        raise Violation(f"a message of version {version}, kind {kind} and {len(message)} bytes is no answer")
    try:
        facts = msgspec.json.decode(message[_ANSWER.size : _ANSWER.size + length], type=dict[str, Any])
        values = np.frombuffer(message, np.uint8, heat, _ANSWER.size + length).reshape(msgspec.convert(facts.get("shape"), Shape))
    except (ValueError, RecursionError):
        raise Violation("the facts of an answer are broken, or do not fit its heat") from None
    return Answer(facts, values, message[len(message) - picture :] if picture else b"")
