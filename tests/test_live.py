"""The live page's server: what is said, what is refused, who waits for whom, and that nothing is left behind. No browser."""

import gc
import io
import os
import queue
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fastloc.cli import main
from fastloc.cli_live import url
from fastloc.errors import TextError
from fastloc.geometry import fit
from fastloc.live.app import Live
from fastloc.live.hub import Hub
from fastloc.live.limits import Limits, Rate, decoded, measured
from fastloc.live.methods import Methods, quick
from fastloc.live.protocol import Answer, Sent, read_answer, read_frame, write_answer, write_frame
from fastloc.live.security import Rules, rules
from fastloc.live.session import Session
from fastloc.live.settings import Settings
from fastloc.located import Located
from fastloc.recipes import RECIPES
from fastloc.result import Result
from fastloc.video.frame import Frame
from fastloc.video.source import Info
from live_server import serving, until

HOST = "127.0.0.1:8010"
ORIGIN = {"origin": f"http://{HOST}"}
ROWS, COLUMNS = 6, 8
# an odd number of pixels for each of them
HEAT = 78, 104


class Bright:
    """A localizer that finds what is bright: no model, and every text alike. gate: a frame waits until it is set."""

    def __init__(self, method: str = "bright", order: str = "grid") -> None:
        self.method, self.order = method, order
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.asked: list[tuple[str, ...]] = []
        self.fault: Exception | None = None

    def __call__(self, picture: Image.Image, texts: Sequence[str]) -> Result:
        self.entered.set()
        assert self.gate.wait(10)
        if self.fault is not None:
            raise self.fault
        self.asked.append(tuple(texts))
        grid = np.asarray(picture.convert("L").resize((COLUMNS, ROWS), Image.Resampling.BOX), np.float32) / 255
        geometry = fit(picture.size[::-1], (ROWS * 8, COLUMNS * 8), 8)
        return Result(picture=picture, texts=tuple(texts), similarity=np.stack([grid] * len(texts)), geometry=geometry, order=self.order,
                      logit_scale=10.0, method=self.method, model="none")  # fmt: skip

    def with_method(self, name: str) -> "Bright":
        if name not in ("other", "third"):
            raise TextError(f"no method {name}")
        return Bright(name, self.order)


class Aside(Bright):
    """One whose texts are encoded beforehand, when `encoded` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded, self.encoding = threading.Event(), threading.Event()
        self.encoded.set()

    def prepare(self, texts: list[str]) -> list[str]:
        self.encoding.set()
        assert self.encoded.wait(10)
        if "nothing" in texts:
            raise TextError("'nothing' cannot be encoded")
        return texts

    def located(self, frame: Any, prompts: list[str], bgr: bool = False) -> Located:
        return Located.of(self(Image.fromarray(frame), prompts))


def picture(x: float = 0.5, y: float = 0.5, size: tuple[int, int] = (64, 48), form: str = "JPEG") -> bytes:
    """A dark picture with a bright spot, encoded."""
    wide, high = size
    pixels = np.zeros((high, wide, 3), np.uint8)
    row, column = min(int(y * ROWS), ROWS - 1) * high // ROWS, min(int(x * COLUMNS), COLUMNS - 1) * wide // COLUMNS
    pixels[row : row + high // ROWS, column : column + wide // COLUMNS] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def sent(number: int, content: bytes | None = None, side: int = 64) -> bytes:
    return write_frame(Sent(number, 10.0 * number, side, picture() if content is None else content))


def live_of(localizer: Any, *, limits: Limits | None = None, rule: Rules | None = None, hub: Hub | None = None) -> Live:
    methods = Methods(localizer, ("other", "third"))
    return Live(methods, Settings(("cat", "dog"), ("bright",)), limits or Limits(fps=1000), rule or rules("127.0.0.1", 8010), hub)


class Client:
    """A browser's part over a test socket; words and answers as they come."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    def words(self, *kinds: str) -> dict[str, Any]:
        """The next JSON message of these kinds."""
        while True:
            message = self._next()
            if isinstance(message, dict) and message["type"] in kinds:
                return message

    def answer(self) -> Answer:
        while True:
            message = self._next()
            if isinstance(message, Answer):
                return message

    def settings(self, **asked: Any) -> dict[str, Any]:
        """What the server says to settings: the new ones, or a problem."""
        self.socket.send_json({"type": "settings", **asked})
        return self.words("settings", "problem")

    def frame(self, message: bytes) -> None:
        self.socket.send_bytes(message)

    def closed(self) -> tuple[int, str]:
        """How the server closes the connection."""
        while True:
            try:
                self._next()
            except WebSocketDisconnect as end:
                return end.code, end.reason or ""

    def _next(self) -> dict[str, Any] | Answer:
        import json

        message = self.socket.receive()
        self.socket._raise_on_close(message)
        if message.get("bytes"):
            return read_answer(message["bytes"])
        found: dict[str, Any] = json.loads(message["text"])
        return found


@pytest.fixture
def bright() -> Bright:
    return Bright()


@pytest.fixture
def open_live() -> Iterator[Callable[..., tuple[Live, Callable[[], Any]]]]:
    """Makes a server and a way to connect to it; all of it is closed in the end."""
    import contextlib

    with contextlib.ExitStack() as stack:

        def make(localizer: Any, **more: Any) -> tuple[Live, Callable[[], Any]]:
            live = live_of(localizer, **more)
            browser = stack.enter_context(TestClient(live.app, base_url=f"http://{HOST}"))

            def join() -> Client:
                made = Client(stack.enter_context(browser.websocket_connect(f"ws://{HOST}/ws", headers=ORIGIN)))
                made.words("settings")
                return made

            return live, join

        yield make


# what is said


def test_frames_and_answers_survive_the_wire() -> None:
    frame = Sent(4_000_000_000, 12.25, 640, b"picture")
    assert read_frame(write_frame(frame)) == frame
    heat = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    found = read_answer(write_answer(Answer({"id": 7, "texts": ["Grüße"]}, heat, b"jpeg")))
    assert found.facts == {"id": 7, "texts": ["Grüße"], "shape": [2, 3, 4, 5]} and found.picture == b"jpeg"
    assert np.array_equal(found.heat, heat)


@pytest.mark.parametrize(("x", "y"), [(0.06, 0.08), (0.56, 0.25), (0.94, 0.92)])
def test_heat_peaks_where_the_frame_is_bright(open_live: Any, bright: Bright, x: float, y: float) -> None:
    _, join = open_live(bright)
    client = join()
    client.settings(boxes=True)
    client.frame(sent(3, picture(x, y)))
    answer = client.answer()
    assert answer.heat.shape == (1, 2, *HEAT) and answer.heat.max() == 255 and answer.heat.min() == 0
    row, column = np.unravel_index(answer.heat[0, 0].argmax(), HEAT)
    assert abs((column + 0.5) / HEAT[1] - x) < 0.08 and abs((row + 0.5) / HEAT[0] - y) < 0.1
    facts = answer.facts
    assert facts["id"] == 3 and facts["time"] == 30.0 and facts["size"] == [64, 48] and facts["texts"] == ["cat", "dog"]
    for text in range(2):
        peak = facts["peaks"][0][text]
        assert abs(peak[0] - x) < 0.08 and abs(peak[1] - y) < 0.1 and peak[2] == 1
        index, x0, y0, x1, y1, _ = facts["boxes"][0][text]
        assert index == text and x0 < peak[0] < x1 and y0 < peak[1] < y1
    assert {"inference", "decode", "readout", "queue", "age"} <= facts.keys()


def test_a_flat_frame_has_no_peak(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright)
    client = join()
    client.frame(sent(1, _encoded(np.full((48, 64, 3), 90, np.uint8))))
    answer = client.answer()
    assert answer.facts["peaks"] == [[None, None]] and not answer.heat.any()


def test_two_methods_answer_the_same_frame(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright)
    client = join()
    assert client.settings(methods=["bright", "other"])["methods"] == ["bright", "other"]
    client.frame(sent(1))
    answer = client.answer()
    assert answer.facts["methods"] == ["bright", "other"] and answer.heat.shape[:2] == (2, 2)
    assert np.array_equal(answer.heat[0], answer.heat[1])


def test_quick_methods_are_offered_by_default() -> None:
    listed = {name for name, row in RECIPES.items() if quick(row)}
    assert {"gem", "maskclip", "clip_surgery"} <= listed and not {"legrad", "gem_matched", "grad_cam", "rollout"} & listed


# texts and settings


def test_texts_are_encoded_aside_and_swapped_at_once(open_live: Any) -> None:
    localizer = Aside()
    _, join = open_live(localizer)
    client = join()
    localizer.encoded.clear()
    localizer.encoding.clear()
    client.socket.send_json({"type": "settings", "texts": ["bird"]})
    assert localizer.encoding.wait(10)
    # frames go on with the old texts while the new ones are encoded
    for number in (1, 2):
        client.frame(sent(number))
        assert client.answer().facts["texts"] == ["cat", "dog"]
    localizer.encoded.set()
    assert client.words("settings")["texts"] == ["bird"]
    client.frame(sent(3))
    assert client.answer().facts["texts"] == ["bird"]


def test_changes_made_while_one_is_encoded_come_as_one(open_live: Any) -> None:
    localizer = Aside()
    _, join = open_live(localizer)
    client = join()
    localizer.encoded.clear()
    localizer.encoding.clear()
    client.socket.send_json({"type": "settings", "texts": ["a"]})
    assert localizer.encoding.wait(10)
    for text in "bcdefg":
        client.socket.send_json({"type": "settings", "texts": [text]})
    client.socket.send_json({"type": "ping", "time": 1})
    assert client.words("pong") == {"type": "pong", "time": 1}
    localizer.encoded.set()
    assert [client.words("settings")["texts"] for _ in range(2)] == [["a"], ["g"]]


def test_a_text_that_cannot_be_encoded_leaves_the_old_ones(open_live: Any) -> None:
    _, join = open_live(Aside())
    client = join()
    said = client.settings(texts=["nothing"])
    assert (said["type"], said["field"]) == ("problem", "texts") and "'nothing' cannot be encoded" in said["message"]
    client.frame(sent(1))
    assert client.answer().facts["texts"] == ["cat", "dog"]


BAD_SETTINGS = [
    ({"texts": []}, "texts", "say what to look for"),
    ({"texts": [" ", ""]}, "texts", "say what to look for"),
    ({"texts": "cat"}, "texts", "a list of texts"),
    ({"texts": [1]}, "texts", "a list of texts"),
    ({"texts": [str(i) for i in range(13)]}, "texts", "at most 12"),
    ({"texts": ["x" * 201]}, "texts", "at most 200"),
    ({"background": [str(i) for i in range(13)]}, "background", "at most 12"),
    ({"methods": []}, "methods", "one to 2"),
    ({"methods": ["bright", "other", "third"]}, "methods", "one to 2"),
    ({"methods": ["bright", "bright"]}, "methods", "different"),
    ({"methods": ["brigth"]}, "methods", "did you mean 'bright'"),
    ({"smooth": -1}, "smooth", "from 0 to 10"),
    ({"smooth": float("nan")}, "smooth", "from 0 to 10"),
    ({"smooth": True}, "smooth", "from 0 to 10"),
    ({"threshold": 2}, "threshold", "from 0.05 to 1"),
    ({"maps": "own"}, "maps", "unknown way of scaling 'own'"),
    ({"maps": [0.3, 0.1]}, "maps", "the colder one first"),
    ({"maps": [0, float("inf")]}, "maps", "two similarities"),
    ({"boxes": 1}, "boxes", "true or false"),
    ({"colour": "red"}, "", "unknown setting 'colour'"),
]


@pytest.mark.parametrize(("asked", "field", "told"), BAD_SETTINGS, ids=lambda value: str(value)[:40])
def test_settings_that_cannot_be_are_refused_beside_their_input(
    open_live: Any, bright: Bright, asked: dict[str, Any], field: str, told: str
) -> None:
    live, join = open_live(bright)
    client = join()
    before = next(iter(live._sessions.values())).setup
    said = client.settings(**asked)
    assert (said["type"], said["field"]) == ("problem", field) and told in said["message"]
    assert next(iter(live._sessions.values())).setup is before


def test_settings_that_a_frame_proves_wrong_are_taken_back(open_live: Any) -> None:
    _, join = open_live(Bright(order="softmax"))
    client = join()
    client.frame(sent(1))
    client.answer()
    assert client.settings(maps="running")["type"] == "settings"
    client.frame(sent(2))
    assert "do not compete" in client.words("problem")["message"]
    assert client.words("settings")["maps"] == "frame"
    client.frame(sent(3))
    assert client.answer().facts["id"] == 3


def test_what_was_said_of_a_text_is_said_to_everybody() -> None:
    from fastloc import OnnxLocalizer

    pytest.importorskip("onnxruntime")
    methods = Methods(OnnxLocalizer())
    settings = Settings(("zorgle", "cat"), ("gem",))
    notes = [methods.setup(settings).notes for _ in range(2)]
    assert notes[0] == notes[1] and len(notes[0]) == 1 and "'zorgle'" in notes[0][0]


def test_probabilities_are_of_the_scale_that_the_model_was_trained_with() -> None:
    from fastloc import OnnxLocalizer

    pytest.importorskip("onnxruntime")
    setup = Methods(OnnxLocalizer()).setup(Settings(("cat",), ("gem",), maps="background"))
    assert [way.temporal.scale for way in setup.ways] == pytest.approx([21.8], abs=0.01)


# limits


def _encoded(pixels: Any, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def _png_of(wide: int, high: int) -> bytes:
    """The beginning of a PNG that claims to be this large."""
    import zlib

    chunk = b"IHDR" + struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    data = struct.pack(">I", 32) + b"IDAT" + b"\x00" * 36
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data


BAD_FRAMES = [
    ("no picture", b"\x00" * 300, 64, "no picture in JPEG, WEBP, PNG"),
    ("empty", b"", 64, "no picture"),
    ("a GIF", _encoded(np.zeros((48, 64, 3), np.uint8), "GIF"), 64, "no picture in JPEG, WEBP, PNG"),
    ("a TIFF", _encoded(np.zeros((48, 64, 3), np.uint8), "TIFF"), 64, "no picture in JPEG, WEBP, PNG"),
    ("large", _encoded(np.zeros((1300, 1200, 3), np.uint8)), 1300, "1200 x 1300, 1560000 pixels; the limit is 1500000"),
    ("a bomb", _png_of(60000, 60000), 60000, "more than 1500000 pixels"),
    ("half", picture(size=(640, 480))[:3000], 640, "cannot be decoded"),
    ("another size", picture(), 65, "64 x 48, and its header says 65"),
]


@pytest.mark.parametrize(("content", "side", "told"), [row[1:] for row in BAD_FRAMES], ids=[row[0] for row in BAD_FRAMES])
def test_frames_that_cannot_be_are_refused_and_the_next_is_answered(
    open_live: Any, bright: Bright, content: bytes, side: int, told: str
) -> None:
    _, join = open_live(bright)
    client = join()
    client.frame(sent(1, content, side))
    said = client.words("refused")
    assert said["id"] == 1 and told in said["message"]
    client.frame(sent(2))
    answer = client.answer()
    assert answer.facts["id"] == 2 and answer.facts["counted"] == {"received": 2, "answered": 1, "dropped": 0, "refused": 1}


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
    ("nested", "[" * 100000, 1008, "not JSON"),
    ("no object", "[1]", 1008, 'not an object with a "type"'),
    ("unknown", '{"type": "shell"}', 1008, "unknown type of message 'shell'"),
    ("too long", b"\x01" * 2_000_001, 1009, "the limit is 2000000"),
    ("a long text", '"' + "x" * 2_000_001, 1009, "the limit is 2000000"),
]


@pytest.mark.parametrize(("message", "code", "told"), [row[1:] for row in VIOLATIONS], ids=[row[0] for row in VIOLATIONS])
def test_what_no_page_of_ours_says_ends_the_connection_with_a_reason(
    open_live: Any, bright: Bright, message: bytes | str, code: int, told: str
) -> None:
    live, join = open_live(bright)
    client = join()
    (client.socket.send_bytes if isinstance(message, bytes) else client.socket.send_text)(message)
    end = client.closed()
    assert end[0] == code and told in end[1]
    until(lambda: not live.state["clients"])


def test_frames_beyond_the_rate_are_refused(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright, limits=Limits(fps=5))
    client = join()
    for number in range(1, 5):
        client.frame(sent(number))
    # two at once are within the rate
    said = client.words("refused")
    assert said["id"] == 3 and "more than 5 frames a second" in said["message"]


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


def test_one_client_more_than_the_limit_is_told_so(open_live: Any, bright: Bright) -> None:
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


@pytest.mark.parametrize("name", ["clients", "fps", "pixels", "message", "texts", "idle"])
def test_limits_are_above_0(name: str) -> None:
    with pytest.raises(ValueError, match=f"limit {name} is 0"):
        Limits(**{name: 0})


# who may


@pytest.fixture
def guarded(bright: Bright) -> Iterator[tuple[TestClient, Rules]]:
    rule = rules("127.0.0.1", 8010, "correct horse battery")
    with TestClient(live_of(bright, rule=rule).app, base_url=f"http://{HOST}", follow_redirects=False) as browser:
        yield browser, rule


def denied(browser: TestClient, headers: dict[str, str]) -> int:
    """The status that a WebSocket is refused with, 0 if it is not."""
    try:
        with browser.websocket_connect(f"ws://{headers.get('host', HOST)}/ws", headers=headers) as socket:
            socket.receive()
    except WebSocketDenialResponse as refusal:
        return int(refusal.status_code)
    return 0


ORIGINS = {
    "none": {}, "null": {"origin": "null"}, "another site": {"origin": "http://example.com"}, "another port": {"origin": "http://127.0.0.1:8011"},
    "https": {"origin": f"https://{HOST}"}, "another name of ours": {"origin": "http://localhost:8010"}, "a prefix": {"origin": f"http://{HOST}.example.com"},
}  # fmt: skip


@pytest.mark.parametrize("headers", ORIGINS.values(), ids=ORIGINS.keys())
def test_only_pages_of_this_server_may_connect(bright: Bright, headers: dict[str, str]) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        assert denied(browser, headers) == 403
        assert denied(browser, ORIGIN) == 0


STRANGERS = ["example.com", "example.com:8010", "127.0.0.1.example.com", "192.168.0.7:8010", "0x7f000001", "", "[::2]:8010"]


@pytest.mark.parametrize("host", STRANGERS)
def test_other_hosts_are_refused(bright: Bright, host: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        answer = browser.get("/", headers={"host": host})
        assert answer.status_code == 403 and "use the address that was printed" in answer.text
        assert browser.get("/state", headers={"host": host}).status_code == 403
        assert denied(browser, {"host": host or "x", "origin": f"http://{host or 'x'}"}) == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8010", "localhost:8010", "LOCALHOST", "[::1]:8010"])
def test_own_names_are_served(bright: Bright, host: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        assert browser.get("/", headers={"host": host}).status_code == 200


def test_elsewhere_addresses_and_given_names_are_served_and_other_names_are_not() -> None:
    rule = rules("0.0.0.0", 8010, names=["cam.example.com"])
    assert rule.numbers and rule.names("192.168.0.7:8010") and rule.names("cam.example.com") and rule.names("[fe80::1]:8010")
    assert not rule.names("evil.example.com:8010")


def test_any_host_but_loopback_has_a_token() -> None:
    assert rules("127.0.0.1", 1).token == rules("localhost", 1).token == rules("::1", 1).token == rules("127.0.0.9", 1).token == ""
    made = {rules(host, 1).token for host in ("0.0.0.0", "::", "192.168.0.7", "machine")}
    assert len(made) == 4 and all(len(token) >= 32 for token in made)
    assert rules("0.0.0.0", 1, "correct horse battery").token == "correct horse battery"
    with pytest.raises(ValueError, match="--token has 5 letters; 12 at least"):
        rules("127.0.0.1", 1, "short")
    assert "correct" not in repr(rules("0.0.0.0", 1, "correct horse battery"))


def test_the_printed_address_has_the_token() -> None:
    assert url("127.0.0.1", 8010, rules("127.0.0.1", 8010)) == "http://127.0.0.1:8010/"
    assert url("::1", 8010, rules("::1", 8010)) == "http://[::1]:8010/"
    guard = rules("192.168.0.7", 8010, "correct-horse-battery", secure=True)
    assert url("192.168.0.7", 8010, guard) == "https://192.168.0.7:8010/?token=correct-horse-battery"
    assert "0.0.0.0" not in url("0.0.0.0", 8010, rules("0.0.0.0", 8010))


@pytest.mark.parametrize("path", ["/", "/app.js", "/state", "/nothing", "/index.html"])
def test_without_the_token_nothing_is_served(guarded: Any, path: str) -> None:
    answer = guarded[0].get(path)
    assert answer.status_code == 401 and "token" in answer.text
    assert guarded[0].get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert guarded[0].get(path, headers={"cookie": f"{guarded[1].cookie}=wrong"}).status_code == 401
    assert denied(guarded[0], ORIGIN) == 401


@pytest.mark.parametrize("token", ["", "wrong", "correct horse battery ", "ä"])
def test_a_wrong_token_is_refused(guarded: Any, token: str) -> None:
    answer = guarded[0].get("/", params={"token": token})
    assert answer.status_code == 401 and "not right" in answer.text and "set-cookie" not in answer.headers


def test_the_token_is_exchanged_for_a_cookie(guarded: Any) -> None:
    browser, rule = guarded
    answer = browser.get("/", params={"token": rule.token})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200 and 'content="0; url=/"' in answer.text
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and rule.token not in cookie and "8010" in cookie
    # the client keeps it
    assert browser.get("/").status_code == 200 and browser.get("/state").json()["clients"] == []
    assert denied(browser, ORIGIN) == 0
    assert denied(browser, {"origin": "http://example.com"}) == 403


def test_programs_may_bear_the_token(guarded: Any) -> None:
    browser, rule = guarded
    bearer = {"authorization": f"Bearer {rule.token}"}
    assert browser.get("/state", headers=bearer).status_code == 200 and denied(browser, {**ORIGIN, **bearer}) == 0


def test_secure_cookies_over_https(bright: Bright) -> None:
    rule = rules("127.0.0.1", 8010, "correct horse battery", secure=True)
    with TestClient(live_of(bright, rule=rule).app, base_url=f"https://{HOST}") as browser:
        assert "Secure" in browser.get("/", params={"token": rule.token}).headers["set-cookie"]
        bearer = {"authorization": f"Bearer {rule.token}"}
        assert denied(browser, {**ORIGIN, **bearer}) == 403 and denied(browser, {"origin": f"https://{HOST}", **bearer}) == 0


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/state", "/nothing"])
def test_every_answer_is_closed_to_others(bright: Bright, path: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        headers = browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
    assert "camera=(self)" in headers["permissions-policy"] and "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/../app.py", "/..%2fapp.py", "/page/app.js", "/app.py", "//etc/passwd", "/%2e%2e/limits.py"])
def test_only_the_page_s_files_are_served(bright: Bright, path: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        assert browser.get(path).status_code == 404


def test_the_page_loads_nothing_from_elsewhere() -> None:
    folder = Path(sys.modules["fastloc.live"].__file__ or "").parent / "page"
    for path in folder.iterdir():
        content = path.read_text(encoding="utf-8")
        found = [link for link in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", content) if "www.w3.org" not in link]
        assert not found, f"{path.name} names {found}"
        assert " style=" not in content and "onclick" not in content and "innerHTML" not in content


# who waits for whom


def test_the_newest_frame_wins(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright)
    client = join()
    bright.gate.clear()
    bright.entered.clear()
    client.frame(sent(1))
    assert bright.entered.wait(10)
    for number in range(2, 7):
        client.frame(sent(number))
    until(lambda: live.state["clients"][0]["received"] == 6)
    bright.gate.set()
    got = [client.answer().facts["id"]]
    while got[-1] < 6:
        got.append(client.answer().facts["id"])
    # the first answer may have been replaced before it was sent
    assert got in ([1, 6], [6])
    (counted,) = live.state["clients"]
    assert counted == {"client": 1, "texts": ["cat", "dog"], "received": 6, "answered": len(got), "dropped": 6 - len(got), "refused": 0}


def test_clients_are_served_in_turn(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright)
    clients = [join() for _ in range(3)]
    for name, client in zip("abc", clients, strict=True):
        client.settings(texts=[name])
    bright.gate.clear()
    clients[0].frame(sent(1))
    until(lambda: bright.entered.is_set())
    bright.asked.clear()
    # the first is much quicker than the others
    for number in range(2, 30):
        clients[0].frame(sent(number))
    for client in clients[1:]:
        client.frame(sent(1))
    until(lambda: sum(each["received"] for each in live.state["clients"]) == 31)
    bright.gate.set()
    until(lambda: len(bright.asked) == 4)
    assert bright.asked == [("a",), ("b",), ("c",), ("a",)]


def test_a_fault_does_not_end_the_page(open_live: Any, bright: Bright, capsys: pytest.CaptureFixture[str]) -> None:
    _, join = open_live(bright)
    client = join()
    bright.fault = ZeroDivisionError("of ours")
    client.frame(sent(1))
    assert "ZeroDivisionError" in client.words("problem")["message"]
    bright.fault = None
    client.frame(sent(2))
    assert client.answer().facts["id"] == 2
    assert "ZeroDivisionError: of ours" in capsys.readouterr().err


# sockets


def joined(address: str, **more: Any) -> ClientConnection:
    return connect(address.replace("http", "ws") + "/ws", origin=address, compression=None, max_size=None, **more)


def test_a_slow_reader_gets_the_newest_and_no_queue(bright: Bright) -> None:
    texts = tuple(f"text {i}" for i in range(12))
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    with serving(bright, texts, limits=Limits(fps=2000)) as (live, address):
        made.connect(("127.0.0.1", int(address.rpartition(":")[2])))
        with joined(address, sock=made, max_queue=1) as client:
            count = 0
            # nothing is read until the server cannot send any more, and has replaced some answers
            while not live.state["clients"] or live.state["clients"][0]["dropped"] < 10:
                count += 1
                assert count < 2000, "answers pile up somewhere"
                client.send(sent(count))
                until(lambda count=count: live.state["clients"] and live.state["clients"][0]["received"] >= count)
            until(lambda: (each := live.state["clients"][0])["answered"] + each["dropped"] >= count)
            got = []
            while not got or got[-1] < count:
                message = client.recv(timeout=10)
                if isinstance(message, bytes):
                    got.append(read_answer(message).facts["id"])
    assert got == sorted(set(got)) and len(got) < count, "those that were replaced are not sent"


def test_messages_beyond_the_limit_are_not_even_taken_in(bright: Bright) -> None:
    with serving(bright, limits=Limits(message=10000)) as (live, address), joined(address) as client:
        client.send(b"\x01" * 10001)
        with pytest.raises(ConnectionClosed, match="1009"):
            deque((client.recv(timeout=10) for _ in range(10)), maxlen=0)
        until(lambda: not live.state["clients"])


# connects a few times, sends a frame each, and waits to be killed
VICTIM = """
import sys, time
from websockets.sync.client import connect
address, frame = sys.argv[1], bytes.fromhex(sys.argv[2])
clients = [connect(address.replace("http", "ws") + "/ws", origin=address) for _ in range(3)]
clients = [client.__enter__() for client in clients]
for client in clients:
    client.send(frame)
print("ready", flush=True)
time.sleep(60)
"""


def ours() -> list[str]:
    """Names of our threads that run, without those that asyncio keeps for files."""
    return sorted(each.name for each in threading.enumerate() if "fastloc" in each.name)


def test_a_killed_client_leaves_nothing_behind(bright: Bright) -> None:
    with serving(bright) as (live, address):
        bright.gate.clear()
        bright.entered.clear()
        with subprocess.Popen([sys.executable, "-P", "-c", VICTIM, address, sent(1).hex()], stdout=subprocess.PIPE) as victim:
            assert victim.stdout is not None and victim.stdout.readline() == b"ready\n"
            until(lambda: sum(each["received"] for each in live.state["clients"]) == 3)
            before = ours()
            sessions = [weakref.ref(each) for each in live._sessions.values()]
            # in the middle of a frame
            assert bright.entered.wait(10) and len(sessions) == live.engine.clients == 3
            victim.kill()
        bright.gate.set()
        until(lambda: not live.state["clients"] and not live.engine.clients, f"clients are left: {live.state}")
        until(lambda: gc.collect() is not None and all(each() is None for each in sessions), "sessions are held on to")
        assert ours() == before


def test_closing_ends_every_thread(bright: Bright) -> None:
    before = ours()
    source = Film(live=True)
    with serving(bright, hub=Hub(lambda: source, 30)) as (_, address), joined(address) as client:
        client.recv(timeout=10)
    until(lambda: ours() == before, f"threads are left: {ours()}")
    assert source.closed


# a source that the server has


class Film:
    """A source of bright spots that move to the right."""

    def __init__(self, count: int = 4, rate: float = 50, live: bool = False, wait: float = 0.0) -> None:
        self.name, self.live, self.info, self.corrupt, self.reconnects = "film", live, Info(), 0, 0
        self.count, self.rate, self.wait, self.closed, self.given = count, rate, wait, False, 0

    def frames(self) -> Iterator[Frame]:
        index = 0
        while not self.closed and (self.live or index < self.count):
            pixels = np.asarray(Image.open(io.BytesIO(picture((index % self.count + 0.5) / self.count))))
            self.given += 1
            yield Frame(index, index / self.rate, time.monotonic(), pixels.shape[:2], lambda pixels=pixels: pixels)
            index += 1
            if self.live:
                time.sleep(1 / self.rate)

    def close(self) -> None:
        self.closed = True


def test_a_file_runs_in_a_circle_for_all_clients(open_live: Any, bright: Bright) -> None:
    opened: list[Film] = []

    def film() -> Film:
        opened.append(Film())
        return opened[-1]

    live, join = open_live(bright, hub=Hub(film, 100))
    clients = {name: join() for name in ("cat", "bird")}
    clients["bird"].settings(texts=["bird"])
    for name, client in clients.items():
        seen = []
        while len(seen) < 7:
            answer = client.answer()
            client.socket.send_json({"type": "seen"})
            with Image.open(io.BytesIO(answer.picture)) as shown:
                assert shown.format == "JPEG" and shown.size == (64, 48)
                # the picture that comes with the heat is the one that it was made of
                row = np.asarray(shown.convert("L"), np.float32).sum(0)
            column = answer.heat[0, 0].sum(0).argmax()
            assert abs((row.argmax() + 0.5) / 64 - (column + 0.5) / HEAT[1]) < 0.15
            if name in answer.facts["texts"]:
                seen.append(answer.facts["time"])
        assert seen == sorted(seen), "time goes on when the film begins anew"
    assert len(opened) > 1 and all(each.closed for each in opened[:-1])
    assert live.state["source"] == {"name": "film", "live": False, "corrupt": 0, "reconnects": 0}


def test_a_file_keeps_its_pace_and_waits_for_somebody_to_look(open_live: Any, bright: Bright) -> None:
    film = Film(count=1000, rate=40)
    _, join = open_live(bright, hub=Hub(lambda: film, 100))
    time.sleep(0.1)
    assert film.given <= 1
    client = join()
    times = []
    for _ in range(8):
        times.append(client.answer().facts["time"])
        client.socket.send_json({"type": "seen"})
    assert times[0] <= 50, "it did not run on while nobody looked"
    assert min(np.diff(times)) >= 20, "frames come at the film's pace, 25 ms apart or more"


def test_answers_that_were_not_seen_hold_up_the_server(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright, hub=Hub(lambda: Film(live=True, rate=200), 1000))
    client = join()
    until(lambda: live.state["clients"][0]["dropped"] >= 5)
    assert live.state["clients"][0]["answered"] == 2
    numbers = [client.answer().facts["id"] for _ in range(2)]
    client.socket.send_json({"type": "seen"})
    newest = client.answer().facts["id"]
    assert newest > numbers[1] + 3, "what comes then is the newest"


def test_a_source_that_ends_or_fails_is_told(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright, hub=Hub(lambda: Film(count=0), 30))
    said = join().words("problem")
    assert (said["field"], said["message"]) == ("source", "film has no frames")


def test_frames_of_a_client_are_not_taken_where_the_server_has_a_source(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright, hub=Hub(lambda: Film(live=True), 30))
    client = join()
    client.frame(sent(1))
    assert client.closed() == (1008, "frames come from the server's own source here")


def test_killed_clients_are_off_the_source_too(bright: Bright) -> None:
    hub = Hub(lambda: Film(live=True), 30)
    with serving(bright, hub=hub) as (live, address):
        with joined(address) as client:
            until(lambda: hub.clients == 1)
            client.socket.close()
        until(lambda: not hub.clients and not live.state["clients"])


# the command


def told(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main(["live", *command]) == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("fastloc: note")]
    assert len(lines) == 1 and lines[0].startswith("fastloc: error: "), error
    return lines[0]


def test_a_taken_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} cannot be served on (Address already in use): name another one, such as --port {port % 65535 + 1}" in told(
            capsys, "--port", str(port)
        )


BAD_COMMANDS = [
    (["--port", "65536"], "--port 65536 is not a port; give a number from 0 to 65535"),
    (["--port", "-1"], "--port -1 is not a port"),
    (["--host", "192.0.2.1"], "--host 192.0.2.1 is not an address of this machine"),
    (["--host", "no such host"], "--host 'no such host' is not known here"),
    (["--token", "short", "--port", "0"], "--token has 5 letters; 12 at least"),
    (["--keyfile", "key.pem"], "--keyfile key.pem is given without its certificate"),
    (["--certfile", "nowhere.pem"], "--certfile nowhere.pem cannot be used for https: No such file"),
    (["--port", "0", "-t", "x" * 201], "at most 200 are read"),
    (["--port", "0", "--methods", "gme"], "unknown method 'gme'"),
]


@pytest.mark.parametrize(("command", "wanted"), BAD_COMMANDS, ids=[" ".join(row[0])[:30] for row in BAD_COMMANDS])
def test_bad_commands_are_told_in_a_line(capsys: pytest.CaptureFixture[str], command: list[str], wanted: str) -> None:
    assert wanted in told(capsys, *command)


def test_a_certificate_that_is_none_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("not a certificate")
    assert f"--certfile {file} cannot be used for https" in told(capsys, "--certfile", str(file))


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "websockets"])
def test_missing_packages_are_told_with_their_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert f'this needs {missing}, which is not installed: pip install "fastloc[live]"' in told(capsys)


def test_a_source_that_cannot_be_opened_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fastloc.video.opening")
    assert "nowhere.mp4" in told(capsys, "nowhere.mp4", "--port", "0")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_quietly_with_a_client_connected() -> None:
    command = [sys.executable, "-P", "-m", "fastloc", "live", "--port", "0", "--token", "correct-horse-battery", "-t", "cat"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None and process.stderr is not None
        threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
        line = lines.get(timeout=60)
        found = re.match(r"(http://127\.0\.0\.1:\d+)/\?token=correct-horse-battery \(Ctrl-C ends\)$", line.strip())
        assert found, line
        with joined(found[1], additional_headers={"Authorization": "Bearer correct-horse-battery"}) as client:
            client.send(sent(1))
            while not isinstance(client.recv(timeout=30), bytes):
                pass
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 130
            assert time.monotonic() - began < 10
        assert [line for line in process.stderr.read().splitlines() if not line.startswith("fastloc: note")] == []


def test_https_is_spoken_with_a_certificate(bright: Bright, tmp_path: Path) -> None:
    """The context that the command checks with is the one that uvicorn makes."""
    from fastloc.cli_live import check_certificate

    openssl = pytest.importorskip("shutil").which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run([openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key),
                    "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)  # fmt: skip
    check_certificate(certificate, key)
    with serving(bright, secure=True, certificate=(certificate, key)) as (_, address):
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        with connect(address.replace("https", "wss") + "/ws", origin=address, ssl=context) as client:
            assert '"welcome"' in client.recv(timeout=10)


def test_sessions_take_nothing_once_closed(bright: Bright) -> None:
    methods = Methods(bright, ("other",))

    class Quiet:
        def say(self, **words: Any) -> None: ...
        def answer(self, message: bytes) -> bool:
            raise AssertionError("an answer for nobody")

    session = Session(1, methods.setup(Settings(("cat",), ("bright",))), Quiet(), Limits(), lambda: None)  # type: ignore[arg-type]
    session.close()
    session.receive(Sent(1, 0.0, 64, picture()))
    assert not session.ready
    session.work(0)
