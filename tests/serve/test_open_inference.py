"""The Open Inference Protocol: answers are the localizer's own, in JSON and in bytes, and what does not fit is one line."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
import uvicorn

from fastloc import Localizer
from fastloc.embedded import SAMPLES
from fastloc.imaging.images import load
from fastloc.serve.app import application
from fastloc.serve.service import Service
from fastloc.serve.settings import Settings

TEXTS = ["cat", "pizza"]
SCENE = (SAMPLES / "market.webp").read_bytes()


@pytest.fixture(scope="module")
def app() -> Any:
    return application(Localizer(), Settings(pixels=1_000_000))


def ask(app: Any, path: str, content: bytes | None = None, headers: dict[str, str] | None = None) -> httpx2.Response:
    async def send() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
            return await client.request("GET" if content is None else "POST", path, content=content, headers=headers)

    return asyncio.run(send())


def infer(app: Any, inputs: list[dict[str, Any]], rest: bytes = b"", **fields: Any) -> httpx2.Response:
    head = json.dumps({"inputs": inputs, **fields}).encode()
    return ask(app, "/v2/models/embedded/infer", head + rest, {"Inference-Header-Content-Length": str(len(head))} if rest else None)


def texts(names: list[str] = TEXTS) -> dict[str, Any]:
    return {"name": "texts", "datatype": "BYTES", "shape": [len(names)], "data": names}


def picture() -> dict[str, Any]:
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(SCENE).decode()]}


def arrays(answer: httpx2.Response) -> dict[str, np.ndarray[Any, Any]]:
    assert answer.status_code == 200, answer.text
    length = answer.headers.get("Inference-Header-Content-Length")
    head, rest = (answer.content, b"") if length is None else (answer.content[: int(length)], answer.content[int(length) :])
    found = {}
    for output in json.loads(head)["outputs"]:
        assert output["datatype"] == "FP32"
        if "data" in output:
            values = np.array(output["data"], np.float32)
        else:
            size = output["parameters"]["binary_data_size"]
            values, rest = np.frombuffer(rest[:size], "<f4"), rest[size:]
        found[output["name"]] = values.reshape(output["shape"])
    assert not rest
    return found


def check(found: dict[str, np.ndarray[Any, Any]], expected: Any, index: int = 0) -> None:
    np.testing.assert_array_equal(found["similarity"][index], expected.similarity)
    np.testing.assert_array_equal(found["scores"][index], expected.scores)
    points = [(each.x, each.y, each.value, each.similarity) for each in expected.points()]
    np.testing.assert_array_equal(found["points"][index], np.array(points, np.float32))


def test_a_client_learns_what_there_is(app: Any) -> None:
    assert ask(app, "/v2").json()["extensions"] == ["binary_tensor_data"]
    assert ask(app, "/v2/health/live").status_code == ask(app, "/v2/health/ready").status_code == 200
    model = ask(app, "/v2/models/embedded").json()
    assert [each["name"] for each in model["inputs"]] == ["image", "texts"]
    assert [each["name"] for each in model["outputs"]] == ["similarity", "points", "scores"]
    assert ask(app, "/v2/models/embedded/versions/1/ready").json() == {"name": "embedded", "ready": True}
    other = ask(app, "/v2/models/other/ready")
    assert other.status_code == 404 and "must be 'embedded' in version 1, got 'other'" in other.json()["error"]


def test_json_and_bytes_give_the_localizer_s_own_numbers(app: Any) -> None:
    expected = Localizer()(SCENE, TEXTS)
    check(arrays(infer(app, [picture(), texts()], id="7")), expected)
    pixels = np.asarray(load(SCENE))
    rest = b"".join(len(each).to_bytes(4, "little") + each for each in (b"cat", b"pizza"))
    inputs = [
        {"name": "image", "datatype": "UINT8", "shape": [2, *pixels.shape], "parameters": {"binary_data_size": 2 * pixels.size}},
        {"name": "texts", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(rest)}},
    ]
    found = arrays(infer(app, inputs, 2 * pixels.tobytes() + rest, parameters={"binary_data_output": True}))
    for index in range(2):
        # of two pictures at once the last bits differ
        np.testing.assert_allclose(found["similarity"][index], expected.similarity, atol=1e-6)
        np.testing.assert_array_equal(found["points"][index, :, :2], [(each.x, each.y) for each in expected.points()])


@pytest.mark.parametrize(
    ("inputs", "rest", "status", "message"),
    [
        ([texts()], b"", 400, "image must be BYTES [N], pictures' files, or UINT8 [N, H, W, 3], got none"),
        ([picture()], b"", 400, "texts must be BYTES [T], got none"),
        ([picture(), picture(), texts()], b"", 400, "inputs must have names of their own, got 'image' twice"),
        ([picture(), texts(), {**texts(), "name": "mask"}], b"", 400, "inputs must be image and texts, got 'mask'"),
        ([picture(), {**texts(), "shape": [3]}], b"", 400, "'texts' must hold the 3 elements of shape [3], got 2"),
        ([picture(), {**texts(), "shape": [-1]}], b"", 400, "shape of 'texts' must be of 1 to 8 numbers above 0, got [-1]"),
        ([{**picture(), "datatype": "FP32"}, texts()], b"", 400, "datatype of 'image' must be BYTES or UINT8, got 'FP32'"),
        ([{**picture(), "data": ["bm8="]}, texts()], b"", 422, "image"),
        ([{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [[[[0, 256, 0]]]]}, texts()], b"", 400, "0 to 255"),
        ([{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "parameters": {"binary_data_size": 9}}, texts()], b"abc", 400,
         "binary_data_size of 'image' must be within the 3 bytes left, got 9"),
        ([picture(), {"name": "texts", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}], b"\xff\0\0\0a", 400,
         "one ends beyond them"),
        ([picture(), {"name": "texts", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}], b"\1\0\0\0ab", 400,
         "the body must end with the bytes of its inputs, got 1 more"),
        ([{"name": "image", "datatype": "UINT8", "shape": [1000, 1, 1, 3], "parameters": {"binary_data_size": 3000}}, texts()],
         bytes(3000), 413, "a request must hold 1 to 16 pictures, got 1000"),
        ([{**picture(), "shape": [1] * 9}, texts()], b"", 400, "shape of 'image' must be of 1 to 8 numbers above 0"),
        ([{"name": "image", "datatype": "UINT8", "shape": [1, 1001, 1000, 3], "parameters": {"binary_data_size": 3_003_000}}, texts()],
         bytes(3_003_000), 413, "a picture must have at most 1,000,000 pixels, got 1,001,000"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(app: Any, inputs: list[dict[str, Any]], rest: bytes, status: int, message: str) -> None:
    answer = infer(app, inputs, rest)
    error = answer.json()["error"]
    assert answer.status_code == status and message in error and "\n" not in error


def test_rubbish_is_refused(app: Any) -> None:
    path = "/v2/models/embedded/infer"
    assert ask(app, path, b"{").status_code == 400
    for length in ("3", "-1", "0" * 5000):
        assert ask(app, path, b"{}", {"Inference-Header-Content-Length": length}).status_code == 400
    assert ask(app, path, b"{}", {"Content-Encoding": "gzip"}).status_code == 415
    unknown = infer(app, [picture(), texts()], outputs=[{"name": "mask"}])
    assert "outputs must be among similarity, points, scores, got 'mask'" in unknown.json()["error"]


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        yield f"localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_triton_s_client_calls_it() -> None:
    triton = pytest.importorskip("tritonclient.http")
    expected = Localizer()(SCENE, TEXTS)
    with served(application(Localizer())) as address, contextlib.closing(triton.InferenceServerClient(address)) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("embedded")
        assert client.get_model_metadata("embedded")["platform"] == "fastloc"
        inputs = []
        for name, values in (("image", [SCENE]), ("texts", [text.encode() for text in TEXTS])):
            inputs.append(triton.InferInput(name, [len(values)], "BYTES"))
            inputs[-1].set_data_from_numpy(np.array(values, object), binary_data=True)
        for binary in (True, False):
            outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("points", "similarity", "scores")]
            answer = client.infer("embedded", inputs, outputs=outputs, request_id="a")
            check({name: answer.as_numpy(name) for name in ("points", "similarity", "scores")}, expected)
            assert answer.get_response()["id"] == "a"


def test_a_model_s_name_may_hold_slashes(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Service, "name", "hf:owner/name")
    for version in ("", "/versions/1"):
        assert ask(app, f"/v2/models/hf:owner/name{version}").json()["name"] == "hf:owner/name"
        assert ask(app, f"/v2/models/hf:owner/name{version}/ready").json() == {"name": "hf:owner/name", "ready": True}
        asked = json.dumps({"inputs": [picture(), texts()]}).encode()
        assert arrays(ask(app, f"/v2/models/hf:owner/name{version}/infer", asked))["points"].shape == (1, 2, 4)
    assert ask(app, "/v2/models/owner/name/ready").status_code == 404
