"""Shards of a batch: a fixed number of pictures in the source's order, committed as one Parquet file each.

A shard is the unit of work, of commit, of resuming and of retrying. Its file appears under its name once it is whole and on the disk, and
names the pictures and settings it was made of; a run that finds it so goes on behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fastloc.errors import FastlocError
from fastloc.scale.locate import Found
from fastloc.scale.rows import FORMAT, KEY, Settings, errors_table, rows_table
from fastloc.scale.sources.item import Item
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.schema import decode
from fastloc.utils.system import files

if TYPE_CHECKING:
    import pyarrow

__all__ = ["SHARD", "Counts", "Shard", "commit", "done", "parts", "shards", "write_table"]

# pictures of a shard
SHARD = 1024


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive pictures of a source."""

    number: int
    items: tuple[Item, ...]

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"part-{self.number:06d}.parquet"

    def keys_hash(self) -> str:
        """The SHA-256 of its keys, in hexadecimal digits."""
        return hashlib.sha256("\0".join(item.key for item in self.items).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class Counts:
    """Pictures: those that came in, those that have rows, and those that failed."""

    pictures: int = 0
    located: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.pictures + other.pictures, self.located + other.located, self.failed + other.failed)


@dataclass(frozen=True)
class _Part:
    """The metadata of a shard's file. short: of those that failed, the pictures for which memory, or something else, ran out."""

    format: int
    keys: str
    settings: str
    pictures: int
    failed: int
    short: int = 0

    def described(self) -> dict[str, Any]:
        """Its fields by name; `short` where there is one, so that folders of an earlier version go on."""
        return {name: value for name, value in asdict(self).items() if value or name != "short"}


def shards(items: Iterable[Item], size: int = SHARD) -> Iterator[Shard]:
    """Shards of `size` pictures, the last of those that are left."""
    source, number = iter(items), 0
    while part := tuple(islice(source, size)):
        yield Shard(number, part)
        number += 1


def commit(folder: Path, shard: Shard, found: Found, settings: Settings) -> Counts:
    """Write a shard's rows and errors into a batch's folder; the rows come last, and their file is what makes it finished.

    Raises FastlocError where a picture is missing or twice in what was found, and where a file cannot be written.
    """
    keys = [row["key"] for row in found.rows[:: len(settings.texts)]] + [error["key"] for error in found.errors]
    if sorted(keys) != sorted(item.key for item in shard.items) or len(found.rows) % len(settings.texts):
        raise FastlocError(f"shard {shard.number}: {len(shard.items)} pictures came in and {len(keys)} came out; nothing of it is written")
    failed = len(found.errors)
    part = _Part(FORMAT, shard.keys_hash(), settings.hash(), len(shard.items), failed, len(found.short))
    metadata = settings.metadata(shard=part.described())
    errors = folder / "errors" / shard.name
    if failed:
        write_table(errors, errors_table(found.errors, metadata))
    write_table(folder / "rows" / shard.name, rows_table(found.rows, metadata))
    if not failed:
        # of an earlier attempt
        try:
            files.remove(errors)
        except OSError as error:
            raise FastlocError(f"{errors}: cannot be removed ({error.strerror or error})") from error
    return Counts(part.pictures, part.pictures - failed, failed)


def done(folder: Path, shard: Shard, settings: Settings) -> Counts | None:
    """The counts of a shard that is finished, of these very pictures and settings; None for one that has to be made, also because
    something ran out for some of its pictures."""
    rows = _part(folder / "rows" / shard.name)
    if rows is None or (rows.keys, rows.settings) != (shard.keys_hash(), settings.hash()) or rows.short:
        return None
    if rows.failed and _part(folder / "errors" / shard.name) != rows:
        return None
    return Counts(rows.pictures, rows.pictures - rows.failed, rows.failed)


def parts(folder: Path) -> list[Path]:
    """The files of finished shards in a folder, in order."""
    return sorted(folder.glob("part-*.parquet"))


def _part(path: Path) -> _Part | None:
    """The origin of a shard's file; None where there is none, or half of one. Raises FastlocError for one that may not be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata: Mapping[bytes, bytes] = pq.read_schema(path).metadata or {}
        shard = decode(metadata[KEY.encode()], _Holder, str(path)).shard
    # a name in it that is not UTF-8 is a ValueError, and so is FastlocError
    except (FileNotFoundError, KeyError, ValueError, pa.ArrowException):
        return None
    except OSError as error:
        # the system's errors have a number; pyarrow raises this class for damage too
        if error.errno is None:
            return None
        raise FastlocError(f"{path}: cannot be read ({error.strerror})") from error
    return shard if shard.format == FORMAT else None


@dataclass(frozen=True)
class _Holder:
    shard: _Part


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a Parquet file, whole and on the disk or not at all. Raises FastlocError."""
    import pyarrow.parquet as pq

    def write(file: BinaryIO) -> None:
        pq.write_table(table, file, compression="zstd")

    try:
        files.make_folder(path.parent, parents=True, exist_ok=True)
    except OSError as error:
        raise FastlocError(f"{path}: cannot be written ({error.strerror or error})") from error
    write_whole(path, write, sync=True)
