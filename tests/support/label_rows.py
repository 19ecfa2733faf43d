"""A batch's folder with masks that are known: what the tests of labels convert, and compare what readers say with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from fastloc.imaging.readouts.regions import of_runs
from fastloc.imaging.readouts.run_lengths import compressed
from fastloc.imaging.readouts.runs import Runs
from fastloc.scale.manifest import begin, finish
from fastloc.scale.rows import Settings, rows_table
from fastloc.scale.shards import Counts, write_table

TEXTS = ("cat", 'a "red" car: 5% <new>', "犬 🐕")
SETTINGS = Settings("embedded", "", "gem", "sha256:0", TEXTS, 0.5, None, True, False, 8, "cpu", 10**8, {})


@dataclass
class Drawn:
    """A picture, and of each text its mask bool [H, W]; heat 0.9 in the first region, 0.6 in the others, and a score."""

    key: str
    masks: list[Any]
    scores: list[float | None]


def blobs(seed: int, height: int, width: int) -> Any:
    """bool [height, width]: a few smooth regions."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), min(height, width) / 12)
    return field > np.quantile(field, 0.8)


def drawn() -> list[Drawn]:
    """Five pictures in odd places: folders, spaces, letters of other scripts, members of archives; of every kind of mask one."""
    ring = np.zeros((60, 80), bool)
    ring[10:40, 20:60] = True
    ring[20:30, 30:50] = False
    corners = np.eye(12, dtype=bool)[:, ::-1]
    nothing = np.zeros((48, 64), bool)
    return [
        Drawn("a.jpg", [blobs(1, 120, 160), blobs(2, 120, 160), blobs(3, 120, 160)], [0.9, 0.2, 0.6]),
        Drawn("deep/er/ä b.jpg", [ring, ring, np.ones((60, 80), bool)], [0.8, 0.7, 0.1]),
        Drawn("shard-0.tar/x.png", [nothing, nothing, nothing], [0.0, 0.1, 0.2]),
        Drawn("rows.parquet#7", [corners, ~corners, corners], [0.3, 0.4, 0.5]),
        Drawn("a.png", [blobs(4, 97, 51), blobs(5, 97, 51), blobs(6, 97, 51)], [0.9, 0.9, 0.9]),
    ]


def rows_of(picture: Drawn, texts: Sequence[str], masks: bool = True) -> list[dict[str, Any]]:
    """The rows of a picture, as `fastloc batch` writes them."""
    made = []
    for index, (text, mask, score) in enumerate(zip(texts, picture.masks, picture.scores, strict=True)):
        runs = Runs.of(mask, np.where(mask, np.float32(0.6), np.float32(0)))
        boxes = of_runs(runs).boxes.tolist() if mask.any() else []
        made.append({
            "key": picture.key, "width": mask.shape[1], "height": mask.shape[0], "text_index": index, "text": text,
            "peak_x": 0, "peak_y": 0, "value": 0.9, "similarity": 0.2, "score": score, "mask": compressed(runs) if masks else None,
            "boxes": [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True), value=0.6 if n else 0.9) for n, box in enumerate(boxes)],
            "grid": None, "grid_height": None, "grid_width": None,
        })  # fmt: skip
    return made


def write_batch(folder: Path, pictures: Sequence[Drawn], *, texts: Sequence[str] = TEXTS, masks: bool = True, shard: int = 2) -> Path:
    """Write the folder of a batch that is finished, `shard` pictures a file. Returns it."""
    settings = replace(SETTINGS, texts=tuple(texts), masks=masks)
    manifest, metadata, number = begin(folder, settings, ["pictures"], shard), settings.metadata(), 0
    for number, first in enumerate(range(0, len(pictures), shard)):
        rows = [row for picture in pictures[first : first + shard] for row in rows_of(picture, texts, masks)]
        write_table(folder / "rows" / f"part-{number:06d}.parquet", rows_table(rows, metadata))
    finish(folder, manifest, Counts(len(pictures), len(pictures)), number + 1)
    return folder


def save_pictures(folder: Path, pictures: Sequence[Drawn]) -> Path:
    """The pictures themselves, each in a grey of its own. Returns the folder."""
    for number, each in enumerate(pictures):
        path = folder / each.key
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = each.masks[0].shape
        Image.new("RGB", (width, height), (number, number, number)).save(path, format="PNG" if path.suffix == ".png" else "JPEG")
    return folder


def objects(picture: Drawn) -> list[tuple[int, list[int], Any]]:
    """Category, box (x, y, width, height) and mask [H, W] of each region of a picture, in no order."""
    found = []
    for index, mask in enumerate(picture.masks):
        numbered, count = ndimage.label(mask, np.ones((3, 3)))
        for number, (rows, columns) in zip(range(1, count + 1), ndimage.find_objects(numbered), strict=True):
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            found.append((index, box, numbered == number))
    return found


def comparable(found: list[tuple[int, list[int], Any]]) -> list[tuple[int, list[int], bytes]]:
    """Objects in an order of their own, and so that they can be compared."""
    return sorted((index, box, np.ascontiguousarray(mask, bool).tobytes()) for index, box, mask in found)
