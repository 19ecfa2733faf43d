"""Arrays of an .npz file from elsewhere: sizes are read first, and no more is allocated than the file holds.

`numpy.load` makes an array as large as its header says before it reads a number of it, and unpacks whatever it finds.
"""

from __future__ import annotations

import math
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["LEAST", "RATIO", "read"]

# bytes that a small file may unpack to; a larger one to so many times its own. Embeddings hardly compress, names and digests ten times
LEAST, RATIO = 16 << 20, 4
# arrays of a file, and bytes of the head of one
ARRAYS, HEAD = 64, 10_000


def read(path: Path, names: Sequence[str] | None, arrays: int = ARRAYS) -> dict[str, NDArray[Any]]:
    """Read the arrays of these names (None: all); the file may hold at most `arrays`. Pickled objects are never run.

    Raises:
        ValueError: it would unpack to more than LEAST bytes and RATIO times its size, or a head does not fit its array.
        Exception: any that zipfile, zlib and numpy raise for a damaged file.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        most = max(LEAST, RATIO * path.stat().st_size)
        if len(parts) > arrays or sum(part.file_size for part in parts) > most:
            raise ValueError(f"it must hold at most {arrays} arrays and unpack to at most {most:,} bytes")
        there = {part.filename.removesuffix(".npy"): part for part in parts}
        found = {}
        for name in there if names is None else names:
            if name in there:
                with archive.open(there[name]) as part:
                    found[name] = _array(part, there[name].file_size)
        return found


def _array(part: IO[bytes], size: int) -> NDArray[Any]:
    """One array, of a part of so many bytes."""
    version = npy.read_magic(part)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array is of version {version[0]}.{version[1]}")
    head = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, turned, dtype = head(part, max_header_size=HEAD)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded: they are pickles, which can run code")
    left = size - part.tell()
    if math.prod(shape) * dtype.itemsize != left or any(side < 0 for side in shape):
        raise ValueError(f"an array says that it is {dtype} {list(shape)[:8]}, and has {left:,} bytes")
    flat: NDArray[Any] = np.zeros(math.prod(shape), dtype)
    if left and part.readinto(flat.view(np.uint8).data) != left:  # type: ignore[attr-defined]  # it is buffered
        raise ValueError("an array is truncated")
    # numpy reads any number as a character, and a text with it breaks what takes it
    if left and dtype.kind == "U" and (flat.view(np.dtype("u4").newbyteorder(dtype.byteorder)) > sys.maxunicode).any():
        raise ValueError("a text has numbers that are no characters")
    return flat.reshape(shape, order="F" if turned else "C")
