"""A loop of the live page in headless Chromium: three things that move, frame by frame, so that it is the same each time."""

import base64
import queue
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# the browser and the server are those of the tests
if str(ROOT / "tests" / "support") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import NO_GPU, chromium, set_controls, without_browser  # noqa: E402
from embedded_model import moving_scenes  # noqa: E402
from fastloc import Localizer  # noqa: E402
from fastloc.errors import FastlocError  # noqa: E402
from fastloc.live.broadcast import Broadcast  # noqa: E402
from fastloc.video.sources.base import Info  # noqa: E402
from fastloc.video.sources.frame import Frame  # noqa: E402
from gallery_parts.tiles import Picture  # noqa: E402
from live_server import serving, until  # noqa: E402

__all__ = ["live_loop"]

TEXTS = ("cat", "red car", "pizza")
SIZE, RATE, SECONDS = (360, 480), 8, 3
# the page's settings: what a select's or slider's element is called, and its value
CHOSEN = {"maps": "background", "opacity": "80"}


class Stepped:
    """A clip whose frames come when they are asked for, and not by the clock."""

    name, live, corrupt, reconnects = "moving scene", False, 0, 0

    def __init__(self) -> None:
        self._clip = moving_scenes.clip(seed=3, things=TEXTS, size=SIZE, rate=RATE, seconds=SECONDS)
        self.info = Info(size=SIZE, rate=RATE, count=len(self._clip))
        self._wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._asked = 0

    def __len__(self) -> int:
        return len(self._clip)

    def ask(self, moment: int) -> int:
        """Ask for a moment of the clip; returns the number of the frame that will show it."""
        self._wanted.put(moment)
        self._asked += 1
        return self._asked - 1

    def frames(self) -> Iterator[Frame]:
        """The moments that are asked for, numbered from 0."""
        for number in count():
            if (moment := self._wanted.get()) is None:
                return
            yield Frame(number, 0.0, 0.0, SIZE, lambda moment=moment: self._clip.at(moment).rgb)

    def close(self) -> None:
        """End the frames."""
        self._wanted.put(None)


def live_loop() -> Iterator[Picture]:
    """The page's picture, there and back again. Raises FastlocError where there is no browser."""
    if without_browser():
        raise FastlocError(f"the loop of the live page needs a browser: {without_browser()}")
    with tempfile.TemporaryDirectory() as folder:
        shots = list(_shots(Path(folder)))
    caption = f"`fastloc live` with *{', '.join(TEXTS)}*"
    alt = "The live page's picture: a cat, a red car and a slice of pizza move, each under the heat of its text, with its peak ringed"
    yield Picture("live", "live", alt, caption, (*shots, *shots[-2:0:-1]))


def _shots(folder: Path) -> Iterator[Image.Image]:
    source = Stepped()
    hub = Broadcast(lambda: source, fps=1000)
    with serving(Localizer(device="cpu"), TEXTS, hub=hub) as (_, url), chromium(folder / "profile", *NO_GPU) as driver:
        driver.get(url)
        set_controls(driver, CHOSEN)
        # a frame is asked for again until the settings are in force
        until(lambda: _shown(driver, source.ask(0))["revision"])
        for moment in range(len(source)):
            _shown(driver, source.ask(moment))
            address = driver.execute_script("return document.querySelector('#views canvas').toDataURL('image/png')")
            picture = Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")
            yield picture.resize(SIZE[::-1], Image.Resampling.LANCZOS)


def _shown(driver: Any, number: int) -> dict[str, Any]:
    """The page's facts of a frame, once it shows that one."""

    def facts() -> dict[str, Any] | None:
        last: dict[str, Any] | None = driver.execute_script("return window.fastloc?.last() ?? null")
        return last if last and last["id"] == number else None

    found: dict[str, Any] = until(facts, f"frame {number} was not shown")
    return found
