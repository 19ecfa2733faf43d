"""File names for the keys of pictures: within one folder, and fit for every file system."""

from __future__ import annotations

import hashlib
import re

__all__ = ["digest", "ending", "relative_name"]

# endings of pictures; of other keys, such as `rows.parquet#3`, the whole key is the name
_ENDING = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?|heic|heif|avif|jp2|ppm|pgm)$", re.IGNORECASE)
# bytes of one part of a path; file systems take 255, and a digest and an ending must fit
LONGEST = 200


def relative_name(key: str) -> str:
    """A path for a key, relative and without the ending of a picture. Where it cannot be the key's own, it ends in a digest of the key."""
    plain = key.removesuffix(ending(key))
    name = "/".join(part for part in map(_part, re.split(r"[/\\]", plain)) if part)
    return name if name and name == plain else f"{name or 'picture'}-{digest(key)}"


def ending(key: str) -> str:
    """The ending of a picture that a key has, with its dot, or nothing."""
    found = _ENDING.search(key)
    return found[0] if found else ""


def _part(text: str) -> str:
    kept = "".join(each if each.isprintable() and each not in '<>:"|?*' else "_" for each in text)
    # neither `..` nor a name that Windows would cut
    return kept.rstrip(" .").encode()[:LONGEST].decode(errors="ignore")


def digest(key: str) -> str:
    """A short digest of a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]
