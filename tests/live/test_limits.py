"""The live page's limits: messages that are too large, too frequent, too many or invalid, and the end of their senders' connections."""

import struct
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from starlette.websockets import WebSocketDisconnect

from fastloc.errors import ImageError
from fastloc.live.limits import Limits, decoded, measured
from fastloc.live.protocol import Sent, write_frame
from fastloc.web_server.rate import Rate
from live_client import Bright, encoded, picture, sent
from live_fixtures import bright_fixture, open_live_fixture  # noqa: F401
from live_server import until


def _png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims to be this large."""
    import zlib

    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = struct.pack(">I", 32) + b"IDAT" + b"\x00" * 36
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data


BAD_FRAMES = [
    ("no picture", b"\x00" * 300, 64, "must be a picture in JPEG, WEBP, PNG"),
    ("empty", b"", 64, "must be a picture"),
    ("a GIF", encoded(np.zeros((48, 64, 3), np.uint8), "GIF"), 64, "must be a picture in JPEG, WEBP, PNG"),
    ("a TIFF", encoded(np.zeros((48, 64, 3), np.uint8), "TIFF"), 64, "must be a picture in JPEG, WEBP, PNG"),
    ("large", encoded(np.zeros((1300, 1200, 3), np.uint8)), 1300, "at most 1500000 pixels, got 1200 x 1300 = 1560000"),
    ("a bomb", _png_of(60000, 60000), 60000, "at most 1500000 pixels"),
    ("half", picture(size=(640, 480))[:3000], 640, "cannot be decoded"),
    ("another size", picture(), 65, "64 x 48, and its header says 65"),
]


@pytest.mark.parametrize(("content", "side", "message"), [row[1:] for row in BAD_FRAMES], ids=[row[0] for row in BAD_FRAMES])
def test_frames_that_cannot_be_are_refused_and_the_next_is_answered(
    open_live: Any, bright: Bright, content: bytes, side: int, message: str
) -> None:
    _, join = open_live(bright)
    client = join()
    client.frame(sent(1, content, side))
    refusal = client.words("refused")
    assert refusal["id"] == 1 and message in refusal["message"]
    client.frame(sent(2))
    answer = client.answer()
    assert answer.facts["id"] == 2 and answer.facts["counted"] == {"received": 2, "answered": 1, "dropped": 0, "refused": 1}


def test_a_jpeg_of_many_passes_is_not_decoded() -> None:
    """Twelve bytes are a pass over all blocks, of a millisecond: a message of 2 MB would take minutes."""
    whole = encoded(np.full((1200, 1200, 3), 128, np.uint8), "JPEG", progressive=True)
    start = whole.rindex(b"\xff\xda")
    assert measured(whole, Limits()) == (1200, 1200)
    with pytest.raises(ImageError, match="a JPEG of at most 100 scans, got 100"):
        measured(whole[:start] + 1000 * whole[start:-2] + whole[-2:], Limits())


@pytest.mark.parametrize("error", [TypeError("of a reader"), MemoryError(), KeyError(1), RecursionError()])
def test_whatever_a_reader_of_pictures_raises_refuses_the_frame(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("PIL.Image.open", broken)
    memory = isinstance(error, MemoryError)
    with pytest.raises(ImageError, match="there is not enough memory" if memory else "must be a picture"):
        measured(picture(), Limits())
    with pytest.raises(ImageError, match="cannot be decoded: there is not enough memory" if memory else "cannot be decoded"):
        decoded(picture())


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
def test_formats_that_browsers_make_are_read(form: str) -> None:
    content = picture(form=form)
    assert measured(content, Limits()) == (48, 64)
    assert decoded(content).shape == (48, 64, 3)


VIOLATIONS = [
    ("short", b"\x01\x01", 1008, "2 bytes is no frame"),
    ("another version", b"\x02" + sent(1)[1:], 1008, "version 2"),
    ("an answer", b"\x01\x02" + sent(1)[2:], 1008, "kind 2"),
    ("no time", write_frame(Sent(1, float("nan"), 64, picture())), 1008, "which is no time"),
    ("not JSON", "{", 1008, "not JSON"),
    ("nested", "[" * 60000, 1008, "not JSON"),
    ("no object", "[1]", 1008, 'not an object with a "type"'),
    ("unknown", '{"type": "shell"}', 1008, "unknown type of message 'shell'"),
    ("too long", b"\x01" * 2_000_001, 1009, "the limit is 2000000"),
    ("a long text", '"' + "x" * 65_536, 1009, "65537 letters; the limit is 65536"),
    ("not a number", '{"type": "ping", "time": NaN}', 1008, "not JSON"),
    ("infinite", '{"type": "settings", "smooth": Infinity}', 1008, "not JSON"),
    ("beyond doubles", '{"type": "ping", "time": 1' + "0" * 400 + "}", 1008, "Number out of range"),
    ("no digits' end", '{"type": "ping", "time": 1' + "0" * 5000 + "}", 1008, "not JSON"),
    ("beyond all times", '{"type": "ping", "time": 1e300}', 1008, "ping must hold what the protocol says"),
    ("without a time", '{"type": "ping"}', 1008, "missing required field `time`"),
    ("a far frame", write_frame(Sent(1, 1e300, 64, picture())), 1008, "which is no time"),
]


@pytest.mark.parametrize(("message", "code", "reason"), [row[1:] for row in VIOLATIONS], ids=[row[0] for row in VIOLATIONS])
def test_what_no_page_of_ours_says_ends_the_connection_with_a_reason(
    open_live: Any, bright: Bright, message: bytes | str, code: int, reason: str
) -> None:
    live, join = open_live(bright)
    client = join()
    (client.socket.send_bytes if isinstance(message, bytes) else client.socket.send_text)(message)
    # in a message too, which is not cut off at 123 bytes
    answer = client.words("problem")
    assert answer["field"] == "" and reason in answer["message"]
    end = client.closed()
    assert end[0] == code and reason in end[1]
    until(lambda: not live.state["clients"])


def test_frames_beyond_the_rate_are_refused(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright, limits=Limits(fps=5))
    client = join()
    for number in range(1, 5):
        client.frame(sent(number))
    # two at once are within the rate
    refusal = client.words("refused")
    assert refusal["id"] == 3 and "more than 5 frames a second" in refusal["message"]


def test_a_flood_ends_the_connection(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright, limits=Limits(fps=2))
    client = join()
    for _ in range(20):
        client.socket.send_json({"type": "ping", "time": 0})
    assert client.closed() == (1008, "more than 8 messages a second")


def test_rates_are_met_by_the_clock() -> None:
    now = [0.0]
    rate = Rate(10, burst=2, clock=lambda: now[0])
    passed = 0
    for _ in range(1000):
        now[0] += 0.01
        passed += rate.allows()
    assert 99 <= passed <= 102


def test_one_client_more_than_the_limit_is_refused(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright, limits=Limits(clients=2, fps=1000))
    first, _ = join(), join()
    with pytest.raises(WebSocketDisconnect) as end:
        join()
    assert end.value.code == 1013 and "the server is full: 2 at a time" in end.value.reason
    # there is room again when one has left
    first.socket.close()
    until(lambda: len(live.state["clients"]) == 1)
    join()


def test_a_client_that_says_nothing_is_sent_away(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright, limits=Limits(idle=0.2))
    assert join().closed() == (1008, "nothing was heard for 0.2 s")
    until(lambda: not live.state["clients"])


@pytest.mark.parametrize("name", ["clients", "fps", "pixels", "message", "texts", "idle", "head", "stuck", "pulse", "connections"])
def test_limits_are_above_0(name: str) -> None:
    with pytest.raises(ValueError, match=f"limit {name} must be a number above 0, got 0"):
        Limits(**{name: 0})
