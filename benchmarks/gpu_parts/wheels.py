"""Packages that a machine without a network lacks: wheels from a folder, whole or in parts, in place of what is installed there.

A wheel that is too large to be copied in one piece is split (`split -b 45M -d NAME.whl NAME.whl.`) and copied part by part into one folder.
onnxruntime-gpu 1.31 is one wheel of 256 MB, for CUDA 13; it takes CUDA's libraries from the torch that is loaded already, and its CUDA
provider needs nothing else. Its TensorRT provider needs TensorRT 10, which is several times as large.
"""

import io
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def on_path(folder: Path | None) -> Iterator[tuple[str, ...]]:
    """The folder's packages are found before all others for as long as this is open; with None nothing changes. Yields their names.

    Raises:
        ValueError: there is no such folder, no wheel in it, or one that is damaged or lacks a part.
    """
    if folder is None:
        yield ()
        return
    with tempfile.TemporaryDirectory() as target:
        found = parts(folder)
        for name, files in found.items():
            try:
                # a wheel is a zip archive of what goes into the folder of packages
                zipfile.ZipFile(io.BytesIO(b"".join(file.read_bytes() for file in files))).extractall(target)
            # what lacks a piece looks damaged in one way or another
            except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
                raise ValueError(f"{folder / name} of {len(files)} part(s) is damaged, or a part is missing ({error})") from None
        sys.path.insert(0, target)
        before = os.environ.get("PYTHONPATH")
        # for commands that are started
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (target, before)))
        try:
            yield tuple(found)
        finally:
            sys.path.remove(target)
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before


def parts(folder: Path) -> dict[str, list[Path]]:
    """The wheels of a folder by file name, each with its parts in order: NAME.whl, or NAME.whl.00, NAME.whl.01 …"""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.whl*")):
        name, ending, _ = path.name.rpartition(".whl")
        found.setdefault(name + ending, []).append(path)
    if not found:
        raise ValueError(f"{folder} holds no wheels (.whl), nor parts of one (.whl.00, .whl.01 …)")
    return found
