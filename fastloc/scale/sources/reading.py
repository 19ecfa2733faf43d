"""The content of a listed picture: a file, an address, a member of a tar or a cell of a Parquet file."""

from __future__ import annotations

from typing import Any

from fastloc.errors import ImageError
from fastloc.imaging.picture_files import MAX_BYTES, is_address
from fastloc.scale.sources.item import Item
from fastloc.utils.schema import first_line

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
        raise ImageError(f"{item.address}: cannot be read ({first_line(error)})") from error


def _content(item: Item) -> Any:
    if item.cell is not None:
        from fastloc.scale.sources.parquet import cell

        return cell(item.address, *item.cell)
    from fsspec.core import open as opened

    with opened(item.address, "rb") as file:
        start, size = item.span or (0, MAX_BYTES + 1)
        file.seek(start)
        found: bytes = file.read(size)
    if item.span is None and len(found) > MAX_BYTES:
        raise ImageError(f"{item.address}: must hold at most {MAX_BYTES:,} bytes")
    if item.span is not None and len(found) < size:
        raise ImageError(f"{item.address}: ends within {item.key}; copy it again")
    return found
