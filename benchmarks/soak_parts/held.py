"""Resources that a process and all below it hold now, as Linux's /proc says, its own heap, and the files below a folder."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from scale_parts.processes import PAGE, tree

__all__ = ["KINDS", "files_below", "heap_in_use", "held"]

# name -> unit and the growth in an hour that counts as none
KINDS = {"rss_mb": ("MB", 1.0), "pss_mb": ("MB", 1.0), "heap_mb": ("MB", 1.0), "descriptors": ("", 1.0), "threads": ("", 1.0),
         "files": ("", 1.0)}  # fmt: skip


def held(root: int) -> dict[str, float]:
    """Resident and proportional memory in MB (a shared page is divided among its processes), open descriptors and threads of a process and
    its descendants. Values are 0 once it has ended."""
    sums = dict.fromkeys(("rss_mb", "pss_mb", "descriptors", "threads"), 0.0)
    for process in tree(root):
        try:
            for name, value in _of_one(Path(f"/proc/{process}")).items():
                sums[name] += value
        # it ended meanwhile
        except (OSError, IndexError, ValueError):
            continue
    return sums


def _of_one(process: Path) -> dict[str, float]:
    resident = int((process / "statm").read_text(encoding="utf-8").split()[1])
    return {
        "rss_mb": resident * PAGE / 1e6,
        "pss_mb": _kilobytes(process / "smaps_rollup", "Pss") * 1024 / 1e6,
        "descriptors": float(len(os.listdir(process / "fd"))),
        "threads": float(len(os.listdir(process / "task"))),
    }


def _kilobytes(file: Path, name: str) -> int:
    for line in file.read_text(encoding="utf-8").splitlines():
        field, _, rest = line.partition(":")
        if field == name:
            return int(rest.split()[0])
    return 0


class _Heap(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
                                                     "fordblks", "keepcost")]  # fmt: skip


def heap_in_use() -> float | None:
    """Bytes of this process that are allocated and not given back, in MB: of all arenas, and of the blocks with a mapping of their own.

    Memory that was freed and that an arena keeps is resident and not in it: a leak grows here, and fragmentation does not. None where the C
    library does not say (glibc before 2.33, and others).
    """
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return None
    ask.restype = _Heap
    found = ask()
    return float(found.uordblks + found.hblkhd) / 1e6


def files_below(folders: Iterable[Path]) -> float:
    """The number of files in folders and all below them."""
    return float(sum(len(names) for folder in folders for _, _, names in os.walk(folder)))
