"""The service's page: its files, and in headless Chromium what a person sees of an answer."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Mount

from browser import NO_GPU, REQUIRED, Page, chromium, without_browser
from fastloc import Localizer, Result
from fastloc.embedded import SAMPLES
from fastloc.imaging.geometry import fit
from fastloc.results.wire import to_wire
from fastloc.serve.page import FILES, routes
from service import serving

MARKET = SAMPLES / "market.webp"
browsed = pytest.mark.slow("a real browser")


def fetched(path: str) -> httpx2.Response:
    async def got() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=Starlette(routes=[Mount("/below", routes=routes()), *routes()]))
        async with httpx2.AsyncClient(transport=transport, base_url="http://service.test") as client:
            return await client.get(path)

    return asyncio.run(got())


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_served_as_what_it_is(path: str) -> None:
    response = fetched(path)
    kind = {"js": "text/javascript", "css": "text/css"}.get(path.rpartition(".")[2], "text/html")
    assert response.status_code == 200 and response.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert response.content == fetched(f"/below{path}").content == FILES[path].read_bytes()


def test_the_page_needs_nothing_from_elsewhere() -> None:
    for path, file in FILES.items():
        content = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.", content), path
        needed = re.findall(r'(?:from |src=|stylesheet" href=)"(?:\./)?([^"]+)"', content)
        assert all(f"/{each}" in FILES for each in needed), needed


def test_the_colours_are_256() -> None:
    facts = fetched("/page.json").json()
    assert len(bytes.fromhex(facts["colours"])) == 3 * 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := without_browser():
        pytest.fail(why) if REQUIRED else pytest.skip(why)
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def page(folder: Path, localizer: Localizer) -> Iterator[Page]:
    token = "correct-horse-battery"
    with serving(localizer, token, methods=("sclip",)) as address, chromium(folder / "profile", *NO_GPU) as driver:
        # a cookie in exchange for the token
        driver.get(f"{address}/?token={token}")
        yield Page(driver, address)


def ask(page: Page, words: str, file: Path) -> dict[str, Any]:
    """Load the page, type words, choose a file, and return the result that is shown."""
    assert page.open() == "ready"
    page.element("texts").send_keys(words)
    page.element("file").send_keys(str(file))
    found: dict[str, Any] = page.wait("return document.documentElement.dataset.state === 'ready' && window.fastloc.last()")
    return found


@browsed
def test_words_in_a_picture(page: Page, localizer: Localizer) -> None:
    found = ask(page, "red car, pizza, red car", MARKET)
    expected = localizer(MARKET, ["red car", "pizza"])
    assert [(each["text"], each["peak"]["x"], each["peak"]["y"]) for each in found["texts"]] == [
        (point.text, point.x, point.y) for point in expected.points()
    ]
    for name, (x, y) in page.shown(["red car", "pizza"]).items():
        point = expected.points()[expected.texts.index(name)]
        assert (x, y) == pytest.approx(((point.x + 0.5) / expected.picture.width, (point.y + 0.5) / expected.picture.height))
    boxes = page.evaluate("[...document.querySelectorAll('figure')].map((each) => each.querySelectorAll('.box').length)")
    assert boxes == [len([box for box in expected.boxes() if box.text == text]) for text in expected.texts]
    assert "present" in page.evaluate("document.querySelector('.facts').textContent")
    # another method is another answer
    choose(page, "method", "sclip")
    assert page.wait("return window.fastloc.last()?.method === 'sclip'")
    choose(page, "threshold", "95")
    page.wait("return window.fastloc.last()?.threshold === 0.95")
    # the page that sets the cookie has no icon
    assert [line for line in page.complaints() if "favicon" not in line] == []


def choose(page: Page, name: str, value: str) -> None:
    page.evaluate(
        """{
            const box = document.getElementById(arguments[0]);
            box.value = arguments[1];
            box.dispatchEvent(new Event(box.type === "range" ? "input" : "change"));
        }""",
        name,
        value,
    )


@browsed
def test_what_is_wrong_is_reported(page: Page, tmp_path: Path) -> None:
    page.open()
    page.element("find").click()
    page.wait("return document.getElementById('error').children.length === 2")
    rubbish = tmp_path / "notes.txt"
    rubbish.write_text("no picture", encoding="utf-8")
    page.element("file").send_keys(str(rubbish))
    page.wait("return document.getElementById('error').textContent.startsWith('notes.txt is not a picture')")
    page.element("file").send_keys(str(MARKET))
    page.element("texts").send_keys("cat" * 300, "\ue007")
    refusal = "The service answers 413: a text must have at most 500 letters"
    page.wait(f"return document.getElementById('error').textContent.includes('{refusal}')")
    assert "<" not in page.text("error")


@browsed
def test_a_dropped_picture(page: Page) -> None:
    page.open()
    page.element("texts").send_keys("cat")
    page.evaluate(
        """{
            const data = new DataTransfer();
            const canvas = Object.assign(document.createElement("canvas"), { width: 60, height: 40 });
            const blob = await new Promise((done) => canvas.toBlob(done));
            data.items.add(new File([blob], "drawn.png", { type: "image/png" }));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
        }"""
    )
    found = page.wait("return document.documentElement.dataset.state === 'ready' && window.fastloc.last()")
    assert found["picture"] == {"height": 40, "width": 60}
    assert page.text("name") == "drawn.png"


@browsed
@pytest.mark.parametrize("name", ["stretch", "aspect", "crop", "letterbox"])
@pytest.mark.parametrize(
    ("order", "reverse"), [("grid", True), ("picture", False), ("softmax", False), ("softmax-input", False), ("none", False)]
)
@pytest.mark.parametrize("size", [(61, 90), (120, 47)])
def test_heat_is_that_of_the_library(page: Page, name: str, order: str, reverse: bool, size: tuple[int, int]) -> None:
    if page.url not in page.driver.current_url:
        page.open()
    geometry = fit(size, 48, 8, name)
    grid = np.random.default_rng(0).standard_normal((3, *geometry.grid(8))).astype(np.float32)
    result = Result(
        picture=Image.new("RGB", size[::-1]), texts=("a", "b", "c"), similarity=grid, geometry=geometry, order=order, logit_scale=2.0,
        reverse=reverse,
    )  # fmt: skip
    found = page.evaluate("window.fastloc.spread(arguments[0], arguments[1]).map((map) => [...map])", to_wire(result), list(size))
    expected = result.heatmaps
    if order == "none":
        rows, columns = geometry.covered()
        expected = np.zeros_like(expected)
        low, high = (getattr(result.heatmaps[:, rows, columns], end)((1, 2), keepdims=True) for end in ("min", "max"))
        expected[:, rows, columns] = (result.heatmaps[:, rows, columns] - low) / (high - low)
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=0, atol=2e-5)
