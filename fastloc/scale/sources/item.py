"""One picture of a source: its key, and the place of its bytes. A listing makes it without reading the picture, which the locator reads."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Item"]


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that a source lists; it pickles small.

    Attributes:
        key: identity of the picture in its source
        address: the file that holds it: a path or an address
        span: offset and length in bytes of its content in that file, for a member of a tar
        cell: column, row group and row in that, for a row of a Parquet file
        fault: the reason why it cannot be used, where the listing found one already
    """

    key: str
    address: str
    span: tuple[int, int] | None = None
    cell: tuple[str, int, int] | None = None
    fault: str = ""
