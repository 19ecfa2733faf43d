"""The clients against a service that answers as it is asked to: results rebuilt, refusals in one line, retries."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from fastloc import AsyncClient, Client, Result
from fastloc.client import calls
from fastloc.errors import FastlocError, ImageError, ServiceError, TextError
from fastloc.imaging.geometry import fit
from fastloc.results.wire import FORMAT, to_wire
from same_results import same

ADDRESS = "http://service.test:8080"
TEXTS = ("cat", "red car")
HEIGHT, WIDTH = 37, 52


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def result(**fields: Any) -> Result:
    """A result with every field set that a service may set."""
    similarity = np.random.default_rng(1).standard_normal((2, 4, 6)).astype(np.float32)
    geometry = fit((HEIGHT, WIDTH), (32, 48), 8, fields.pop("fit", "stretch"))
    usual = {
        "picture": picture(), "texts": TEXTS, "similarity": similarity, "geometry": geometry, "order": "grid", "logit_scale": 1 / 3,
        "reverse": True, "method": "gem", "model": "small", "scores": np.float32([0.1, 0.7]), "image_scores": np.float32([-0.3, 1 / 7]),
        "limits": np.float32([[0, 1 / 3], [0.1, 2]]),
    }  # fmt: skip
    return Result(**usual | fields)


def answer(*results: Result, **changes: Any) -> httpx2.Response:
    whole = {"format": FORMAT, "model": "small", "method": "gem", "results": [to_wire(each) for each in results]}
    return httpx2.Response(200, json=whole | changes)


def client(respond: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> Client:
    return Client(ADDRESS, transport=httpx2.MockTransport(respond), **options)


def parts(request: httpx2.Request) -> dict[str, bytes]:
    """The fields of a multipart request."""
    boundary = request.headers["Content-Type"].partition("boundary=")[2].encode()
    found = {}
    for part in request.read().split(b"--" + boundary)[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        found[head.partition(b'name="')[2].partition(b'"')[0].decode()] = body.removesuffix(b"\r\n")
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"fit": "crop", "order": "picture"},
        {"fit": "letterbox", "order": "softmax", "limits": None, "reverse": False},
        {"scores": None, "image_scores": None, "no_scores": "it has no text tower", "logit_scale": None, "reverse": False},
    ],
)
def test_every_field_comes_back(fields: dict[str, Any]) -> None:
    expected = result(**fields)
    found = client(lambda request: answer(expected))(expected.picture, TEXTS)
    same(found, expected)
    assert found.points() == expected.points() and found.boxes() == expected.boxes()


def test_a_file_is_sent_as_it_is_and_pixels_without_loss(tmp_path: Path) -> None:
    file = tmp_path / "picture.jpg"
    picture().save(file, quality=80)
    seen: list[dict[str, bytes]] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        seen.append(parts(request))
        return answer(result())

    ask = client(respond)
    assert ask(file, TEXTS).name == str(file)
    ask(file.read_bytes(), "cat", "clearclip")
    with file.open("rb") as opened:
        ask(opened, ["[a, b]"])
    ask(np.asarray(picture()), TEXTS)
    turned = ask(np.asarray(picture())[..., ::-1], TEXTS, bgr=True)
    assert np.array_equal(np.asarray(turned.picture), np.asarray(picture())) and seen.pop()["image"] == seen[3]["image"]
    assert [each["image"] for each in seen[:3]] == [file.read_bytes()] * 3
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(seen[3]["image"]))), np.asarray(picture()))
    assert [json.loads(each["texts"]) for each in seen] == [["cat", "red car"], ["cat"], ["[a, b]"], ["cat", "red car"]]
    assert [each.get("method") for each in seen] == [None, b"clearclip", None, None]
    assert {each["similarity"] for each in seen} == {b"true"}


def test_several_pictures_keep_their_order_and_one_error_ends_them() -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        sent = Image.open(io.BytesIO(parts(request)["image"]))
        return answer(result(picture=sent, texts=(str(sent.getpixel((0, 0))), "x")))

    several = [picture(seed) for seed in range(20)]
    expected = [str(each.getpixel((0, 0))) for each in several]
    assert [each.texts[0] for each in client(respond)(several, TEXTS)] == expected

    async def awaited() -> list[Result]:
        async with AsyncClient(ADDRESS, transport=httpx2.MockTransport(respond)) as ask:
            return await ask(several, TEXTS)

    assert [each.texts[0] for each in asyncio.run(awaited())] == expected
    with pytest.raises(ImageError, match="no_such_file"):
        client(respond)([*several, "no_such_file.png"], TEXTS)


@pytest.mark.parametrize(
    ("status", "content", "line"),
    [
        (401, {"error": "the token is not right"}, "v1/locate answers 401: the token is not right; give the token that"),
        (413, {"error": "a picture must have at most 10 pixels"}, "answers 413: a picture must have at most 10 pixels; send"),
        (500, "<html>\nProxy\n</html>", "answers 500: Internal Server Error"),
        (302, "", "answers 302: Found"),
        (422, {"error": "two\nlines\x1b[31m"}, "answers 422: two"),
        (200, "<html>", "must answer as a fastloc service does"),
        (200, {"results": []}, "must answer in format 1, got None of fastloc ''; install the same fastloc here and there"),
        (200, {"format": 2, "fastloc": "9.0", "results": "new"}, "must answer in format 1, got 2 of fastloc '9.0'; install the same"),
        (200, {"format": FORMAT, "results": []}, "must answer with one result a picture, got 0"),
        (200, {"format": FORMAT, "results": [{"model": 3}]}, "results[0]"),
    ],
)  # fmt: skip
def test_refusals_and_strange_answers_are_one_line(status: int, content: Any, line: str) -> None:
    response = httpx2.Response(status, **({"text": content} if isinstance(content, str) else {"json": content}))
    with pytest.raises(ServiceError) as raised:
        client(lambda request: response)(picture(), TEXTS)
    message = str(raised.value)
    assert line in message and "\n" not in message and "\x1b" not in message


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("similarity", "shape"), [2, 4, 7]), (("similarity", "shape"), [2, -4, -6]), (("similarity", "data"), "AAAA"),
        (("similarity", "dtype"), "<f8"), (("geometry", "input"), [0, 48]), (("geometry", "picture"), [HEIGHT, WIDTH + 1]),
        (("readout", "order"), "sorted"), (("texts",), []), (("limits",), [[0, 1]]),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_together(place: tuple[str, ...], value: Any) -> None:
    wire = to_wire(result())
    inner = wire
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(ServiceError) as raised:
        client(lambda request: answer(results=[wire]))(picture(), TEXTS)
    assert "\n" not in str(raised.value)


def test_a_full_service_is_asked_again_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    refusals = [httpx2.Response(429, headers={"Retry-After": "2"}, json={"error": "the queue is full"}) for _ in range(9)]
    responses = [*refusals[:3], answer(result())]
    assert client(lambda request: responses.pop(0))(picture(), TEXTS).texts == TEXTS
    assert len(waits) == 3 and all(2 <= each <= 3 for each in waits)
    with pytest.raises(ServiceError, match="answers 429: the queue is full; ask again later"):
        client(lambda request: refusals.pop(0), retries=4)(picture(), TEXTS)
    assert len(waits) == 7
    # a refusal that names no time is the last word
    with pytest.raises(ServiceError, match="503"):
        client(lambda request: httpx2.Response(503))(picture(), TEXTS)
    assert len(waits) == 7


def test_the_awaited_client_asks_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LONGEST_WAIT", 0.001)
    responses = [httpx2.Response(429, headers={"Retry-After": "9"}), answer(result())]

    async def asked() -> Result:
        async with AsyncClient(ADDRESS, transport=httpx2.MockTransport(lambda request: responses.pop(0))) as ask:
            return await ask(picture(), TEXTS)

    same(asyncio.run(asked()), result())


def test_a_service_that_is_not_there() -> None:
    # nothing listens on the port of "discard" here
    with Client("http://name:password@127.0.0.1:9") as ask:
        with pytest.raises(ServiceError, match=r"http://127.0.0.1:9 cannot be reached \(.*\); start a service there") as raised:
            ask(picture(), TEXTS)
        assert "\n" not in str(raised.value)
        assert not ask.ready()


def test_a_service_that_is_silent() -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("")

    with pytest.raises(ServiceError, match="did not answer in time; give a longer timeout"):
        client(respond)(picture(), TEXTS)


def test_the_token_models_and_ready() -> None:
    seen = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.url.path, request.headers["Authorization"]))
        return httpx2.Response(200, json={"models": [{"name": "embedded", "method": "gem", "more": 1}]})

    with client(respond, token="secret-secret") as ask:
        assert ask.models() == [calls.ServedModel("embedded", "gem")]
        assert ask.ready()
    assert seen == [("/v1/models", "Bearer secret-secret"), ("/readyz", "Bearer secret-secret")]


@pytest.mark.parametrize(
    ("address", "token", "options"),
    [
        ("localhost:8080", "", {}), ("ftp://host", "", {}), ("", "", {}), ("http://[::1", "", {}), ("http://", "", {}),
        (ADDRESS, "a\nb", {}), (ADDRESS, "ü", {}), (ADDRESS, "", {"timeout": 0}), (ADDRESS, "", {"timeout": float("nan")}),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(address: str, token: str, options: dict[str, Any]) -> None:
    with pytest.raises(FastlocError) as raised:
        Client(address, token, **options)
    assert "\n" not in str(raised.value) and (not token or token not in str(raised.value))


def test_bad_texts_and_pictures_are_refused_before_anything_is_sent() -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError("something was sent")

    ask = client(respond)
    for texts in ([], [""], [3]):
        with pytest.raises(TextError):
            ask(picture(), texts)
    with pytest.raises(ImageError):
        ask(b"no picture", TEXTS)
