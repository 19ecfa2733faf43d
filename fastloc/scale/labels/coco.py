"""COCO: one JSON file of pictures, annotations and categories, as pycocotools reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastloc.scale.labels.masks import counts
from fastloc.scale.labels.source import Object, Picture, Rows
from fastloc.utils.atomic_write import replacing
from fastloc.utils.system import files

__all__ = ["write"]


def write(rows: Rows, path: Path, images: str) -> Iterator[Picture]:
    """Write the file, and yield each picture once it is written. Categories are the texts in order; all ids count from 1.

    An annotation has `bbox` (x, y, width, height in pixels), `area`, `iscrowd` 0, `segmentation` (compressed RLE) where there are masks,
    `score` (the text's, or the heat where there are none) and `heat`. `images`, where given, goes before each key, with a slash.
    Raises OSError.
    """
    categories = [{"id": index, "name": text, "supercategory": ""} for index, text in enumerate(rows.texts, 1)]
    info = {"description": f"made by fastloc with {rows.settings.method} on {rows.settings.model}, not by people"}
    with replacing(path) as part, files.opened_text(part) as file:
        file.write(f'{{"info": {_json(info)},\n"licenses": [],\n"categories": {_json(categories)},\n"images": [')
        for number, (key, width, height) in enumerate(rows.sizes(), 1):
            name = f"{images.rstrip('/')}/{key}" if images else key
            file.write(",\n" if number > 1 else "\n")
            file.write(_json({"id": number, "file_name": name, "width": width, "height": height}))
        file.write('\n],\n"annotations": [')
        identity = 0
        for number, picture in enumerate(rows.pictures(), 1):
            for each in picture.objects:
                identity += 1
                file.write((",\n" if identity > 1 else "\n") + _json({"id": identity, "image_id": number, **_annotation(picture, each)}))
            yield picture
        file.write("\n]}\n")


def _annotation(picture: Picture, each: Object) -> dict[str, Any]:
    made: dict[str, Any] = {
        "category_id": each.category + 1,
        "bbox": [each.x0, each.y0, each.x1 - each.x0, each.y1 - each.y0],
        "area": each.area,
        "iscrowd": 0,
        "score": each.confidence,
        "heat": each.heat,
    }
    if each.mask is not None:
        rle = counts(each.mask, each.x0, each.y0, picture.height, picture.width)
        made["segmentation"] = {"size": [picture.height, picture.width], "counts": rle}
    return made


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
