"""Row files of a batch, read picture by picture: of each its objects, which are the boxes of its texts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.errors import FastlocError, warn
from fastloc.scale.labels.masks import Mask, of_boxes
from fastloc.scale.manifest import MANIFEST, read
from fastloc.scale.rows import FORMAT, KEY, Settings, rows_table
from fastloc.scale.shards import parts
from fastloc.utils.schema import decode, first_line, shown

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = ["Filter", "Object", "Picture", "Rows"]

# rows that are in memory at once, each with a mask
ROWS = 256
COLUMNS = ("key", "width", "height", "text_index", "text", "score", "boxes", "mask")


@dataclass(frozen=True)
class _Format:
    format: int


@dataclass(frozen=True)
class Filter:
    """The objects that become labels: those of texts whose score, and whose own heat, reach a least value. None takes all."""

    score: float | None = None
    heat: float | None = None


@dataclass(frozen=True, eq=False)
class Object:
    """One box of a text, in pixels, x1 and y1 just outside it.

    Attributes:
        category: the index of the text among the distinct ones
        heat: the highest in the box
        score: the text's calibrated presence in the picture, within [0, 1], or None
        mask: of the region, or None where the rows have no masks
    """

    category: int
    x0: int
    y0: int
    x1: int
    y1: int
    heat: float
    score: float | None
    mask: Mask | None

    @property
    def confidence(self) -> float:
        """The score; where there is none, the heat."""
        return self.heat if self.score is None else self.score

    @property
    def area(self) -> int:
        """Pixels of the mask, or of the box."""
        return (self.x1 - self.x0) * (self.y1 - self.y0) if self.mask is None else int(self.mask.sum())


@dataclass(frozen=True)
class Picture:
    """One picture: its key in the source, its size in pixels, and its objects, by text and by heat."""

    key: str
    width: int
    height: int
    objects: list[Object]


class Rows:
    """The rows that `fastloc batch` wrote to a folder.

    Attributes:
        folder: what `fastloc batch -o` was given; read for its manifest and `rows/part-*.parquet`
        chosen: the objects that become labels

    Raises FastlocError: no rows; a file that is damaged, of another format, or of other settings than the manifest's; scores that are asked
    for where there are none.
    """

    def __init__(self, folder: Path, chosen: Filter) -> None:
        self._chosen = chosen
        self._parts, manifest = parts(folder / "rows"), read(folder)
        if manifest is None or not self._parts:
            raise FastlocError(f"{folder} must hold {MANIFEST} and rows/part-….parquet; give the folder that `fastloc batch -o` wrote")
        if len(self._parts) != manifest.shards:
            there = f"{len(self._parts)} shards of {'?' if manifest.shards is None else manifest.shards} are there"
            warn(f"{folder}: the batch is not finished, {there}; the labels are theirs", stacklevel=2)
        self.settings = manifest.settings
        for part in self._parts:
            if _settings(part) != self.settings:
                raise FastlocError(f"{part}: its settings must be those of {MANIFEST}, got others; remove it, and run the batch again")
        # a text that was given twice has the same rows twice
        first = {text: self.settings.texts.index(text) for text in self.settings.texts}
        self.texts = tuple(first)
        self._category = {index: category for category, index in enumerate(first.values())}
        if len(first) < len(self.settings.texts):
            warn("texts that were given twice become one label", stacklevel=2)

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        """Key, width and height of each picture, in the order of `pictures`."""
        for (key, width, height), _ in itertools.groupby(self._rows(["key", "width", "height"]), _picture):
            yield key, width, height

    def pictures(self) -> Iterator[Picture]:
        """The pictures, in the rows' order."""
        for (key, width, height), rows in itertools.groupby(self._rows(list(COLUMNS)), _picture):
            yield Picture(key, width, height, [each for row in rows for each in self._objects(row)])

    def _objects(self, row: dict[str, Any]) -> Iterator[Object]:
        category, score = self._category.get(row["text_index"]), row["score"]
        if category is None:
            return
        if self._chosen.score is not None:
            if score is None:
                raise FastlocError("the rows have no scores; leave the least score out, or run the batch with a model that has them")
            if score < self._chosen.score:
                return
        height, width = row["height"], row["width"]
        least = -math.inf if self._chosen.heat is None else self._chosen.heat
        boxes = [box for box in row["boxes"] if box["value"] >= least]
        sides = [(box["x0"], box["y0"], box["x1"], box["y1"]) for box in boxes]
        for x0, y0, x1, y1 in sides:
            if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
                raise _odd(row, f"its boxes must lie within {width} x {height}, got {x0},{y0} to {x1},{y1}")
        try:
            found = [None] * len(boxes) if row["mask"] is None or not boxes else of_boxes(row["mask"], height, width, sides)
        except ValueError as error:
            raise _odd(row, f"its mask is damaged ({first_line(error)})") from error
        for box, side, mask in zip(boxes, sides, found, strict=True):
            yield Object(category, *side, box["value"], score, mask)

    def _rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        for part in self._parts:
            with _opened(part) as file:
                batches = file.iter_batches(batch_size=ROWS, columns=columns)
                while (rows := _next(part, batches)) is not None:
                    yield from rows


def _picture(row: dict[str, Any]) -> tuple[str, int, int]:
    return row["key"], row["width"], row["height"]


def _odd(row: dict[str, Any], fault: str) -> FastlocError:
    return FastlocError(f"{row['key']}, {row['text']!r}: {fault}; remove its row file, and run the batch again")


def _opened(part: Path) -> ParquetFile:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(part)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(part, error) from error


def _next(part: Path, batches: Iterator[Any]) -> list[dict[str, Any]] | None:
    import pyarrow

    try:
        batch = next(batches, None)
        return None if batch is None else batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(part, error) from error


def _damaged(part: Path, error: Exception) -> FastlocError:
    found = f"{part} must be a whole Parquet file, got a damaged one ({first_line(error)})"
    return FastlocError(f"{found}; remove it, and run the batch again: it makes what is missing")


def _settings(part: Path) -> Settings:
    """The settings that a row file was made with. Raises FastlocError."""
    with _opened(part) as file:
        schema = file.schema_arrow
    written = (schema.metadata or {}).get(KEY.encode())
    if written is None:
        raise FastlocError(f"{part} must be a row file of `fastloc batch`, got another Parquet file")
    damaged = f"{part}: its metadata is damaged"
    found = decode(written, _Format, damaged, error=FastlocError).format
    if found != FORMAT:
        raise FastlocError(f"{part}: its format must be {FORMAT}, got {shown(found)}; run the batch again into a new folder")
    known = rows_table([], {}).schema
    for name in COLUMNS:
        if name not in schema.names or schema.field(name).type != known.field(name).type:
            got = schema.field(name).type if name in schema.names else "none"
            raise FastlocError(f"{part}: its column {name!r} must be of {known.field(name).type}, got {got}; run the batch again")
    return decode(written, Settings, damaged, error=FastlocError)
