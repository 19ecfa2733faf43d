"""YOLO: a text file of polygons for each picture, and the `data.yaml` that names the classes, as ultralytics reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from fastloc.errors import FastlocError
from fastloc.scale.labels.masks import polygon
from fastloc.scale.labels.names import digest, ending, relative_name
from fastloc.scale.labels.source import Object, Picture, Rows
from fastloc.utils.atomic_write import replacing_folder
from fastloc.utils.system import files

__all__ = ["write"]


def write(rows: Rows, path: Path, images: str) -> Iterator[Picture]:
    """Write the folder, and yield each picture once its label is written.

    `labels/<key>.txt` has a line an object: the class, from 0, and x and y of a polygon's corners as shares of the picture's width and
    height; of a rectangle's where there are no masks. The format has no place for scores and for holes. `labels.csv` names the label of
    each key. With `images`, the folder that the keys are relative to, `images/` has a link to each picture, under its label's name: the
    reader looks for labels by it. Raises OSError, FastlocError for a picture that is not there.
    """
    with replacing_folder(path) as folder:
        files.make_folder(folder / "labels")
        files.make_folder(folder / "images")
        names = "".join(f"  {index}: {_yaml(text)}\n" for index, text in enumerate(rows.texts))
        files.write_text(folder / "data.yaml", f"train: images\nval: images\nnames:\n{names}")
        with files.opened_text(folder / "labels.csv", newline="") as table:
            listed = csv.writer(table)
            listed.writerow(("key", "label"))
            for picture in rows.pictures():
                name, file = _created(folder / "labels", picture.key)
                with file:
                    file.writelines(_line(picture, each) for each in picture.objects)
                listed.writerow((picture.key, f"labels/{name}.txt"))
                if images:
                    _link(Path(images).resolve() / picture.key, folder / "images" / f"{name}{ending(picture.key)}")
                yield picture


def _created(folder: Path, key: str) -> tuple[str, IO[str]]:
    """A new file for the key, and its name without the ending; where that is taken, as of a.png beside a.jpg, it gets a digest."""
    name = relative_name(key)
    for each in (name, f"{PurePosixPath(name).name}-{digest(key)}"):
        file = folder / f"{each}.txt"
        try:
            files.make_folder(file.parent, parents=True, exist_ok=True)
            return each, files.opened_text(file, "x")
        except (FileExistsError, NotADirectoryError):
            continue
    raise FastlocError(f"key must be of one picture, got {key!r} twice; run the batch again")


def _link(picture: Path, link: Path) -> None:
    if not picture.is_file():
        raise FastlocError(f"--images must be the folder that the keys are relative to, got one without {picture}")
    files.make_folder(link.parent, parents=True, exist_ok=True)
    files.link(picture, link)


def _line(picture: Picture, each: Object) -> str:
    if each.mask is None:
        corners = [(each.x0, each.y0), (each.x1, each.y0), (each.x1, each.y1), (each.x0, each.y1)]
    else:
        corners = [(x + each.x0, y + each.y0) for x, y in polygon(each.mask).tolist()]
    return f"{each.category} {' '.join(f'{x / picture.width:.6g} {y / picture.height:.6g}' for x, y in corners)}\n"


def _yaml(text: str) -> str:
    """A double-quoted scalar of YAML: JSON's, with what YAML does not take as a character written by its number."""
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in json.dumps(text, ensure_ascii=False))
