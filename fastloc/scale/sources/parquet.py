"""Pictures in the rows of a Parquet file: their bytes, or their paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from fastloc.errors import ImageError
from fastloc.scale.sources.item import Item
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.schema import shown

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

__all__ = ["cell", "cells"]

# the usual names of columns, the likeliest first
PICTURES = ("image", "bytes", "jpg", "jpeg", "png", "webp", "content", "img", "path", "file", "file_name", "url", "uri")
KEYS = ("key", "__key__", "id", "image_id")

_reading = renewed_after_fork(Lock())


def cells(address: str, name: str, picture: str = "", key: str = "") -> Iterator[Item]:
    """The pictures of a file's rows, in order. Keys are `name#row`, or `name#key` where there is a column of keys.

    A column of text has paths or addresses, relative to the file's folder; one of bytes, or of Hugging Face's {bytes, path}, the pictures.

    Raises:
        ImageError: a file that is no Parquet, or without such a column.
    """
    import pyarrow as pa

    try:
        table = _opened(address)
    except pa.ArrowInvalid as error:
        raise ImageError(f"{address}: must be a Parquet file ({str(error).splitlines()[0]})") from None
    schema = table.schema_arrow
    column = _column(schema.names, picture, PICTURES, address, "pictures")
    keys = _column(schema.names, key, KEYS, address, "keys") if key or set(KEYS) & set(schema.names) else ""
    kind = schema.field(column).type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (is_text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind)):
        raise ImageError(f"{address}: column {column!r} must hold bytes or paths of pictures, got {kind}")
    columns = [each for each in (keys, column if is_text else "") if each]
    number = 0
    for group in range(table.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        found = table.read_row_group(group, columns=columns)
        for row in range(count):
            name_of_row = f"{name}#{number if not keys else found[keys][row].as_py()}"
            if is_text:
                yield _pointed(name_of_row, address, found[column][row].as_py())
            else:
                yield Item(name_of_row, address, cell=(column, group, row))
            number += 1


def cell(address: str, column: str, group: int, row: int) -> bytes:
    """The bytes of one picture. Raises ImageError for a cell without any."""
    # several threads request the pictures of a group, which is read once
    with _reading:
        found = _group(address, column, group)
    value = found[row].as_py()
    content = value.get("bytes") if isinstance(value, dict) else value
    if not content:
        raise ImageError(f"{address}: row {row} of group {group} has no picture in column {column!r}")
    return bytes(content)


@lru_cache(maxsize=2)
def _group(address: str, column: str, group: int) -> Any:
    return _opened(address).read_row_group(group, columns=[column])[column]


def _opened(address: str) -> pyarrow.parquet.ParquetFile:
    import pyarrow.parquet as pq
    from fsspec.core import url_to_fs

    files, path = url_to_fs(address)
    return pq.ParquetFile(path, filesystem=None if "://" not in address else files)


def _pointed(key: str, address: str, path: str | None) -> Item:
    """The picture that a cell of text names."""
    if not path:
        return Item(key, address, fault=f"{key}: names no picture")
    return Item(key, path if "://" in path or os.path.isabs(path) else f"{address.rpartition('/')[0]}/{path}")


def _column(names: list[str], given: str, usual: tuple[str, ...], address: str, what: str) -> str:
    found = next((name for name in ((given,) if given else usual) if name in names), "")
    if not found:
        raise ImageError(f"{address}: must have a column {given or ', '.join(usual)!r} of {what}, got {shown(names)}")
    return found
