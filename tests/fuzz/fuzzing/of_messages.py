"""Targets of what clients and services send: messages of the live page, bodies and heads of HTTP, tensors, written results."""

from __future__ import annotations

import asyncio
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from fuzzing.mutators import edited, json_text, parts_of, png
from fuzzing.target import Target

# between a head, or a picture's name, and a body
CUT = b"\0\0\n"


def _words() -> list[bytes]:
    texts = {"texts": ["cat"], "methods": ["gem"], "background": ["sky"]}
    every = {**texts, "smooth": 0.5, "maps": [0.1, 0.2], "threshold": 0.5, "boxes": True}
    messages = ({"type": "ping", "time": 1.5}, {"type": "seen"}, {"type": "settings", **every}, {"type": "settings", "maps": "frame"})
    return [json.dumps(each).encode() for each in messages]


def _word(content: bytes, folder: Path) -> object:
    from fastloc.live.limits import Limits
    from fastloc.live.messages import Asked, read_words, written
    from fastloc.live.settings import Settings, changed

    # what a WebSocket carries as text is UTF-8
    found = read_words(content.decode("utf-8", "replace"))
    if not isinstance(found, Asked):
        return found
    settings = changed(Settings(("cat",), ("gem",)), found.requested, Limits(), ("gem", "clearclip"))
    return written(settings.to_dict())


def _frames() -> list[bytes]:
    from fastloc.live.protocol import Sent, write_frame

    return [write_frame(Sent(1, 2.0, 640, picture)) for picture in (_picture("JPEG"), _picture("PNG"), _picture("WEBP"))]


@cache
def _picture(kind: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.effect_mandelbrot((24, 16), (-2, -1, 1, 1), 20).convert("RGB").save(file, kind)
    return file.getvalue()


def _frame(content: bytes, folder: Path) -> object:
    from dataclasses import replace

    from fastloc.live.limits import Limits, decoded, measured
    from fastloc.live.protocol import read_frame

    sent = read_frame(content)
    measured(sent.picture, replace(Limits(), pixels=200_000))
    return decoded(sent.picture)


def _framed(draw: Any, content: bytes, others: Any) -> bytes:
    """The head or the picture of a frame changed."""
    if draw.random() < 0.3:
        return edited(draw, content[:16], [other[:16] for other in others]) + content[16:]
    return content[:16] + png(draw, content[16:], [other[16:] for other in others])


def _answers() -> list[bytes]:
    import numpy as np

    from fastloc.live.protocol import Answer, write_answer

    return [write_answer(Answer({"id": 3, "texts": ["cat"]}, np.zeros((1, 2, 3, 4), np.uint8), picture)) for picture in (b"", b"x" * 9)]


def _answer(content: bytes, folder: Path) -> object:
    from fastloc.live.protocol import read_answer

    return read_answer(content).heat.sum()


def _bodies() -> list[bytes]:
    import base64

    coded = base64.b64encode(_picture("PNG")).decode()
    every = {"texts": ["cat"], "image": coded, "method": "gem", "threshold": 0.4, "score": 0.1, "similarity": True}
    bodies = (every, {"texts": ["a", "b"], "images": [coded, {"url": "http://example.org/a.png"}]})
    form = (
        b'--B\r\nContent-Disposition: form-data; name="texts"\r\n\r\n["cat"]\r\n--B\r\n'
        b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + _picture("PNG") + b"\r\n"
        b'--B\r\nContent-Disposition: form-data; name="threshold"\r\n\r\n0.5\r\n--B--\r\n'
    )
    return [
        *(b"application/json" + CUT + json.dumps(each).encode() for each in bodies),
        b"multipart/form-data; boundary=B" + CUT + form,
    ]


def _body(content: bytes, folder: Path) -> object:
    from starlette.requests import Request

    from fastloc.serve.requests import read
    from fastloc.serve.settings import Settings

    kind, _, body = content.partition(CUT)
    sent = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return sent.pop() if sent else {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": "/v1/locate", "query_string": b"", "headers": [(b"content-type", kind)]}
    return asyncio.run(read(Request(scope, receive), Settings(size=1 << 20))).pictures


def _tensors() -> list[bytes]:
    picture = _picture("PNG")
    inputs: list[dict[str, Any]] = [
        {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(picture) + 4}},
        {"name": "texts", "shape": [2], "datatype": "BYTES", "data": ["cat", "dog"]},
    ]
    plain = json.dumps({"id": "1", "inputs": inputs, "outputs": [{"name": "points", "parameters": {"binary_data": True}}]}).encode()
    pixels = {"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8", "data": [[[[1, 2, 3], [4, 5, 6]]]]}
    small = json.dumps({"inputs": [pixels, inputs[1]], "parameters": {"method": "gem"}}).encode()
    behind = plain + len(picture).to_bytes(4, "little") + picture
    return [str(len(plain)).encode() + CUT + behind, CUT + small]


def _tensor(content: bytes, folder: Path) -> object:
    from fastloc.serve import tensors

    length, _, body = content.partition(CUT)
    asked, found = tensors.read(body, length.decode("latin-1") or None)
    return asked, [tensors.base64_or_bytes(each) for value in found.values() if isinstance(value, list) for each in value]


def _tensor_body(draw: Any, content: bytes, others: Any) -> bytes:
    """The JSON of a request changed, with its length in front; or the bytes behind it."""
    length, _, body = content.partition(CUT)
    end = int(length or len(body)) if length.isdigit() or not length else len(body)
    if draw.random() < 0.3:
        return edited(draw, content, others)
    head = json_text(draw, body[:end], [])
    return (str(len(head)).encode() if length else b"") + CUT + head + body[end:]


def _heads() -> list[bytes]:
    return [
        b"GET / HTTP/1.1\r\nhost: localhost:8000\r\n",
        b"GET /?token=abcdefghijkl&a=%ff HTTP/1.1\r\nhost: [::1]:8000\r\ncookie: fastloc_live_8000=x; a=\"\\\r\n",
        b"POST /v1/locate HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://127.0.0.1\r\n"
        b"authorization: Bearer abcdefghijkl\r\ncontent-length: 5\r\n",
        b"WEBSOCKET /ws HTTP/1.1\r\nhost: machine.local:8000\r\norigin: http://machine.local:8000\r\n",
    ]


def _head(content: bytes, folder: Path) -> object:
    """The guard of both servers, with a token and without."""
    from fastloc.live import guard_pages
    from fastloc.web_server.security import Guard, Rules

    first, *lines = content.split(b"\r\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b" ")[0].partition(b"?")
    headers = [(name.strip().lower(), value.strip()) for name, found, value in (line.partition(b":") for line in lines) if found]
    scope: dict[str, Any] = {
        "type": "websocket" if method == b"WEBSOCKET" else "http", "method": method.decode("latin-1"),
        "path": path.decode("utf-8", "replace"),
        "raw_path": path, "query_string": query, "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    for token in ("", "abcdefghijkl"):
        rules = Rules(("localhost", "machine.local", "::1"), True, token, "fastloc_live_8000")
        asyncio.run(Guard(app, rules, guard_pages)(dict(scope), receive, send))  # type: ignore[arg-type]
    return sent


def _results() -> list[bytes]:
    import numpy as np
    from PIL import Image

    from fastloc.imaging.geometry import fit
    from fastloc.results.result import Result
    from fastloc.results.wire import to_wire

    geometry = fit((16, 24), (32, 32), 8, "letterbox")
    similarity = np.linspace(-0.2, 0.3, 2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4)
    result = Result(
        picture=Image.new("RGB", (24, 16)), texts=("cat", "dog"), similarity=similarity, geometry=geometry, order="grid",
        logit_scale=None, method="gem", model="embedded",
    )  # fmt: skip
    return [json.dumps(to_wire(result)).encode()]


def _result(content: bytes, folder: Path) -> object:
    from PIL import Image

    from fastloc.errors import FastlocError
    from fastloc.results.wire import Located
    from fastloc.utils.schema import decode

    found = decode(content, Located, "the answer", error=FastlocError).result(Image.new("RGB", (24, 16)))
    return found.points(), found.to_dict()


ROWS = (
    Target("live-words", _word, _words, json_text, ("fastloc.live.messages", "fastloc.live.settings")),
    Target("live-frames", _frame, _frames, _framed, ("fastloc.live.protocol", "fastloc.live.limits")),
    Target("live-answers", _answer, _answers, edited, ("fastloc.live.protocol",)),
    Target("http-bodies", _body, _bodies, parts_of(edited, json_text, CUT), ("fastloc.serve.requests",)),
    Target("http-heads", _head, _heads, edited, ("fastloc.web_server.security",)),
    Target("tensors", _tensor, _tensors, _tensor_body, ("fastloc.serve.tensors",)),
    Target("results", _result, _results, json_text, ("fastloc.results.wire", "fastloc.imaging.geometry")),
)
