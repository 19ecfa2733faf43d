"""Picture files of an uncompressed tar, each by where its bytes lie in it."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from fastloc.errors import ImageError
from fastloc.imaging.picture_formats import EXTENSIONS
from fastloc.scale.sources.item import Item

__all__ = ["TAR", "members"]

TAR = (".tar", ".tar.gz", ".tgz")


def members(file: BinaryIO, address: str, key: str) -> Iterator[Item]:
    """The pictures of an open tar, in its order. One that ends too soon has a fault as its last item.

    Raises ImageError for what is no tar, and for a compressed one, in which nothing can be looked up.
    """
    try:
        archive = tarfile.TarFile(fileobj=_Within(file))  # type: ignore[arg-type]  # it reads and seeks
    except (tarfile.TarError, ValueError, OverflowError):
        raise ImageError(f"{address}: must be a whole, uncompressed tar; a compressed one is unpacked with gunzip") from None
    with archive:
        try:
            for member in archive:
                # it would keep every one
                archive.members = []  # type: ignore[attr-defined]
                if member.isreg() and os.path.splitext(member.name)[1].lower() in EXTENSIONS:
                    yield Item(f"{key}/{member.name}", address, span=(member.offset_data, member.size))
        except (tarfile.TarError, ValueError, OverflowError) as error:
            yield Item(key, address, fault=f"{address}: is a damaged tar ({error}); what comes before is used")


class _Within:
    """An open file whose reads ask for no more than it has: a header may say that a name has terabytes, and a read would reserve them."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.tell, self.seek = file, file.tell, file.seek
        here = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(here)

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self.file.tell())
        return self.file.read(left if size < 0 else min(size, left))
