"""Folders of compiled engines: one for each device, each pair of versions and each file, because no engine fits another.

An engine of TensorRT is bound to the GPU it was timed on and to TensorRT's version; onnxruntime adds a version of its own. All of them are
in the folder's name, so that an upgrade or another GPU builds anew instead of failing on a stale file.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from fastloc.errors import PlanError
from fastloc.utils.atomic_write import create, part_of
from fastloc.utils.hardware import Gpu
from fastloc.utils.system import files, remains
from fastloc.utils.user_cache import user_cache

__all__ = ["building", "device_name", "folder", "package_version", "prepared", "tensorrt_version"]

# what marks a folder that a runtime may be writing to
BUILDING = "building"
# digits of a file's digest that are in the folder's name
DIGITS = 16
# TensorRT's library, newest last: onnxruntime's provider is linked to 10
_LIBRARIES = ("libnvinfer.so.10", "nvinfer_10.dll", "libnvinfer.so.11", "nvinfer_11.dll")
_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")


def folder(base: str | os.PathLike[str] | None, device: Gpu, tensorrt: str, onnxruntime: str, digest: str) -> Path:
    """The folder of one file's engines on one device, below `base` or else the user's cache."""
    root = user_cache() / "engines" if base is None else Path(base)
    return root / device_name(device) / _plain(f"tensorrt{tensorrt}-onnxruntime{onnxruntime}") / digest[:DIGITS]


def device_name(device: Gpu) -> str:
    """A GPU as a folder's name: NVIDIA-H200-sm90."""
    return f"{_plain(device.name)}-sm{device.capability.replace('.', '')}"


def prepared(path: Path) -> Path:
    """The folder, made where it is missing, and tested by a write before a build of minutes whose engine could not be kept.

    Where a process was killed while a runtime wrote engines there, all of them are removed: one may be half written. See `building`.

    Raises:
        PlanError: it cannot be made, or nothing can be written into it.
    """
    remains.clean(path / "trial")
    trial = part_of(path / "trial")
    try:
        files.make_folder(path, parents=True, exist_ok=True)
        with files.opened(trial, "xb") as file:
            file.write(b"fastloc")
        if remains.abandoned(path / BUILDING):
            for each in path.iterdir():
                if each.is_file():
                    files.remove(each)
    except OSError as error:
        reason = error.strerror or error
        raise PlanError(f"cache folder {path} cannot be written to ({reason}): give another one as cache='folder'") from None
    finally:
        # on a file system that is read-only even removing nothing is an error
        with suppress(OSError):
            files.remove(trial)
    return path


@contextmanager
def building(path: Path | None) -> Iterator[None]:
    """A block in which a runtime may write engines into a folder that `prepared` gave: runtimes write them under their final names.

    A file marks it, which a killed process leaves. None: nothing is marked.
    """
    if path is None:
        yield
        return
    mark = part_of(path / BUILDING)
    held: int | None = None
    try:
        # without a mark it is built all the same
        with suppress(OSError):
            held = remains.held(mark, lambda: create(mark))
        yield
    finally:
        with suppress(OSError):
            files.remove(mark)
        if held is not None:
            os.close(held)


def tensorrt_version() -> str:
    """TensorRT's version by its library, else by its package, else "unknown"."""
    for name in _LIBRARIES:
        try:
            number = int(ctypes.CDLL(name).getInferLibVersion())
        except (OSError, AttributeError):
            continue
        # 10.14.1 is 101401, and before 10 8.6.1 was 8601
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return package_version(*_PACKAGES)


def package_version(*packages: str) -> str:
    """The version of the first of these packages that is installed, else "unknown"."""
    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _plain(name: str) -> str:
    """Letters, digits, dots and hyphens alone: a folder's name on every system."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
