"""The content of a listed picture: a file, an address, a member of a tar or a cell of a Parquet file."""

from __future__ import annotations

from typing import Any

from fastloc.errors import ImageError
from fastloc.imaging.picture_files import MAX_BYTES, is_address
from fastloc.scale.sources.item import Item
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["content", "is_remote"]


def is_remote(address: str) -> bool:
    """True for an address that fsspec opens; False for a path and for an http(s) address, which fastloc reads itself."""
    return "://" in address and not is_address(address)


def content(item: Item) -> Any:
    """Bytes of a picture, or the path or address that `fastloc.imaging.images.load` reads. Raises ImageError."""
    if item.fault:
        raise ImageError(item.fault)
    if item.span is None and item.cell is None and not is_remote(item.address):
        return item.address
    try:
        return _content(item)
    except ImageError:
        raise
    # each store has exceptions of its own
    except Exception as error:
        pass_on(error)
        raise ImageError(f"{item.address}: cannot be read ({first_line(error)})") from error


def _content(item: Item) -> Any:
    if item.cell is not None:
        from fastloc.scale.sources.parquet import cell

        return cell(item.address, *item.cell)
    from fsspec.core import url_to_fs

    files, path = url_to_fs(item.address)
    if item.span is None:
        return files.cat_file(path)
    start, size = item.span
    if size > MAX_BYTES:
        raise ImageError(f"{item.key}: must hold at most {MAX_BYTES:,} bytes, got {size:,}")
    # one request for these bytes: an open file would read ahead
    found = files.cat_file(path, start, start + size)
    if len(found) < size:
        raise ImageError(f"{item.address}: ends within {item.key}; copy it again")
    return found
