"""The service's answers beside the localizer's own, and what it answers to requests that cannot be."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx2")

import httpx2
from PIL import Image
from starlette.applications import Starlette

from fastloc import Localizer
from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocError
from fastloc.imaging.reduced_picture import DECODES
from fastloc.results.wire import Located
from fastloc.serve.app import application
from fastloc.serve.guard import guarded
from fastloc.serve.settings import Settings
from fastloc.utils.schema import decode
from fastloc.web_server.security import rules

TEXTS = (["cat"], ["pizza", "red car"], ["red car", "cat", "cat"], ["star", "house", "pizza"])
SIZES = ((96, 96), (60, 90), (128, 96))
MARKET = (SAMPLES / "market.webp").read_bytes()


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer("embedded")


def png(size: tuple[int, int], seed: int) -> bytes:
    """A piece of the market, so that pictures differ."""
    picture = Image.open(io.BytesIO(MARKET)).convert("RGB")
    left, top = (37 * seed) % 200, (53 * seed) % 150
    file = io.BytesIO()
    picture.crop((left, top, left + size[1], top + size[0])).save(file, "PNG")
    return file.getvalue()


def client(app: Any) -> Any:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:8020", timeout=60)


def called(app: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """The responses to POSTs, one after the other."""

    async def run() -> list[Any]:
        async with client(app) as http:
            return [await http.post(path, **parts) for path, parts in calls]

    return asyncio.run(run())


def as_form(picture: bytes, texts: list[str], **more: str) -> dict[str, Any]:
    return {"files": {"image": ("picture", picture)}, "data": {"texts": texts, **more}}


def as_json(picture: bytes, texts: list[str], **more: Any) -> dict[str, Any]:
    return {"json": {"image": base64.b64encode(picture).decode(), "texts": texts, **more}}


def check(localizer: Localizer, response: Any, picture: bytes, texts: list[str]) -> None:
    assert response.status_code == 200, response.text
    mine = localizer(picture, texts)
    (found,) = response.json()["results"]
    theirs = decode(json.dumps(found), Located, "answer").result(mine.picture)
    assert theirs.texts == mine.texts
    # batches add in another order
    np.testing.assert_allclose(theirs.similarity, mine.similarity, atol=2e-5)
    assert mine.scores is not None and theirs.scores is not None
    np.testing.assert_allclose(theirs.scores, mine.scores, atol=1e-3)
    assert theirs.geometry == mine.geometry and theirs.method == mine.method


@pytest.mark.parametrize("body", [as_form, as_json])
def test_answers_are_the_localizers_own(localizer: Localizer, body: Any) -> None:
    picture, texts = png((120, 90), 3), ["cat", "pizza"]
    full_body = body(picture, texts, similarity="true" if body is as_form else True)
    plain, full = called(application(localizer), ("/v1/locate", body(picture, texts)), ("/v1/locate", full_body))
    assert plain.json()["results"] == [localizer(picture, texts).to_dict()]
    check(localizer, full, picture, texts)


def test_several_pictures_come_back_in_order_and_texts_may_be_a_json_list(localizer: Localizer) -> None:
    pictures = [png((60 + 8 * index, 90), index) for index in range(3)]
    files = [("image", (str(index), picture)) for index, picture in enumerate(pictures)]
    (response,) = called(application(localizer), ("/v1/locate", {"files": files, "data": {"texts": '["cat", "[pizza"]'}}))
    assert [each["picture"]["height"] for each in response.json()["results"]] == [60, 68, 76]
    assert [each["text"] for each in response.json()["results"][0]["texts"]] == ["cat", "[pizza"]


@pytest.mark.slow("48 pictures by each of two methods")
@pytest.mark.parametrize("method", ["gem", "clip_surgery"])
def test_sixteen_clients_with_mixed_pictures_and_texts_get_their_own_answers(method: str) -> None:
    """Texts of one batch are computed together where they do not depend on each other, and clip_surgery's do."""
    localizer = Localizer("embedded", method=method)
    app = application(localizer, Settings(wait=0.02))

    async def ask(http: Any, seed: int) -> None:
        for turn in range(3):
            picture, texts = png(SIZES[(seed + turn) % 3], seed * 3 + turn), TEXTS[(seed + turn) % 4]
            response = await http.post("/v1/locate", **as_form(picture, texts, similarity="true"))
            await asyncio.to_thread(check, localizer, response, picture, texts)

    async def run() -> str:
        async with client(app) as http:
            await asyncio.gather(*(ask(http, seed) for seed in range(16)))
            return str((await http.get("/metrics")).text)

    lines = dict(line.rsplit(" ", 1) for line in asyncio.run(run()).splitlines() if not line.startswith("#"))
    assert float(lines["fastloc_batch_pictures_sum"]) == 48 > float(lines["fastloc_batch_pictures_count"])
    assert lines['fastloc_requests_total{path="/v1/locate",status="200"}'] == "48.0"
    assert lines["fastloc_queue_pictures"] == "0.0"


def test_pictures_with_different_texts_share_a_batch(localizer: Localizer) -> None:
    app = application(localizer, Settings(wait=0.5, batch=4))
    calls = [(png((96, 96), seed), texts) for seed, texts in enumerate(TEXTS)]

    async def run() -> str:
        async with client(app) as http:
            parts = [as_form(picture, texts, similarity="true") for picture, texts in calls]
            answers = await asyncio.gather(*(http.post("/v1/locate", **each) for each in parts))
            for answer, (picture, texts) in zip(answers, calls, strict=True):
                check(localizer, answer, picture, texts)
            return str((await http.get("/metrics")).text)

    assert "fastloc_batch_pictures_count 1.0" in asyncio.run(run())


GOOD = base64.b64encode(png((32, 32), 0)).decode()
RUBBISH: list[tuple[dict[str, Any], int, str]] = [
    ({"content": b"\xff\xd8"}, 415, "must be application/json or multipart"),
    ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "must be JSON"),
    ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, 400, "no multipart form"),
    ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "must be JSON"),
    ({"json": {"texts": ["cat"], "image": "!"}}, 400, "base64"),
    ({"json": {"texts": ["cat"], "image": GOOD, "threshold": 7}}, 400, "threshold must be"),
    ({"json": {"texts": ["cat"], "image": GOOD[: len(GOOD) // 8 * 4]}}, 422, "image"),
    ({"json": {"texts": [], "image": GOOD}}, 422, "1 to 4 texts"),
    ({"json": {"texts": [" "], "image": GOOD}}, 422, "must not be empty"),
    ({"json": {"texts": ["a\u0007"], "image": GOOD}}, 422, "letters and signs"),
    ({"json": {"texts": ["a"] * 5, "image": GOOD}}, 413, "1 to 4 texts"),
    ({"json": {"texts": ["a" * 501], "image": GOOD}}, 413, "at most 500 letters"),
    ({"json": {"texts": ["cat"], "images": [GOOD] * 17}}, 413, "1 to 16 pictures"),
    ({"json": {"texts": ["cat"]}}, 422, "1 to 16 pictures, got 0"),
    ({"json": {"texts": ["cat"], "image": base64.b64encode(png((120, 120), 0)).decode()}}, 422, "14,400"),
    ({"json": {"texts": ["cat", "dog"], "image": base64.b64encode(png((70, 70), 0)).decode()}}, 413, "pixels times texts"),
    ({"json": {"texts": ["cat"], "image": GOOD, "method": "gmm"}}, 422, "unknown method 'gmm'"),
    ({"json": {"texts": ["cat"], "image": {"url": "http://127.0.0.1:1/"}}}, 403, "fetches no addresses"),
    ({"content": b"x" * 100_001, "headers": {"content-type": "application/json"}}, 413, "at most 100,000 bytes"),
    ({"json": {"texts": ["cat"], "image": GOOD, "score": "NaN"}}, 400, "score"),
]


def test_rubbish_is_reported_in_a_line_and_disturbs_nobody(localizer: Localizer) -> None:
    app = application(localizer, Settings(texts=4, size=100_000, pixels=10_000, cells=8_000))
    answers = called(app, *(("/v1/locate", parts) for parts, _, _ in RUBBISH), ("/v1/locate", {"json": {"texts": ["cat"], "image": GOOD}}))
    for answer, (_, status, words) in zip(answers, RUBBISH, strict=False):
        message = answer.json().get("error", "")
        assert (answer.status_code, words in message) == (status, True), (words, answer.text[:300])
        assert "\n" not in answer.json()["error"]
    assert answers[-1].status_code == 200 and not app.state.service.busy


def test_large_files_are_decoded_at_a_reduced_scale_where_the_settings_say_so(localizer: Localizer) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(MARKET)).convert("RGB").resize((1600, 1000)).save(file, "JPEG")
    body = {"json": {"texts": ["cat"], "image": base64.b64encode(file.getvalue()).decode()}}
    for scale in DECODES:
        (answer,) = called(application(localizer, Settings(decode=scale)), ("/v1/locate", body))
        expected = localizer(file.getvalue(), ["cat"], decode=scale).to_dict()["texts"][0]["peak"]
        (found,) = answer.json()["results"]
        assert found["texts"][0]["peak"] == pytest.approx(expected, abs=1e-5), scale
    with pytest.raises(FastlocError, match="decode 'half'"):
        Settings(decode="half")


def test_an_address_is_no_file_of_the_services_machine(localizer: Localizer) -> None:
    body = {"json": {"texts": ["cat"], "image": {"url": str(SAMPLES / "market.webp")}}}
    (answer,) = called(application(localizer, Settings(addresses=True)), ("/v1/locate", body))
    assert answer.status_code == 422 and "http(s) address" in answer.json()["error"]


class Held:
    """A localizer's `locate` that waits until it is let go on."""

    def __init__(self, localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on, self.pictures = threading.Event(), threading.Event(), 0
        locate = localizer.locate

        def held(images: Any, texts: Any, names: Any) -> Any:
            self.begun.set()
            assert self.go_on.wait(30)
            self.pictures += len(images)
            return locate(images, texts, names)

        monkeypatch.setattr(localizer, "locate", held)


@pytest.fixture
def held(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(localizer, monkeypatch)


def body(seed: int = 0) -> dict[str, Any]:
    return as_form(png((96, 96), seed), ["cat"])


def test_a_full_queue_is_429_with_the_time_to_come_again(localizer: Localizer, held: Held) -> None:
    app = application(localizer, Settings(queue=2, batch=1))

    async def run() -> tuple[list[int], Any]:
        async with client(app) as http:
            under_way = [asyncio.create_task(http.post("/v1/locate", **body(seed))) for seed in range(2)]
            while app.state.service.inside < 2:
                await asyncio.sleep(0.01)
            refused = await http.post("/v1/locate", **body())
            held.go_on.set()
            return [(await each).status_code for each in under_way], refused

    answered, refused = asyncio.run(run())
    assert answered == [200, 200] and refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1 and "2 pictures wait" in refused.json()["error"]


def test_an_answer_that_takes_too_long_is_504_and_its_picture_is_not_computed(localizer: Localizer, held: Held) -> None:
    app = application(localizer, Settings(batch=1, seconds=0.3))

    async def run() -> list[int]:
        async with client(app) as http:
            found = await asyncio.gather(*(http.post("/v1/locate", **body(seed)) for seed in range(3)))
            held.go_on.set()
            app.state.service.close()
            return [each.status_code for each in found]

    assert asyncio.run(run()) == [504] * 3
    # the one that was being computed
    assert held.pictures <= 1 and not app.state.service.busy


def test_a_client_that_goes_takes_its_picture_along(localizer: Localizer, held: Held) -> None:
    app = application(localizer, Settings(batch=1))

    async def run() -> int:
        async with client(app) as http:
            first = asyncio.create_task(http.post("/v1/locate", **body(0)))
            await asyncio.to_thread(held.begun.wait, 30)
            goes = asyncio.create_task(http.post("/v1/locate", **body(1)))
            while app.state.service.inside < 2:
                await asyncio.sleep(0.01)
            goes.cancel()
            await asyncio.wait([goes])
            held.go_on.set()
            answers = [await first, await http.post("/v1/locate", **body(2))]
            return sum(each.status_code == 200 for each in answers)

    assert asyncio.run(run()) == 2 and held.pictures == 2


def test_a_slow_body_is_408(localizer: Localizer) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    app = application(localizer, Settings(body=0.1))
    (answer,) = called(app, ("/v1/locate", {"content": slow(), "headers": {"content-type": "application/json"}}))
    assert answer.status_code == 408 and "within 0.1 s" in answer.json()["error"]


def test_a_picture_that_spoils_its_batch_spoils_no_other(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    locate = localizer.locate

    def fussy(images: Any, texts: Any, names: Any) -> Any:
        if any(image.size == (90, 90) for image in images):
            raise RuntimeError("no such picture")
        return locate(images, texts, names)

    monkeypatch.setattr(localizer, "locate", fussy)
    app = application(localizer, Settings(wait=0.2))

    async def run() -> list[int]:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            parts = [as_form(png(size, 1), ["cat"]) for size in ((96, 96), (90, 90), (96, 96))]
            return [each.status_code for each in await asyncio.gather(*(http.post("/v1/locate", **each) for each in parts))]

    assert asyncio.run(run()) == [200, 500, 200]


def got(app: Any, path: str, **headers: str) -> Any:
    async def run() -> Any:
        async with client(app) as http:
            return await http.get(path, headers=headers)

    return asyncio.run(run())


def test_heatmaps_are_pictures(localizer: Localizer) -> None:
    picture = png((60, 90), 1)
    grey, sheet, two = called(
        application(localizer), ("/v1/heatmap", as_form(picture, ["cat"])), ("/v1/heatmap?overlay=1", as_json(picture, ["cat"])),
        ("/v1/heatmap", as_form(picture, ["cat", "pizza"])),
    )  # fmt: skip
    heat = np.asarray(Image.open(io.BytesIO(grey.content)))
    np.testing.assert_array_equal(heat, localizer(picture, ["cat"]).heatmap_array("uint8")[0])
    assert Image.open(io.BytesIO(sheet.content)).mode == "RGB" and two.status_code == 422


def test_the_description_names_every_path(localizer: Localizer) -> None:
    app: Starlette = application(localizer)
    described = got(app, "/openapi.json").json()
    own = {route.path for route in app.routes if getattr(route, "path", "").startswith("/v1")}
    assert own <= set(described["paths"]) and described["components"]["schemas"]["Ask"]["required"] == ["texts"]
    page = got(app, "/docs").text
    assert all(path in page for path in own) and "<script" not in page and "src=" not in page


def test_a_token_is_asked_for_but_not_by_probes(localizer: Localizer) -> None:
    app = guarded(application(localizer), rules("127.0.0.1", 8020, "correct horse battery", program="fastloc_serve"))
    assert [got(app, path).status_code for path in ("/healthz", "/readyz", "/v1/models", "/metrics")] == [200, 200, 401, 401]
    models = got(app, "/v1/models", Authorization="Bearer correct horse battery").json()
    assert models == {"models": [{"name": "embedded", "method": "gem"}]}
    assert "error" in got(app, "/v1/models", Authorization="Bearer wrong horse battery").json()
    assert got(app, "/healthz", Host="example.com").status_code == 403


def test_another_sites_page_may_not_post(localizer: Localizer) -> None:
    app = guarded(application(localizer), rules("127.0.0.1", 8020))
    theirs, ours = called(
        app, *(("/v1/locate", {**body(), "headers": {"origin": origin}}) for origin in ("http://example.com", "http://127.0.0.1:8020"))
    )  # fmt: skip
    assert (theirs.status_code, ours.status_code) == (403, 200)


def test_other_methods_are_offered_by_name(localizer: Localizer) -> None:
    app = application(localizer, Settings(methods=("clearclip",)))
    picture = png((96, 96), 2)
    (answer,) = called(app, ("/v1/locate", as_form(picture, ["cat"], method="clearclip")))
    assert answer.json()["results"] == [localizer.with_method("clearclip")(picture, ["cat"]).to_dict()]


def test_a_self_check_is_counted_in_the_metrics() -> None:
    made = Localizer("embedded", size=96, self_check=1.0)
    app = application(made, Settings(methods=("clearclip",)))
    called(app, ("/v1/locate", as_form(MARKET, ["cat"])), ("/v1/locate", as_form(MARKET, ["cat"], method="clearclip")))
    lines = got(app, "/metrics").text.splitlines()
    counts = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("fastloc_self_checks_total")}
    # one each beside those of other calls; what has not happened is there too, as 0
    assert counts == {
        f'fastloc_self_checks_total{{method="{name}",result="{result}"}}': count
        for name in ("gem", "clearclip") for result, count in (("equal", 1.0), ("different", 0.0))
    }  # fmt: skip
