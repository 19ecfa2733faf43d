"""JSON in a file's metadata, with the number of its format: read by a fastloc that knows it, and refused by one that would misread it."""

from __future__ import annotations

import json
from typing import Any

from fastloc.errors import ModelError

__all__ = ["read"]


def read(text: str, key: str, known: int, name: str) -> dict[str, Any]:
    """The object in `text`, which stands under `key` in the metadata of the file `name`.

    Raises:
        ModelError: not such JSON, or of another format than the one `known`.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        number = content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name}: its {key!r} metadata is damaged ({type(error).__name__})") from error
    if number != known:
        raise ModelError(
            f"{name} was exported by fastloc {content.get('version', 'of an unknown version')} with {key!r} metadata of format {number}; "
            f"this fastloc reads format {known}: install a newer one, or export the file again"
        )
    return content
