"""A real browser for tests: headless Chromium on a folder that `fastloc web` serves. `missing` names the parts that are not installed."""

import base64
import functools
import importlib.util
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastloc.cli.web import serving
from repo import REPO

# where `make web` puts onnxruntime-web
NODE = REPO / ".venv"
PACKAGE = NODE / "node_modules" / "onnxruntime-web"
# `make web` sets it: then nothing may be skipped
REQUIRED = os.environ.get("FASTLOC_WEB") == "required"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,900",
)  # fmt: skip
NO_GPU = ("--disable-gpu",)
# WebGPU computed by the CPU
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
# a busy core takes its time
PATIENCE = 60


def without_browser() -> str:
    """The reasons that no browser runs here; "" if there are none."""
    reasons = [
        ("chromium is not on the PATH (Debian: apt-get install chromium chromium-driver)", shutil.which("chromium") is None),
        ("chromedriver is not on the PATH (Debian: apt-get install chromium-driver)", shutil.which("chromedriver") is None),
        ("selenium is not installed (pip install selenium)", importlib.util.find_spec("selenium") is None),
    ]
    return "; ".join(reason for reason, is_so in reasons if is_so)


def missing() -> str:
    """The reasons that tests of the static page cannot run here; "" if there are none."""
    runtime = "" if PACKAGE.is_dir() else f"onnxruntime-web is not in {PACKAGE} (make web)"
    return "; ".join(filter(None, (without_browser(), runtime)))


def needed() -> None:
    """Skip the test with the reason where something is missing, or fail it where nothing may be."""
    if missing() and REQUIRED:
        pytest.fail(missing())
    if missing():
        pytest.skip(missing())


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, query: str = "") -> str:
        """Load the page anew and wait until it has answered or given up; the state it is in then, "ready" or "failed"."""
        self.driver.get(f"{self.url}/{query}")
        return self.wait("const state = document.documentElement.dataset.state; return ['ready', 'failed'].includes(state) ? state : ''")

    def wait(self, script: str) -> Any:
        """The script's return value, once that is neither false nor empty."""
        from selenium.webdriver.support.ui import WebDriverWait

        message = f"the page did not get to: {script}"
        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda driver: driver.execute_script(script), message)

    def evaluate(self, expression: str, *arguments: Any) -> Any:
        """The value of an expression that may be awaited, in which arguments[0] and so on stand for the arguments; an error is raised."""
        script = f"""
            const done = arguments[arguments.length - 1];
            (async () => {expression})().then((value) => done({{ value }}), (error) => done({{ error: error.message }}));"""
        # arrow functions see the arguments of the script around them
        answer = self.driver.execute_async_script(script, *arguments)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    def locate(self, picture: NDArray[np.uint8], names: list[str]) -> NDArray[np.float32]:
        """`window.fastloc.locate` of a picture's bytes: the similarity [T, h, w]."""
        found = self.evaluate(
            """{
                const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
                const { similarity, shape } = await window.fastloc.locate(bytes, arguments[1]);
                return { similarity: [...similarity], shape };
            }""",
            base64.b64encode(picture.tobytes()).decode(),
            names,
        )
        return np.asarray(found["similarity"], np.float32).reshape(found["shape"])

    def text(self, name: str) -> str:
        """The text of the element with this id."""
        return str(self.driver.execute_script("return document.getElementById(arguments[0]).textContent", name)).strip()

    def element(self, name: str) -> Any:
        return self.driver.find_element("id", name)

    def type(self, *keys: str) -> None:
        """Type into the line of words, from nothing."""
        line = self.element("prompts")
        line.clear()
        line.send_keys(*keys)

    def shown(self, names: list[str]) -> dict[str, tuple[float, float]]:
        """Wait until these heatmaps are drawn, and return where each peaks: (x, y) as shares of the picture's width and height."""
        figures = "[...document.querySelectorAll('figure')]"
        self.wait(f"return {figures}.map((each) => each.dataset.name).join() === {','.join(names)!r}")
        rows = self.driver.execute_script(f"return {figures}.map(({{ dataset: {{ name, x, y }} }}) => [name, Number(x), Number(y)])")
        return {name: (x, y) for name, x, y in rows}

    def complaints(self) -> list[str]:
        """Severe errors in the browser's console; each is read once."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, served as `fastloc web --serve` does."""
    server = serving(folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def set_controls(driver: Any, values: Mapping[str, str]) -> None:
    """Set selects and sliders of a page, by their elements' ids, as a person does."""
    for name, value in values.items():
        driver.execute_script(
            "const box = document.getElementById(arguments[0]); box.value = arguments[1];"
            "box.dispatchEvent(new Event('input')); box.dispatchEvent(new Event('change'))",
            name, value,
        )  # fmt: skip


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Any]:
    """A new Chromium with an empty profile."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(PATIENCE)
    try:
        yield driver
    finally:
        driver.quit()


@functools.cache
def scenes() -> dict[str, Any]:
    """The sample scenes: file names, masks and texts."""
    import json

    from fastloc.embedded import SAMPLES

    return {
        name: {**row, "picture": SAMPLES / row["file"], "mask": SAMPLES / row["mask"]}
        for name, row in json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")).items()
    }
