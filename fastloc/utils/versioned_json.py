"""JSON in a file's metadata, with the number of its format: a fastloc that does not know the format refuses it, and misreads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from fastloc.errors import ModelError
from fastloc.utils.schema import SHOWN, decode, shown

__all__ = ["read"]

T = TypeVar("T")


@dataclass(frozen=True)
class _Format:
    format: int
    version: str = "of an unknown version"


def read(text: str | bytes, key: str, known: int, name: str, kind: type[T]) -> T:
    """The object of `kind` in `text`, which stands under `key` in the metadata of the file `name`; see `fastloc.utils.schema.decode`.

    Raises:
        ModelError: not such JSON, or of another format than the one `known`.
    """
    damaged = f"{name}: its {key!r} metadata is damaged"
    found = decode(text, _Format, damaged)
    if found.format != known:
        version = found.version if found.version.isprintable() and len(found.version) <= SHOWN else shown(found.version)
        raise ModelError(
            f"{name} was exported by fastloc {version} with {key!r} metadata of format {shown(found.format)}; "
            f"this fastloc reads format {known}: install a newer one, or export the file again"
        )
    return decode(text, kind, damaged)
