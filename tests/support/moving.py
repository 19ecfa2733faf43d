"""A film of the embedded model's world: things cut out of the sample scenes, one of them moving along a known path."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.embedded import SAMPLES

Pixels = NDArray[np.uint8]

WIDE, HIGH = 480, 360
# frames of one round, and how many a second
ROUND, RATE = 48, 12


@functools.cache
def thing(text: str) -> Image.Image:
    """A thing of a sample scene, RGBA, cut out along its mask."""
    rows = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8"))
    row = next(row for row in rows.values() if text in row["texts"])
    mask = np.asarray(Image.open(SAMPLES / row["mask"])) == row["texts"].index(text) + 1
    ys, xs = np.nonzero(mask)
    box = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    cut = Image.open(SAMPLES / row["file"]).convert("RGB")
    cut.putalpha(Image.fromarray((mask * 255).astype(np.uint8)))
    return cut.crop(box)


def place(index: int) -> tuple[float, float]:
    """The centre of the moving thing in a frame, as shares of width and height: from left to right and back."""
    angle = 2 * np.pi * (index % ROUND) / ROUND
    return float(0.5 - 0.32 * np.cos(angle)), float(0.68 - 0.06 * np.sin(angle))


def frame(index: int, text: str = "red car", still: str = "pizza") -> Pixels:
    """uint8 [HIGH, WIDE, 3]: the moving thing below, a still one above."""
    picture = Image.new("RGB", (WIDE, HIGH), (196, 222, 232))
    picture.paste((150, 190, 120), (0, int(0.55 * HIGH), WIDE, HIGH))
    for name, (x, y) in ((still, (0.5, 0.22)), (text, place(index))):
        cut = thing(name)
        scale = 130 / max(cut.size)
        cut = cut.resize((round(cut.width * scale), round(cut.height * scale)), Image.Resampling.LANCZOS)
        picture.paste(cut, (round(x * WIDE - cut.width / 2), round(y * HIGH - cut.height / 2)), cut)
    return np.asarray(picture)


def frames() -> Iterator[Pixels]:
    """One round."""
    return (frame(index) for index in range(ROUND))


def mjpeg(path: Path) -> Path:
    """One round as JPEGs one after another, which Chromium's fake camera plays in a circle."""
    with path.open("wb") as file:
        for pixels in frames():
            Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return path


def film(path: Path) -> Path:
    """One round as a video file, .mp4 or .webm, which every Chromium plays."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("libx264" if path.suffix == ".mp4" else "libvpx", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, "yuv420p"
        for pixels in frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path
