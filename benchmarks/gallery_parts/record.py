"""The gallery's record: every picture with its words and its bytes' digest; and the faults that a look at the folder finds."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import PIL
import torch

import fastloc
from doc_tables.markdown_table import TableError
from fastloc.errors import FastlocError
from fastloc.recipes import RECIPES
from fastloc.utils.atomic_write import write_whole
from gallery_parts.tiles import Picture

__all__ = ["COMMAND", "FOLDER", "MOST", "RECORD", "Row", "encoded", "faults", "read", "remove_orphans", "write"]

ROOT = Path(__file__).resolve().parents[2]
RECORD, FOLDER = ROOT / "benchmarks" / "records" / "gallery.json", ROOT / "docs" / "assets" / "gallery"
COMMAND = "python benchmarks/gallery.py"
# bytes that all pictures may have together
MOST = 3_000_000
QUALITY, LOOP_QUALITY, FRAME_MS = 82, 60, 125


@dataclass(frozen=True)
class Row:
    """A picture that was written; `Picture` says what the words are."""

    name: str
    group: str
    alt: str
    caption: str
    bytes: int
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.name}.webp"


def encoded(picture: Picture) -> bytes:
    """The picture as a WebP file; several frames are a loop without end."""
    file = BytesIO()
    first, *others = picture.frames
    if others:
        first.save(file, "WEBP", save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=LOOP_QUALITY, method=6)
    else:
        first.save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def write(pictures: Iterable[Picture], kept: Iterable[Row] = ()) -> list[Row]:
    """Write the pictures and the record; rows of `kept` stay in their places unless a picture has their name."""
    rows = {row.name: row for row in kept}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        content = encoded(picture)
        write_whole(FOLDER / f"{picture.name}.webp", lambda file, content=content: file.write(content))
        digest = hashlib.sha256(content).hexdigest()
        rows[picture.name] = Row(picture.name, picture.group, picture.alt, picture.caption, len(content), digest)
    found = {
        "fastloc": fastloc.__version__, "torch": torch.__version__, "pillow": PIL.__version__,
        "pictures": [vars(row) for row in rows.values()],
    }  # fmt: skip
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    write_whole(RECORD, lambda file: file.write(text.encode()))
    return list(rows.values())


def read() -> list[Row]:
    """The record's pictures. Raises TableError for a record that is not there or not as it should be."""
    try:
        return [Row(**row) for row in json.loads(RECORD.read_text(encoding="utf-8"))["pictures"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{RECORD.name} cannot be read ({error}): make it with `{COMMAND}`") from error


def faults(rows: Iterable[Row]) -> list[str]:
    """Differences between the record, the folder and the table of methods, one line each."""
    rows = list(rows)
    there = {path.name: path for path in FOLDER.iterdir()} if FOLDER.is_dir() else {}
    lines = [f"{name} is no picture of the gallery: remove it" for name in sorted(there.keys() - {row.file for row in rows})]
    for row in rows:
        if row.file not in there:
            lines.append(f"{row.file} does not exist: run `{COMMAND}`")
        elif hashlib.sha256(there[row.file].read_bytes()).hexdigest() != row.sha256:
            lines.append(f"{row.file} is not the picture of the record: run `{COMMAND}`")
    methods = [row.name for row in rows if row.group == "methods" and row.name != "scenes"]
    if methods != list(RECIPES):
        lines.append(f"the cards are not of the methods that there are: run `{COMMAND}`")
    if (total := sum(row.bytes for row in rows)) >= MOST:
        lines.append(f"the pictures must have fewer than {MOST:,} bytes together, got {total:,}")
    return lines


def remove_orphans(rows: Iterable[Row]) -> None:
    """Remove files of the folder that no row names. Raises FastlocError for one that is a folder."""
    names = {row.file for row in rows}
    for path in FOLDER.iterdir():
        if path.is_dir():
            raise FastlocError(f"{path}: must be a picture, got a folder; remove it")
        if path.name not in names:
            path.unlink()
