"""Draw the quality set and the sample scenes that ship with the package. Their seeds are their own; training never uses them.

    python benchmarks/embedded_model/make_scenes.py

quality_set.zip holds scenes.json (for each scene its picture, its mask picture and its things' names), the pictures as
WebP, and the masks as PNG: pixel value k > 0 is the k-th thing where it is visible.
"""

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
# the packages of benchmarks/ are found wherever this is started
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from embedded_model.emoji_scenes.compose import Scene, compose  # noqa: E402
from embedded_model.emoji_scenes.concepts import concepts  # noqa: E402
from fastloc.embedded import SAMPLES  # noqa: E402

QUALITY_SET = HERE / "quality_set.zip"
# training draws from default_rng([seed, worker]) with small seeds; these are far from them
QUALITY_SEED, TUNING_SEED, SAMPLE_SEED = 9_000_001, 9_000_002, 9_000_003
SCENES = 240
SIZES = ((160, 160), (160, 160), (160, 160), (160, 160), (160, 208), (208, 160))
# a thing of which less shows than this share of the picture is not asked for
LEAST_VISIBLE = 0.008
# the first is the demo's; (height, width) and what is in it
SAMPLE_SCENES = {
    "market": ((360, 480), ("cat", "pizza", "red car", "green balloon")),
    "garden": ((360, 480), ("butterfly", "sunflower", "bicycle", "owl")),
    "street": ((480, 360), ("bus", "dog", "traffic light")),
}


def drawn(seed: int, count: int) -> list[Scene]:
    """The first `count` scenes of a seed in which every thing shows enough."""
    rng, vocabulary, scenes = np.random.default_rng(seed), concepts(), []
    while len(scenes) < count:
        scene = compose(rng, vocabulary, SIZES[len(scenes) % len(SIZES)])
        if all(mask.mean() >= LEAST_VISIBLE for mask in scene.masks):
            scenes.append(scene)
    return scenes


def encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def mask_picture(scene: Scene) -> Image.Image:
    indices = np.zeros(scene.masks[0].shape, np.uint8)
    for k, mask in enumerate(scene.masks, 1):
        indices[mask] = k
    return Image.fromarray(indices)


def write_quality_set() -> None:
    rows = []
    with zipfile.ZipFile(QUALITY_SET, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, content: bytes) -> None:
            # a fixed date, so that the same scenes give the same file
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)

        for i, scene in enumerate(drawn(QUALITY_SEED, SCENES)):
            put(f"{i:03}.webp", encoded(scene.picture, "WEBP", quality=85, method=6))
            put(f"{i:03}.png", encoded(mask_picture(scene), "PNG", optimize=True))
            rows.append({"picture": f"{i:03}.webp", "mask": f"{i:03}.png", "things": [thing.name for thing in scene.things]})
        put("scenes.json", json.dumps(rows, indent=0).encode())
    things = sum(len(row["things"]) for row in rows)
    print(f"{QUALITY_SET.name}: {len(rows)} scenes, {things} things, {QUALITY_SET.stat().st_size / 1e6:.2f} MB")


def write_samples() -> None:
    SAMPLES.mkdir(parents=True, exist_ok=True)
    named = {concept.name: concept for concept in concepts()}
    index = {}
    for k, (name, (size, things)) in enumerate(SAMPLE_SCENES.items()):
        queue = list(things)
        scene = _well_spread(SAMPLE_SEED + k, size, [named[thing] for thing in queue])
        (SAMPLES / f"{name}.webp").write_bytes(encoded(scene.picture, "WEBP", quality=90, method=6))
        (SAMPLES / f"{name}.png").write_bytes(encoded(mask_picture(scene), "PNG", optimize=True))
        index[name] = {"file": f"{name}.webp", "mask": f"{name}.png", "texts": queue}
    (SAMPLES / "samples.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _well_spread(seed: int, size: tuple[int, int], things: list) -> Scene:
    """The first scene of a seed in which no thing is small or hidden."""
    rng = np.random.default_rng(seed)
    while True:
        scene = compose(rng, [], size, things)
        if all(mask.mean() > 0.015 for mask in scene.masks):
            return scene


if __name__ == "__main__":
    write_quality_set()
    write_samples()
