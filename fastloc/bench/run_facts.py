"""Columns of the machine and the code that every row has, collected without importing anything heavy."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from fastloc._version import __version__
from fastloc.utils import hardware

# the checkout that this file lies in, or the folder of installed packages
TREE = Path(__file__).resolve().parents[2]
# what a run writes and does not depend on
_WRITTEN = tuple(f":(exclude){each}" for each in ("benchmarks/records", "benchmarks/results", "docs", "fastloc/embedded/quality.json"))
_THROTTLE = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
# bits of NVML's nvmlClocksEventReasons that hold the clocks back; idle and chosen clocks do not
_REASONS = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}


def columns(device: str) -> dict[str, Any]:
    """The columns of a row that are the same for all contenders of a run on "cpu" or "cuda"."""
    kind, _, index = device.partition(":")
    found: dict[str, Any] = {
        "device": hardware.cpu(), "processor": hardware.cpu(), "cores": os.cpu_count() or 1, "python": platform.python_version(),
        "load_before": load(), "commit": commit(),
    }  # fmt: skip
    if kind == "cuda":
        gpus = hardware.gpus()
        place = int(index or 0)
        if place < len(gpus):
            found |= {"device": gpus[place].name, "driver": gpus[place].driver or None, "capability": gpus[place].capability or None}
    return found


def versions(*names: str) -> dict[str, str]:
    """Versions of Python and of those packages that are installed."""
    return {"python": platform.python_version(), **hardware.packages(names)}


def load() -> float | None:
    """The load average over the last minute, where the system reports it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def commit(tree: Path | None = None) -> str:
    """The commit of the code that runs, with + where files other than records and pages differ from it; its version without git."""
    tree = tree or TREE
    said = []
    changes = ("status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN)
    for command in (("rev-parse", "--short", "HEAD"), changes, ("rev-parse", "--show-toplevel")):
        try:
            run = subprocess.run(["git", "--no-optional-locks", "-C", str(tree), *command], capture_output=True, text=True, timeout=20,
                                 check=True, encoding="utf-8")  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return f"version {__version__}"
        said.append(run.stdout.strip())
    # an installed package may lie in somebody else's repository
    if Path(said[2]).resolve() != tree.resolve():
        return f"version {__version__}"
    return said[0] + ("+" if said[1] else "")


def throttled(device: str) -> str | None:
    """The driver's reasons for throttled GPU clocks at this moment; None where it reports nothing."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return None
    for name in _THROTTLE:
        try:
            run = subprocess.run(["nvidia-smi", f"--id={index or 0}", f"--query-gpu={name}", "--format=csv,noheader"], capture_output=True,
                                 text=True, timeout=20, check=True, encoding="utf-8")  # fmt: skip
            bits = int(run.stdout.strip(), 16)
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
        return ", ".join(word for bit, word in _REASONS.items() if bits & bit) or None
    return None
