"""Label Studio: tasks with predictions to import, and the labelling configuration that they fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from fastloc.scale.labels.source import Object, Picture, Rows
from fastloc.utils.atomic_write import replacing_folder
from fastloc.utils.system import files

__all__ = ["brush", "write"]


def write(rows: Rows, path: Path, images: str) -> Iterator[Picture]:
    """Write the folder, and yield each picture once its task is written.

    `tasks.json` has a task a picture, whose prediction has a rectangle an object and, where there are masks, a brush; `config.xml` is the
    project's labelling configuration. `images` goes before each key, with a slash: an address such as https://host/folder, or
    /data/local-files/?d=folder for files that Label Studio serves itself. Raises OSError.
    """
    with replacing_folder(path) as folder:
        files.write_text(folder / "config.xml", _configuration(rows.texts, rows.settings.masks))
        with files.opened_text(folder / "tasks.json") as file:
            file.write("[")
            for number, picture in enumerate(rows.pictures()):
                file.write((",\n" if number else "\n") + json.dumps(_task(rows, picture, images), ensure_ascii=False))
                yield picture
            file.write("\n]\n")


def brush(mask: np.ndarray[Any, np.dtype[np.bool_]], x0: int, y0: int, height: int, width: int) -> list[int]:
    """Label Studio's RLE of a mask whose first pixel lies at (x0, y0) of a picture: bytes, as its format of four channels has them.

    A head of 32 bits with the number of values, 5 with the bits of a value less 1, four times 4 with the bits of a length less 1; then of
    each run one bit that marks a run, two that choose the length's bits, the length less 1, and the value.
    """
    whole = np.zeros((height, width), np.bool_)
    whole[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] = mask
    line = whole.ravel()
    edges = np.concatenate([[0], np.flatnonzero(line[1:] != line[:-1]) + 1, [len(line)]])
    # the longest run that 16 bits hold; a pixel is four values
    lengths, values = np.diff(edges) * 4, line[edges[:-1]]
    pieces = -(-lengths // (1 << 16))
    last = np.cumsum(pieces) - 1
    all_lengths = np.full(int(pieces.sum()), 1 << 16)
    all_lengths[last] = lengths - (pieces - 1) * (1 << 16)
    all_values = np.repeat(values, pieces)
    # one of 16 bits for every length: bit 1, choice 3, length, value
    runs = (0b111 << 24) | ((all_lengths - 1) << 8) | np.where(all_values, 255, 0)
    bits = ((runs[:, None] >> np.arange(26, -1, -1)) & 1).astype(np.uint8).ravel()
    sizes = "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    head = np.frombuffer(f"{len(line) * 4:032b}{7:05b}{sizes}".encode(), np.uint8) - ord("0")
    packed: list[int] = np.packbits(np.concatenate([head, bits])).tolist()
    return packed


def _task(rows: Rows, picture: Picture, images: str) -> dict[str, Any]:
    where = f"{images.rstrip('/')}/{quote(picture.key)}" if images else picture.key
    results = [result for index, each in enumerate(picture.objects) for result in _results(rows.texts, picture, each, index)]
    prediction = {
        "model_version": f"fastloc {rows.settings.method} {rows.settings.model}",
        "score": max((each.confidence for each in picture.objects), default=0.0),
        "result": results,
    }
    return {"data": {"image": where, "key": picture.key}, "predictions": [prediction]}


def _results(texts: tuple[str, ...], picture: Picture, each: Object, index: int) -> Iterator[dict[str, Any]]:
    common = {
        "to_name": "image", "original_width": picture.width, "original_height": picture.height, "image_rotation": 0,
        "score": each.confidence,
    }  # fmt: skip
    across, down = 100 / picture.width, 100 / picture.height
    text = texts[each.category]
    sides = {
        "x": each.x0 * across, "y": each.y0 * down, "width": (each.x1 - each.x0) * across, "height": (each.y1 - each.y0) * down,
        "rotation": 0,
    }  # fmt: skip
    value: dict[str, Any] = {**sides, "rectanglelabels": [text]}
    yield {"id": f"box{index}", "type": "rectanglelabels", "from_name": "box", **common, "value": value}
    if each.mask is not None:
        rle = brush(each.mask, each.x0, each.y0, picture.height, picture.width)
        value = {"format": "rle", "rle": rle, "brushlabels": [text]}
        yield {"id": f"mask{index}", "type": "brushlabels", "from_name": "mask", **common, "value": value}


def _configuration(texts: tuple[str, ...], masks: bool) -> str:
    labels = "".join(f"    <Label value={quoteattr(text)}/>\n" for text in texts)
    tags = {"RectangleLabels": "box", "BrushLabels": "mask"} if masks else {"RectangleLabels": "box"}
    blocks = "".join(f'  <{tag} name="{name}" toName="image">\n{labels}  </{tag}>\n' for tag, name in tags.items())
    return f'<View>\n  <Image name="image" value="$image"/>\n{blocks}</View>\n'
