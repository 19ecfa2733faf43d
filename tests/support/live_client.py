"""A client of the live page for tests, the pictures it sends, a localizer without a model and a film for the server."""

import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import ClientConnection, connect

from fastloc.errors import TextError
from fastloc.imaging.geometry import fit
from fastloc.live.app import Live
from fastloc.live.broadcast import Broadcast
from fastloc.live.limits import Limits
from fastloc.live.method_pool import Methods
from fastloc.live.protocol import Answer, Sent, read_answer, write_frame
from fastloc.live.settings import Settings
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result
from fastloc.video.sources.base import Info
from fastloc.video.sources.frame import Frame
from fastloc.web_server.security import Rules, rules

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

    def encode_texts(self, texts: list[str]) -> list[str]:
        self.encoding.set()
        assert self.encoded.wait(10)
        if "nothing" in texts:
            raise TextError("'nothing' cannot be encoded")
        return texts

    def predict_frame(self, frame: Any, prompts: list[str], bgr: bool = False) -> Prediction:
        return Prediction.of(self(Image.fromarray(frame), prompts))


def picture(x: float = 0.5, y: float = 0.5, size: tuple[int, int] = (64, 48), form: str = "JPEG") -> bytes:
    """A dark picture with a bright spot, encoded."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    row, column = min(int(y * ROWS), ROWS - 1) * height // ROWS, min(int(x * COLUMNS), COLUMNS - 1) * width // COLUMNS
    pixels[row : row + height // ROWS, column : column + width // COLUMNS] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def sent(number: int, content: bytes | None = None, side: int = 64) -> bytes:
    return write_frame(Sent(number, 10.0 * number, side, picture() if content is None else content))


def live_of(localizer: Any, *, limits: Limits | None = None, rule: Rules | None = None, hub: Broadcast | None = None) -> Live:
    methods = Methods(localizer, ("other", "third"))
    return Live(methods, Settings(("cat", "dog"), ("bright",)), limits or Limits(fps=1000), rule or rules("127.0.0.1", 8010), hub)


def encoded(pixels: Any, form: str = "JPEG", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **more)
    return file.getvalue()


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
        """The server's answer to settings: the new ones, or a problem."""
        self.socket.send_json({"type": "settings", **asked})
        return self.words("settings", "problem")

    def frame(self, message: bytes) -> None:
        self.socket.send_bytes(message)

    def closed(self) -> tuple[int, str]:
        """The code and the reason with which the server closes the connection."""
        while True:
            try:
                self._next()
            except WebSocketDisconnect as end:
                return end.code, end.reason or ""

    def _next(self) -> dict[str, Any] | Answer:
        message = self.socket.receive()
        self.socket._raise_on_close(message)
        if message.get("bytes"):
            return read_answer(message["bytes"])
        found: dict[str, Any] = json.loads(message["text"])
        return found


def joined(address: str, **more: Any) -> ClientConnection:
    return connect(address.replace("http", "ws") + "/ws", origin=address, compression=None, max_size=None, **more)


class Film:
    """A source of bright spots that move to the right."""

    def __init__(self, count: int = 4, rate: float = 50, live: bool = False, wait: float = 0.0) -> None:
        self.name, self.live, self.info, self.corrupt, self.reconnects = "film", live, Info(), 0, 0
        self.count, self.rate, self.wait, self.closed, self.sent = count, rate, wait, False, 0

    def frames(self) -> Iterator[Frame]:
        index = 0
        while not self.closed and (self.live or index < self.count):
            pixels = np.asarray(Image.open(io.BytesIO(picture((index % self.count + 0.5) / self.count))))
            self.sent += 1
            yield Frame(index, index / self.rate, time.monotonic(), pixels.shape[:2], lambda pixels=pixels: pixels)
            index += 1
            if self.live:
                time.sleep(1 / self.rate)

    def close(self) -> None:
        self.closed = True
