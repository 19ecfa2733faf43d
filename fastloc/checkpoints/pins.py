"""Pins of weights: `pretrained` may end in `@sha256:…`, and a file with another digest is not read."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from fastloc.errors import ModelError

__all__ = ["check", "split"]

_PIN = re.compile(r"(?:(?P<pretrained>.+)@)?sha256:(?P<digest>[0-9A-Fa-f]{64})", re.DOTALL)


def split(pretrained: str | None) -> tuple[str | None, str | None]:
    """A tag or file without its pin, and the digest in lower case; either is None if absent.

    `sha256:…` alone pins the weights that come with a model, those of a folder or a repository.

    Raises:
        ModelError: a pin of another form.

    >>> split("laion2b_s34b_b88k@sha256:" + 64 * "0")[0]
    'laion2b_s34b_b88k'
    """
    found = None if pretrained is None else _PIN.fullmatch(pretrained)
    if found is not None:
        return found["pretrained"], found["digest"].lower()
    if pretrained is not None and re.search(r"(^|@)sha256:", pretrained):
        raise ModelError(f"a pin must be sha256: and 64 hexadecimal digits, got pretrained={pretrained!r}; `sha256sum FILE` prints them")
    return pretrained, None


def check(file: Path, digest: str) -> None:
    """Check a file against its pin. Raises ModelError if its digest differs, or it cannot be read."""
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{str(file)!r} cannot be read ({error.strerror})") from error
    if found != digest:
        raise ModelError(f"weights {str(file)!r} must have sha256 {digest}, got {found}; they are not the ones that were pinned")
