"""Pictures to measure on, made here: the embedded sample scenes, cropped, enlarged and grained, as JPEG files.

A drawn scene is compressed to a fraction of a photograph's bytes, and decoding takes longer the more bytes there are. The grain, noise of a
camera's kind with a seed, brings a file of 1920 x 1080 to what a camera writes: `bits_per_pixel` of the files is part of the record.
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from fastloc.embedded import SAMPLES

# quality and chroma subsampling that cameras and web sites use most
QUALITY, SUBSAMPLING = 85, "4:2:0"
# standard deviation of the grain in steps of 8 bits
GRAIN = 9.0
FULL_HD, SMALL, REQUEST = (1080, 1920), (96, 128), (480, 640)


@cache
def scenes() -> tuple[tuple[Image.Image, tuple[str, ...]], ...]:
    """The sample pictures, RGB, and the texts that are asked of each."""
    rows = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")).values()
    return tuple((Image.open(SAMPLES / row["file"]).convert("RGB"), tuple(row["texts"])) for row in rows)


def texts(count: int) -> list[str]:
    """The first texts of the scenes, one of each in turns."""
    several = [row[1] for row in scenes()]
    ranked = [row[i] for i in range(max(map(len, several))) for row in several if i < len(row)]
    return ranked[:count]


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """A crop of a scene at (height, width), with grain; the same for the same seed."""
    random = np.random.default_rng(seed)
    scene = scenes()[seed % len(scenes())][0]
    height, width = size
    # the largest crop of this shape, and down to two thirds of it
    scale = min(scene.width / width, scene.height / height) * random.uniform(2 / 3, 1)
    w, h = round(width * scale), round(height * scale)
    left, top = int(random.integers(scene.width - w + 1)), int(random.integers(scene.height - h + 1))
    enlarged = scene.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + w, top + h))
    grained = np.asarray(enlarged, np.float32) + GRAIN * random.standard_normal((height, width, 1), np.float32)
    return Image.fromarray(grained.clip(0, 255).astype(np.uint8))


def write(folder: Path, count: int, size: tuple[int, int], distinct: int = 24) -> list[Path]:
    """`count` JPEG files, of which `distinct` differ: the others are hard links to them, and are read and decoded like any other."""
    folder.mkdir(parents=True)
    paths = [folder / f"{i:06d}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        if i < distinct:
            picture(i, size).save(path, quality=QUALITY, subsampling=SUBSAMPLING)
        else:
            os.link(paths[i % distinct], path)
    return paths


def bits_per_pixel(paths: list[Path], size: tuple[int, int]) -> float:
    return float(8 * np.mean([path.stat().st_size for path in paths]) / (size[0] * size[1]))
