"""The live page in headless Chromium, with a film of known places as its camera: what people see, and what is left when they are gone."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moving
from browser import NO_GPU, REQUIRED, Page, chromium, without_browser
from live_server import serving, until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")
pytest.importorskip("av")
pytest.importorskip("torch")

from websockets.sync.client import connect

from fastloc import Localizer
from fastloc.live.app import Live
from fastloc.live.broadcast import Broadcast
from fastloc.live.limits import Limits
from fastloc.video.sources.open_source import open_source

pytestmark = pytest.mark.slow("a real browser")

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
TEXTS = ("red car", "pizza")
# where the still thing is
STILL = 0.5, 0.22


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if without_browser() and REQUIRED:
        pytest.fail(without_browser())
    if without_browser():
        pytest.skip(without_browser())
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def served(folder: Path, localizer: Localizer) -> Iterator[tuple[Live, str]]:
    with serving(localizer, TEXTS) as both:
        yield both


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Any]:
    film = moving.mjpeg(folder / "camera.mjpeg")
    with chromium(folder / "profile", *NO_GPU, *CAMERA, f"--use-file-for-fake-video-capture={film}") as driver:
        yield driver


class LivePage(Page):
    """The live page in a browser."""

    def open(self, query: str = "") -> str:
        self.driver.get(f"{self.url}/{query}")
        self.wait("return document.getElementById('link').textContent === 'Connected'")
        return "ready"

    def start(self) -> None:
        self.element("start").click()
        self.wait("return document.documentElement.dataset.state === 'running'")

    def last(self) -> dict[str, Any]:
        """The facts of the answer that is shown."""
        found: dict[str, Any] = self.driver.execute_script("return window.fastloc.last()")
        return found

    def until(self, so: str) -> dict[str, Any]:
        """The facts of the first answer for which an expression in `facts` holds."""
        self.wait(f"const facts = window.fastloc.last(); return Boolean(facts && ({so}))")
        return self.last()

    def choose(self, name: str, value: str) -> None:
        script = "const box = document.getElementById(arguments[0]); box.value = arguments[1]; box.dispatchEvent(new Event('change'))"
        self.driver.execute_script(script, name, value)

    def ask(self, texts: str) -> None:
        line = self.element("texts")
        line.clear()
        line.send_keys(texts, "\ue007")


@pytest.fixture
def page(browser: Any, served: tuple[Live, str]) -> LivePage:
    """The page with its camera running; loaded anew only where a test went elsewhere or changed something."""
    page = LivePage(browser, served[1])
    if not browser.current_url.startswith(page.url) or not browser.execute_script(
        "return document.documentElement.dataset.state === 'running' && window.fastloc.last()?.revision === 0"
    ):
        page.open()
        page.start()
    return page


def threads() -> list[str]:
    """Ours, and not those that asyncio keeps for files."""
    return sorted(each.name for each in threading.enumerate() if "fastloc" in each.name)


def heat_of(page: LivePage, text: int, method: int = 0) -> Any:
    found = page.driver.execute_script("return window.fastloc.heat(arguments[0], arguments[1])", method, text)
    return np.asarray(found["values"], np.float32).reshape(found["rows"], found["columns"])


# where the moving thing is on the very picture that is shown, by its colour, beside the peak of the answer it is shown with
FOLLOW = """{
    const [count] = arguments;
    const canvas = document.querySelector("#views canvas");
    const look = (id, value) => { document.getElementById(id)[typeof value === "boolean" ? "checked" : "value"] = value; };
    look("opacity", 0); look("rings", false); look("labels", false);
    document.getElementById("opacity").dispatchEvent(new Event("input"));
    const found = [];
    let before = -1;
    while (found.length < count) {
        await new Promise((done) => setTimeout(done, 20));
        const facts = window.fastloc.last();
        if (facts.id < before + 3) continue;
        before = facts.id;
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let [n, sum] = [0, 0];
        for (let i = 4 * canvas.width * Math.floor(0.47 * canvas.height); i < data.length; i += 16) {
            if (data[i] - data[i + 1] > 60) { n += 1; sum += (i / 4) % canvas.width; }
        }
        found.push([facts.id, facts.peaks[0][0][0], n ? (sum / n + 0.5) / canvas.width : -1, heat()]);
    }
    look("opacity", 70); look("rings", true); look("labels", true);
    document.getElementById("opacity").dispatchEvent(new Event("input"));
    return found;
    function heat() { return window.fastloc.heat(0, 0).values.reduce((sum, value, i) => (sum * 31 + value * (i + 1)) % 1000003, 0); }
}"""


def test_the_page_waits_and_says_for_what(browser: Any, served: tuple[Live, str]) -> None:
    page = LivePage(browser, served[1])
    page.open()
    assert "Show this page something" in page.text("invitation") and page.element("start").is_displayed()
    assert page.text("error") == "" and not page.element("save").is_enabled()
    assert "fastloc" in page.text("about")


def test_heat_follows_what_moves_on_the_very_frame_it_was_made_of(page: LivePage) -> None:
    rows = page.evaluate(FOLLOW, 24)
    peaks, places = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    assert (places >= 0).all(), "the thing is in every picture"
    assert np.ptp(places) > 0.35, f"it moves: {places}"
    off = np.abs(peaks - places)
    assert np.median(off) < 0.08 and np.corrcoef(peaks, places)[0, 1] > 0.9, f"peaks {peaks}, the thing {places}"
    moved, same = np.abs(np.diff(places)) > 0.03, np.array([row[3] for row in rows[1:]]) == [row[3] for row in rows[:-1]]
    assert moved.sum() > 10 and not (moved & same).any(), "heat differs from frame to frame, as what is seen does"
    assert page.complaints() == []


def test_the_stream_is_reported_in_numbers(page: LivePage) -> None:
    page.until("facts.counted.answered > 12")
    page.wait("return [...document.querySelectorAll('#stats dd')].every((each) => /\\d/.test(each.textContent))")
    number = {name: float(page.text(name).split()[0]) for name in ("fps", "latency", "age", "inference", "clients")}
    assert number["fps"] > 1 and number["clients"] == 1
    assert 0 < number["inference"] <= number["latency"] <= number["age"], number
    # no more frames are under way than the model and the one that waits
    assert page.evaluate("window.fastloc.counts().pending") <= 2


def test_words_are_changed_while_it_runs(page: LivePage) -> None:
    before = page.last()["id"]
    page.ask("pizza")
    facts = page.until("facts.texts.join() === 'pizza'")
    assert facts["id"] > before
    x, y = facts["peaks"][0][0][:2]
    assert abs(x - STILL[0]) < 0.15 and abs(y - STILL[1]) < 0.2, f"pizza at {x}, {y}"
    page.wait("return [...document.querySelectorAll('#legend .name')].map((each) => each.textContent).join() === 'pizza'")
    page.ask("pizza, red car")
    page.until("facts.texts.join() === 'pizza,red car'")
    assert np.abs(heat_of(page, 0) - heat_of(page, 1)).max() > 60, "each text has heat of its own"


def test_words_that_cannot_be_leave_the_old_ones(page: LivePage) -> None:
    page.ask("x" * 201)
    page.wait("return document.getElementById('texts-problem').textContent")
    assert "at most 200 letters, got 201" in page.text("texts-problem")
    assert page.element("texts").get_attribute("aria-invalid") == "true"
    assert page.last()["texts"] == list(TEXTS)
    # a word that the model never saw is looked for, and said so
    page.ask("zorgle")
    page.until("facts.texts.join() === 'zorgle'")
    page.wait("return document.getElementById('texts-hint').textContent.includes(\"never saw the word 'zorgle'\")")
    assert page.text("texts-problem") == "" and page.element("texts").get_attribute("aria-invalid") == "false"


def test_methods_are_switched_and_shown_side_by_side(page: LivePage) -> None:
    page.choose("method", "maskclip")
    page.until("facts.methods.join() === 'maskclip'")
    page.choose("beside", "gem")
    facts = page.until("facts.methods.join() === 'maskclip,gem'")
    assert facts["shape"][0] == 2
    assert np.abs(heat_of(page, 0, 0) - heat_of(page, 0, 1)).max() > 60, "methods differ"
    captions = page.driver.execute_script("return [...document.querySelectorAll('figcaption')].map((each) => each.textContent)")
    assert captions == ["maskclip", "gem"]
    sizes = page.driver.execute_script("return [...document.querySelectorAll('#views canvas')].map((each) => [each.width, each.height])")
    assert len(sizes) == 2 and sizes[0] == sizes[1]
    page.choose("beside", "")
    page.until("facts.methods.length === 1")
    page.wait("return document.querySelectorAll('#views canvas').length === 1")


def test_one_text_is_seen_alone(page: LivePage) -> None:
    page.wait("return document.querySelectorAll('#legend button').length === 2")
    pressed = "return [...document.querySelectorAll('#legend button')].map((each) => each.ariaPressed).join()"
    click = "document.querySelectorAll('#legend button')[1].click()"
    page.driver.execute_script(click)
    assert page.driver.execute_script(pressed) == "false,true"
    page.driver.execute_script(click)
    assert page.driver.execute_script(pressed) == "false,false"


def test_scales_and_smoothing(page: LivePage) -> None:
    page.choose("maps", "fixed")
    facts = page.until("facts.revision === 1")
    page.choose("low", "0.9")
    page.wait("return document.getElementById('fixed-row').hidden === false")
    page.choose("high", "0.95")
    # nothing is that similar
    facts = page.until("facts.peaks[0].every((peak) => peak === null)")
    assert heat_of(page, 0).max() == 0
    page.choose("maps", "background")
    facts = page.until(f"facts.revision > {facts['revision']}")
    assert page.element("background").is_displayed()
    page.choose("background", "cat, bus, dog, bicycle")
    page.until(f"facts.revision > {facts['revision']}")
    page.ask("pizza, green balloon")
    facts = page.until("facts.texts.join() === 'pizza,green balloon'")
    there, absent = (peak[2] if peak else 0 for peak in facts["peaks"][0])
    assert there > 0.7, f"what is there is hot against a background: {there}"
    assert absent < 0.3, f"what is not there stays cold: {absent}"


def test_it_is_frozen_and_saved(page: LivePage) -> None:
    page.element("freeze").click()
    frozen = page.last()["id"]
    assert page.element("freeze").get_attribute("aria-pressed") == "true" and page.text("freeze") == "Go on"
    saved = page.evaluate("""{
        const made = [];
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => (made.push(blob), create.call(URL, blob));
        const clicked = [];
        HTMLAnchorElement.prototype.click = function () { clicked.push(this.download); };
        document.getElementById("save").click();
        while (!clicked.length) await new Promise((done) => setTimeout(done, 20));
        URL.createObjectURL = create;
        const bytes = new Uint8Array(await made[0].arrayBuffer());
        return { name: clicked[0], head: [...bytes.slice(0, 4)], size: bytes.length };
    }""")
    assert saved["name"].startswith("fastloc-") and saved["name"].endswith(".png")
    assert saved["head"] == [0x89, 0x50, 0x4E, 0x47] and saved["size"] > 10000
    assert page.last()["id"] == frozen
    page.element("freeze").click()
    page.until(f"facts.id > {frozen + 2}")


def test_every_control_has_a_name_and_pictures_are_described(page: LivePage) -> None:
    nameless = page.driver.execute_script("""
        return [...document.querySelectorAll("input, select, button")].filter((each) =>
            !(each.labels?.length || each.ariaLabel || each.textContent.trim())).map((each) => each.outerHTML)""")
    assert nameless == []
    page.wait("return /red car: \\d+ % from the left/.test(document.querySelector('#views canvas').ariaLabel)")
    roles = {name: page.element(name).get_attribute("role") for name in ("error", "link", "texts-problem")}
    assert roles == {"error": "alert", "link": "status", "texts-problem": "alert"}
    # by keyboard alone: from the line of words on
    page.element("texts").click()
    order = []
    for _ in range(4):
        page.driver.switch_to.active_element.send_keys("\ue004")
        order.append(page.driver.execute_script("const { id, dataset } = document.activeElement; return id || dataset.text"))
    assert order == ["find", "red car", "pizza", "camera"]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (768, 1024), (390, 844), (320, 640)])
def test_nothing_sticks_out(page: LivePage, width: int, height: int) -> None:
    mobile = width < 768
    metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile}
    try:
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wide = page.driver.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] <= wide[1] <= width
        script = "const { left, right } = document.querySelector('#views canvas').getBoundingClientRect(); return [left, right]"
        left, right = page.driver.execute_script(script)
        assert left >= 0 and right <= width and right - left > width * (0.45 if width > 900 else 0.8)
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


ERRORS = {
    "NotAllowedError": "was not allowed", "NotFoundError": "There is no camera here", "NotReadableError": "in use by another program",
    "SecurityError": "only over https",
}  # fmt: skip


@pytest.mark.parametrize(("name", "message"), ERRORS.items())
def test_a_camera_that_cannot_be_had_is_reported(browser: Any, served: tuple[Live, str], name: str, message: str) -> None:
    page = LivePage(browser, served[1])
    page.open()
    browser.execute_script(f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{name}'))")
    page.element("start").click()
    page.wait("return document.getElementById('error').textContent")
    assert message in page.text("error") and page.element("start").is_enabled() and page.element("start").is_displayed()


def test_two_clients_and_one_that_is_killed(page: LivePage, served: tuple[Live, str], folder: Path) -> None:
    """The second browser is refused its camera, sends a video file in its place, and is killed."""
    live, address = served
    before = threads()
    film = moving.film(folder / "film.webm")
    with chromium(folder / "second", *NO_GPU, CAMERA[0], "--deny-permission-prompts") as driver:
        second = LivePage(driver, address)
        second.open()
        second.element("start").click()
        second.wait("return document.getElementById('error').textContent")
        assert "The camera was not allowed" in second.text("error")
        second.element("film").send_keys(str(film))
        second.wait("return document.documentElement.dataset.state === 'running'")
        second.ask("green balloon")
        second.until("facts.texts.join() === 'green balloon' && facts.clients === 2")
        mine = page.last()["id"]
        assert page.until(f"facts.id > {mine} && facts.clients === 2")["texts"] == list(TEXTS)
        assert second.complaints() == [] and second.text("source-hint") == "film.webm, looping." and second.text("error") == ""
        assert len(live.state["clients"]) == live.engine.clients == 2
        # there is no browser to say goodbye to any more
        driver.quit = driver.service.stop
        os.kill(driver.capabilities["goog:processID"], signal.SIGKILL)
        until(lambda: len(live.state["clients"]) == live.engine.clients == 1, "the killed client is still there")
    assert threads() == before
    mine = page.last()["id"]
    assert page.until(f"facts.id > {mine} && facts.clients === 1")["texts"] == list(TEXTS)


def test_a_film_that_is_none_is_reported(browser: Any, served: tuple[Live, str], folder: Path) -> None:
    page = LivePage(browser, served[1])
    page.open()
    (folder / "notes.mp4").write_text("nothing")
    page.element("film").send_keys(str(folder / "notes.mp4"))
    page.wait("return document.getElementById('error').textContent")
    assert "notes.mp4 is not a video that this browser can play" in page.text("error")


def test_a_source_that_the_server_has(browser: Any, localizer: Localizer, folder: Path) -> None:
    film = moving.film(folder / "server.mp4")
    with serving(localizer, TEXTS, hub=Broadcast(lambda: open_source(film), 30), limits=Limits(clients=1)) as (live, address):
        page = LivePage(browser, address)
        with connect(address.replace("http", "ws") + "/ws", origin=address):
            until(lambda: live.state["clients"])
            # a page that finds no room shows that, and comes in when there is some
            browser.get(address)
            page.wait("return document.getElementById('error').textContent.includes('the server is full')")
            assert page.text("link") == "Not connected"
        page.wait("return document.documentElement.dataset.state === 'running'")
        assert page.text("error") == "" and not page.element("start").is_displayed()
        assert page.text("source-name") == "server.mp4" and page.text("source-kind") == "looping"
        offs, seen = [], set()
        for _ in range(12):
            facts = page.until(f"!{json.dumps(sorted(seen))}.includes(facts.id)")
            seen.add(facts["id"])
            offs.append(abs(facts["peaks"][0][0][0] - moving.place(facts["id"])[0]))
        assert np.median(offs) < 0.08, f"off from the known place by {offs}"
        assert page.driver.execute_script("return document.querySelector('#views canvas').width") >= moving.WIDE
        page.element("freeze").click()
        frozen = page.last()["time"]
        until(lambda: live.state["clients"][0]["dropped"] > 5)
        assert page.last()["time"] == frozen
        page.element("freeze").click()
        page.until(f"facts.time > {frozen}")
        # the wait for room is no complaint of the page
        assert [line for line in page.complaints() if "WebSocket" not in line] == []
        browser.get("about:blank")
        until(lambda: not live.state["clients"] and not live.hub.clients)


def test_a_token_gets_in_and_leaves_the_address(browser: Any, localizer: Localizer) -> None:
    with serving(localizer, TEXTS, token="correct-horse-battery") as (_, address):
        browser.get(f"{address}/")
        assert "A token is needed" in browser.page_source
        browser.get(f"{address}/?token=wrong-horse-battery")
        assert "This token is not right" in browser.page_source
        page = LivePage(browser, address)
        page.open("?token=correct-horse-battery")
        assert browser.current_url == f"{address}/"
        assert browser.execute_script("return document.cookie") == ""
        page.start()
        page.until("facts.id > 2")
        browser.get("about:blank")
