"""Take the README's picture of the live page: a moving scene of the embedded model's world, in headless Chromium.

python benchmarks/doc_tables/live_picture.py [-o docs/assets/live.png]
"""

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out; the browser and the server are those of the tests
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support")]

from browser import NO_GPU, chromium, set_controls  # noqa: E402
from embedded_model import moving_scenes  # noqa: E402
from fastloc import Localizer  # noqa: E402
from fastloc.live.broadcast import Broadcast  # noqa: E402
from fastloc.video.sources.open_source import open_source  # noqa: E402
from live_server import serving, until  # noqa: E402

TEXTS = ("cat", "red car", "pizza")
# how the page is set: what a select's or slider's element is called, and its value
CHOSEN = {"maps": "background", "opacity": "80"}
SIZE = (1280, 900)


def take(path: Path, folder: Path) -> None:
    """One screenshot, PNG, after the heat has been shown for a while."""
    clip = moving_scenes.clip(seed=3, things=TEXTS, size=(480, 640), rate=12, seconds=8)
    film = moving_scenes.write(clip, folder / "clip.mp4")
    hub = Broadcast(lambda: open_source(film), fps=12)
    with serving(Localizer(device="cpu"), TEXTS, hub=hub) as (_, url), chromium(folder / "profile", *NO_GPU) as driver:
        driver.set_window_size(*SIZE)
        driver.get(url)
        set_controls(driver, CHOSEN)
        until(lambda: driver.execute_script("const facts = window.fastloc.last(); return facts && facts.counted.answered > 20"))
        driver.save_screenshot(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs" / "assets" / "live.png", metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        take(args.output, Path(folder))
    print(f"written: {args.output}")


if __name__ == "__main__":
    main()
