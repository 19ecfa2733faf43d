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
        archive = tarfile.TarFile(fileobj=file)
    except tarfile.TarError:
        raise ImageError(f"{address}: must be a whole, uncompressed tar; a compressed one is unpacked with gunzip") from None
    with archive:
        try:
            for member in archive:
                # it would keep every one
                archive.members = []  # type: ignore[attr-defined]
                if member.isreg() and os.path.splitext(member.name)[1].lower() in EXTENSIONS:
                    yield Item(f"{key}/{member.name}", address, span=(member.offset_data, member.size))
        except tarfile.TarError as error:
            yield Item(key, address, fault=f"{address}: is a damaged tar ({error}); what comes before is used")
