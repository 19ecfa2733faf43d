"""Pictures of the sources that a batch takes, listed one by one without being read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from fastloc.errors import FastlocError, ImageError
from fastloc.imaging.picture_files import is_address
from fastloc.imaging.picture_formats import EXTENSIONS
from fastloc.imaging.picture_sources import LIST
from fastloc.scale.sources.item import Item
from fastloc.scale.sources.reading import is_remote
from fastloc.scale.sources.tars import TAR, members
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["Columns", "items"]

PARQUET = ".parquet"


@dataclass(frozen=True)
class Columns:
    """Columns of Parquet sources: that of the pictures' bytes or paths, and that of their keys; "" for the usual names."""

    picture: str = ""
    key: str = ""


def items(sources: Sequence[str], columns: Columns | None = None) -> Iterator[Item]:
    """Every picture of the sources, in their order and by name within each; a key that came before is a fault of the later picture.

      a folder        its picture files and those of folders in it; keys are paths relative to it
      a pattern       files that match, relative to the folders before its first wildcard; `**` stands for folders in folders
      a list          .txt, a path or an address a line, relative to the list's folder; the line is the key
      a tar           uncompressed, as WebDataset has them: its picture files; keys are tar/member
      a table         .parquet: a row a picture, as bytes or path; keys are table#row, or table#key where there is a column of keys
      a picture       a file or an address, its own key

    All but http(s) addresses may be addresses of any store that fsspec knows, such as s3://bucket/folder. Where there are several sources,
    keys of folders and patterns begin with the source.

    Raises:
        ImageError: a source that cannot be listed, or that has no picture.
    """
    return _distinct(item for source in sources for item in _some(source, _listed(source, columns or Columns(), len(sources) > 1)))


def _distinct(found: Iterable[Item]) -> Iterator[Item]:
    # of keys 8 bytes are kept: a run may have many millions
    seen: set[int] = set()
    for item in found:
        digest = int.from_bytes(blake2b(item.key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
        yield item if digest not in seen else replace(item, fault=item.fault or f"{item.key}: is a key that an earlier picture has")
        seen.add(digest)


def _some(source: str, found: Iterator[Item]) -> Iterator[Item]:
    any_item = False
    try:
        for item in found:
            any_item = True
            yield item
    except FastlocError:
        raise
    # each store has exceptions of its own
    except Exception as error:
        pass_on(error)
        raise ImageError(f"{source}: cannot be listed ({first_line(error)})") from error
    if not any_item:
        raise ImageError(f"{source}: must hold pictures, got none")


def _listed(source: str, columns: Columns, several: bool) -> Iterator[Item]:
    if is_address(source):
        yield Item(source, source)
        return
    from fsspec.core import url_to_fs

    files, root = url_to_fs(source)
    if is_remote(source):
        files.invalidate_cache()
    found: Iterator[str]
    if glob.has_magic(root) and not files.exists(root):
        base, found = _unwild(root), iter([path for path in sorted(files.glob(root)) if files.isfile(path)])
    elif files.isdir(root):
        base, found = root, (path for path in _walk(files, root) if os.path.splitext(path)[1].lower() in EXTENSIONS)
    elif not is_remote(source) and not os.path.exists(root):
        raise ImageError(f"{source}: no such file or folder")
    else:
        base, found = "", iter([root])
    for path in found:
        relative = path[len(base.rstrip("/")) + 1 :] if base else source
        key = f"{_unwild(source)}/{relative}" if several and base else relative
        yield from _file(files, path, files.unstrip_protocol(path) if is_remote(source) else path, key, columns)


def _unwild(source: str) -> str:
    """A folder, or the folders before a pattern's first wildcard, as they were typed."""
    wild = min((source.find(each) for each in "*?[" if each in source), default=-1)
    return source.rstrip("/") if wild < 0 or os.path.exists(source) else source[:wild].rpartition("/")[0] or "."


def _walk(files: Any, root: str) -> Iterator[str]:
    """Files of a folder by name, then those of the folders in it, without following links to folders."""
    local = "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))
    for folder, folders, names in os.walk(root, onerror=_refuse) if local else files.walk(root, on_error="raise"):
        # in place, which is what decides where the walk goes next
        folders.sort() if isinstance(folders, list) else None
        for name in sorted(names):
            yield f"{folder.rstrip('/')}/{name}"


def _refuse(error: OSError) -> None:
    raise ImageError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def _file(files: Any, path: str, address: str, key: str, columns: Columns) -> Iterator[Item]:
    """The pictures of one file, by its extension."""
    if path.endswith(LIST):
        with files.open(path, "rb") as lines:
            yield from _lines(lines, address)
    elif path.endswith(TAR):
        with files.open(path, "rb") as archive:
            yield from members(archive, address, key)
    elif path.endswith(PARQUET):
        from fastloc.scale.sources.parquet import cells

        yield from cells(address, key, columns.picture, columns.key)
    else:
        yield Item(key, address)


def _lines(lines: Iterable[bytes], address: str) -> Iterator[Item]:
    folder = address.rpartition("/")[0]
    for content in lines:
        line = content.decode("utf-8-sig", "surrogateescape").strip()
        if line and not line.startswith("#"):
            yield Item(line, line if "://" in line or os.path.isabs(line) else f"{folder}/{line}")
