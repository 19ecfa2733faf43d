"""Facts of this machine: processor, NVIDIA GPUs and driver, installed packages. Nothing is imported for them, and no query may fail."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastloc.errors import PlanError

__all__ = ["Gpu", "cpu", "cuda_driver", "cuda_gpu", "gpus", "linked_libraries", "packages", "processors"]

# what cuDeviceGetAttribute calls the two halves of the compute capability
_MAJOR, _MINOR = 75, 76
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB = 1, 5
_LIBCUDA = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """One GPU. capability as in "8.9"; memory in MiB; "" and 0 where the driver does not report them."""

    name: str
    driver: str = ""
    capability: str = ""
    memory: int = 0


def cpu() -> str:
    """The processor's name and the number of its threads; the board's name where there is one (Jetson, Raspberry Pi)."""
    named = _first(_board, _proc_cpuinfo, _sysctl, platform.processor, platform.machine)
    return f"{named or 'unknown processor'}, {os.cpu_count() or 1} threads"


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs by nvidia-smi, or by the driver's library where that tool is missing; none without a driver."""
    return _by_nvidia_smi() or _by_libcuda()


def cuda_gpu(index: int = 0) -> Gpu:
    """The NVIDIA GPU of this index by name and compute capability, asked of the driver, which is all that needs to be installed.

    Raises:
        PlanError: no driver, or no such GPU.
    """
    driver = _libcuda()
    if driver is None:
        raise PlanError(f"no NVIDIA driver: {_LIBCUDA} is not there; install the driver, or use providers='cpu'")
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
    return Gpu(name.value.decode(errors="replace"), capability=f"{halves[0].value}.{halves[1].value}")


def cuda_driver() -> tuple[int, int] | None:
    """The newest CUDA that the driver can run, (major, minor), or None without a driver."""
    library = _libcuda()
    number = ctypes.c_int(0)
    if library is None or library.cuDriverGetVersion(ctypes.byref(number)) or not number.value:
        return None
    return number.value // 1000, number.value % 1000 // 10


def packages(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def linked_libraries(path: Path) -> tuple[str, ...]:
    """Names of the shared libraries that an ELF library (64 bit, little-endian) is linked to; none for anything else.

    Source: the System V ABI, chapter 5: the dynamic segment holds pairs (tag, value), DT_NEEDED's value an offset into the string table.
    """
    try:
        with path.open("rb") as file:
            return _needed(file)
    except (OSError, struct.error, StopIteration):
        return ()


def _needed(file: BinaryIO) -> tuple[str, ...]:
    def unpack(form: str, at: int) -> tuple[int, ...]:
        file.seek(at)
        return struct.unpack(form, file.read(struct.calcsize(form)))

    if unpack("<6B", 0) != (0x7F, 0x45, 0x4C, 0x46, 2, 1):
        return ()
    (start,), (size, count) = unpack("<Q", 0x20), unpack("<HH", 0x36)
    # (type, flags, offset, address, physical address, bytes in the file)
    segments = [unpack("<IIQQQQ", start + size * index) for index in range(count)]
    _, _, at, _, _, length = next(each for each in segments if each[0] == _PT_DYNAMIC)
    tags = [unpack("<qQ", at + offset) for offset in range(0, length, 16)]
    address = next(value for tag, value in tags if tag == _DT_STRTAB)
    strings = next(each[2] + address - each[3] for each in segments if each[0] == _PT_LOAD and each[3] <= address < each[3] + each[5])

    def text(offset: int) -> str:
        file.seek(strings + offset)
        return file.read(256).partition(b"\0")[0].decode(errors="replace")

    return tuple(text(value) for tag, value in tags if tag == _DT_NEEDED)


def _first(*sources: object) -> str:
    for source in sources:
        assert callable(source)
        if named := str(source()).strip():
            return named
    return ""


def _board() -> str:
    return _read(Path("/proc/device-tree/model")).rstrip("\0")


def _proc_cpuinfo() -> str:
    lines = (line.partition(":") for line in _read(Path("/proc/cpuinfo")).splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "model name"), "")


def _sysctl() -> str:
    return _output("sysctl", "-n", "machdep.cpu.brand_string") if platform.system() == "Darwin" else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace", encoding="utf-8")
    except OSError:
        return ""


def _output(*command: str) -> str:
    """The output of a tool; "" if it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, encoding="utf-8")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _by_nvidia_smi() -> tuple[Gpu, ...]:
    rows = [[cell.strip() for cell in line.split(",")] for line in _output(*_QUERY).splitlines()]
    return tuple(Gpu(row[0], row[1], row[2], int(row[3]) if row[3].isdecimal() else 0) for row in rows if len(row) == 4)


def _by_libcuda() -> tuple[Gpu, ...]:
    library = _libcuda()
    count = ctypes.c_int(0)
    if library is None or library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    found = []
    for index in range(count.value):
        try:
            found.append(cuda_gpu(index))
        except PlanError:
            found.append(Gpu("unknown GPU"))
    return tuple(found)


def _libcuda() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(_LIBCUDA)
    except OSError:
        return None
