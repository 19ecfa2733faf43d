"""Pictures with captions: a folder with a table, or shards. Unusable pairs are left out, counted and named."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from fastloc.eclip.shards import read_shards
from fastloc.errors import FastlocError, ImageError
from fastloc.imaging import images
from fastloc.utils.schema import decode

# the columns of pictures and captions in a table, by the usual names of data sets
IMAGE_COLUMNS = ("image", "path", "file_name", "filename", "filepath")
CAPTION_COLUMNS = ("caption", "text", "captions")
# the names of a folder's table, the first existing one
TABLES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")


@dataclass(frozen=True)
class Pair:
    """One picture, as a reader of its bytes, and its captions."""

    name: str
    read: Callable[[], bytes]
    captions: tuple[str, ...]

    def picture(self) -> Image.Image:
        """The picture, RGB. Raises ImageError if its bytes are no picture."""
        try:
            content = self.read()
        except OSError as error:
            raise ImageError(f"{self.name}: cannot be read ({error})") from error
        return images.load(content, self.name)


@dataclass
class Left:
    """The pairs left out, as reason -> names. With `strict` the first one is an error."""

    strict: bool = False
    names: dict[str, list[str]] = field(default_factory=dict)

    def out(self, why: str, name: str) -> None:
        if self.strict:
            raise FastlocError(f"{name}: {why}; without --strict it is left out")
        known = self.names.setdefault(why, [])
        if name not in known:
            known.append(name)

    def lines(self, most: int = 5) -> list[str]:
        """One line for each reason, with at most `most` names."""
        dots = {why: " …" if len(names) > most else "" for why, names in self.names.items()}
        return [f"{len(names)} left out, {why}: {', '.join(names[:most])}{dots[why]}" for why, names in self.names.items()]


def read_pairs(data: Sequence[Path], left: Left) -> list[Pair]:
    """Every usable pair, in the order of the data.

    Args:
        data: one folder with a table, see TABLES; one such table; or WebDataset shards (.tar).

    Raises:
        FastlocError: no data, a table that cannot be read, fewer than two pairs.
    """
    kinds = {path.suffix.lower() == ".tar" for path in data}
    if kinds == {True}:
        rows: Iterable[tuple[str, Callable[[], bytes], list[str]]] = read_shards(data, left.out)
    elif len(data) == 1:
        rows = _from_table(data[0], left)
    else:
        raise FastlocError(f"data must be one folder or table, or .tar shards alone, got {', '.join(map(str, data))}")
    pairs = list(_usable(rows, left))
    if len(pairs) < 2:
        why = "; ".join(["", *left.lines(2)])
        raise FastlocError(f"{data[0]} must hold two or more usable pairs of picture and caption, got {len(pairs)}{why}")
    return pairs


def fingerprint(pairs: Sequence[Pair]) -> str:
    """A digest of names and captions; a training resumes only with the same digest."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.name, *pair.captions]).encode())
    return f"sha256:{digest.hexdigest()}"


def _usable(rows: Iterable[tuple[str, Callable[[], bytes], list[str]]], left: Left) -> Iterator[Pair]:
    for name, read, captions in rows:
        spoken = tuple(dict.fromkeys(text.strip() for text in captions if text.strip()))
        if spoken:
            yield Pair(name, read, spoken)
        else:
            left.out("no caption", name)


def _from_table(given: Path, left: Left) -> Iterator[tuple[str, Callable[[], bytes], list[str]]]:
    table = given
    if os.path.isdir(given):
        found = [given / name for name in TABLES if (given / name).is_file()]
        if not found:
            raise FastlocError(f"{given} must hold a table, {' or '.join(TABLES)}, with columns image and caption, got none")
        table = found[0]
    captions: dict[str, list[str]] = {}
    for name, texts in _rows(table):
        captions.setdefault(name, []).extend(texts)
    for name, texts in captions.items():
        path = table.parent / name
        if os.path.isfile(path):
            yield name, path.read_bytes, texts
        else:
            left.out("no such picture", name)


def _rows(table: Path) -> Iterator[tuple[str, list[str]]]:
    reader = {".csv": _csv, ".jsonl": _jsonl}.get(table.suffix.lower())
    if reader is None:
        raise FastlocError(f"data must be a folder, a .csv, a .jsonl or .tar shards, got {table}")
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(reader(lines, str(table)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FastlocError(f"{table}: cannot be read ({error})") from error
    for number, row in rows:
        image, text = (_cell(row, names, f"{table}, line {number}") for names in (IMAGE_COLUMNS, CAPTION_COLUMNS))
        texts = text if isinstance(text, list) else [text]
        if not isinstance(image, str) or not image or not all(isinstance(each, str) for each in texts):
            raise FastlocError(f"{table}, line {number}: must hold a path and a caption, or a list of them, got {image!r} and {text!r}")
        yield image, texts


def _csv(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(lines)
    for row in reader:
        # a missing cell is an empty one
        yield reader.line_num, {key: value or "" for key, value in row.items() if key is not None}


def _jsonl(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = decode(line, Any, f"{name}, line {number}: is not JSON", error=FastlocError)
            if not isinstance(row, dict):
                raise FastlocError(f"{name}, line {number}: must be a JSON object")
            yield number, row


def _cell(row: dict[str, Any], names: tuple[str, ...], where: str) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise FastlocError(f"{where}: no column {names[0]!r} among {', '.join(map(repr, row)) or 'none'} (also known: {', '.join(names[1:])})")
