"""Where compiled engines are kept: one folder for each device, each pair of versions and each file, because no engine serves another.

An engine of TensorRT is bound to the GPU it was timed on and to TensorRT's version; onnxruntime adds a version of its own. All of them are
in the folder's name, so that an upgrade or another GPU builds anew instead of failing on a stale file.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fastloc.errors import PlanError
from fastloc.utils.atomic_write import part_of

__all__ = ["Gpu", "folder", "gpu", "package_version", "prepared", "tensorrt_version", "user_cache"]

# what cuDeviceGetAttribute calls the two halves of the compute capability
_MAJOR, _MINOR = 75, 76
# digits of a file's digest that are in the folder's name
DIGITS = 16
# TensorRT's library, newest last: onnxruntime's provider is linked to 10
_LIBRARIES = ("libnvinfer.so.10", "nvinfer_10.dll", "libnvinfer.so.11", "nvinfer_11.dll")
_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")


@dataclass(frozen=True)
class Gpu:
    """A device by its name and compute capability (major, minor)."""

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{_plain(self.name)}-sm{self.capability[0]}{self.capability[1]}"


def user_cache() -> Path:
    """The platform's folder for what can be made again: LOCALAPPDATA, ~/Library/Caches, or XDG_CACHE_HOME and else ~/.cache."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    given = os.environ.get("XDG_CACHE_HOME", "")
    # the specification calls a relative path invalid
    return Path(given) if Path(given).is_absolute() else home / ".cache"


def folder(base: str | os.PathLike[str] | None, device: Gpu, tensorrt: str, onnxruntime: str, digest: str) -> Path:
    """The folder of one file's engines on one device, below `base` or else the user's cache."""
    root = user_cache() / "fastloc" / "engines" if base is None else Path(base)
    return root / str(device) / _plain(f"tensorrt{tensorrt}-onnxruntime{onnxruntime}") / digest[:DIGITS]


def prepared(path: Path) -> Path:
    """The folder, made where it is missing and tried out before minutes are spent on what cannot be kept.

    Raises:
        PlanError: it cannot be made, or nothing can be written into it.
    """
    trial = part_of(path / "trial")
    try:
        path.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"fastloc")
    except OSError as error:
        reason = error.strerror or error
        raise PlanError(f"cache folder {path} cannot be written to ({reason}): give another one as cache='folder'") from None
    finally:
        # on a file system that is read-only even removing nothing is an error
        if os.access(path, os.W_OK):
            trial.unlink(missing_ok=True)
    return path


def gpu(index: int = 0) -> Gpu:
    """The NVIDIA GPU of this index, asked of the driver, which is all that needs to be installed.

    Raises:
        PlanError: no driver, or no such GPU.
    """
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        raise PlanError(f"no NVIDIA driver: {library} is not there; install the driver, or use providers='cpu'") from None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    halves = [ctypes.c_int(), ctypes.c_int()]
    calls = [
        (driver.cuInit, (0,)),
        (driver.cuDeviceGet, (ctypes.byref(device), index)),
        (driver.cuDeviceGetName, (name, len(name), device)),
        *((driver.cuDeviceGetAttribute, (ctypes.byref(half), which, device)) for half, which in zip(halves, (_MAJOR, _MINOR), strict=True)),
    ]
    for call, arguments in calls:
        if status := call(*arguments):
            raise PlanError(f"the NVIDIA driver has no GPU {index} for this process ({call.__name__} answers {status})")
    return Gpu(name.value.decode(), (halves[0].value, halves[1].value))


def tensorrt_version() -> str:
    """TensorRT's version as its library says it, else as its package does, else "unknown"."""
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
