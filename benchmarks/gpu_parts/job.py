"""The context of a part of the GPU script: its device, its clock, and a record that is on the disk while the part still runs."""

import hashlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fastloc.utils import hardware

ROOT = Path(__file__).resolve().parents[2]
# a record is written again when it is this old, in seconds
STALE = 1.0
Row = dict[str, Any]


@dataclass
class Job:
    """One part's run. Rows are kept in long format, one a measurement or check, and saved as they come."""

    part: str
    device: torch.device
    folder: Path
    # what every record begins with: device, versions, commit
    head: Row = field(default_factory=dict)
    # on `clock`, when the part is to stop with what it has
    deadline: float = math.inf
    # tiny shapes and few rounds
    quick: bool = False
    # of the parts that check: only what has this in its title
    only: str = ""
    clock: Callable[[], float] = time.monotonic
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    # whether what the part checks is right; None for a part that only measures
    good: bool | None = None
    _saved: float = -math.inf
    started: float = field(default_factory=time.monotonic)

    @property
    def file(self) -> Path:
        return self.folder / f"{self.part}.json"

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def left(self) -> float:
        """Seconds that remain."""
        return self.deadline - self.clock()

    def late(self, part: str, need: float = 0.0) -> bool:
        """True if `need` seconds or fewer remain; then `what` is noted as left out."""
        if self.left() > need:
            return False
        self.left_out.append(part)
        return True

    def row(self, **fields: Any) -> Row:
        """Add a row to the record."""
        self.rows.append(fields)
        if self.clock() - self._saved > STALE:
            self.save()
        return fields

    def has(self, **fields: Any) -> bool:
        """True if a row with these values is there already, of an earlier run that was cut short."""
        return any(all(row.get(name) == value for name, value in fields.items()) for row in self.rows)

    def other(self, part: str) -> Row | None:
        """Another part's record from the same folder and the same code."""
        found = read(self.folder / f"{part}.json")
        return found if found and found.get("code") == self.head.get("code") else None

    def save(self, finished: bool = False, error: str | None = None) -> None:
        """Write the record, whole or not at all."""
        record = {
            "part": self.part, **self.head, "quick": self.quick, "seconds": round(time.monotonic() - self.started, 1),
            "finished": finished and not self.left_out, "good": self.good, "left_out": self.left_out,
            **({"error": error} if error else {}), "rows": self.rows,
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(written(record), encoding="utf-8")
        temporary.replace(self.file)
        self._saved = self.clock()


def written(record: Row) -> str:
    """JSON with one row a line."""
    plain = clean(record)
    head = json.dumps({name: value for name, value in plain.items() if name != "rows"}, indent=1, ensure_ascii=False)
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in plain["rows"])
    return head[: head.rindex("\n}")] + ',\n "rows": [\n' + rows + "\n ]\n}\n"


def clean(value: Any) -> Any:
    """A value with numbers rounded to five digits, and with those that JSON does not know as words."""
    if isinstance(value, bool) or not isinstance(value, float | dict | list | tuple):
        return value
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(name): clean(each) for name, each in value.items()}
    return [clean(each) for each in value]


def read(file: Path) -> Row | None:
    """A record, or None where there is none that can be read."""
    try:
        record: Row = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("rows"), list) else None


def code() -> str:
    """A fingerprint of all that a record depends on: there may be no git where it is made, and a working tree may be changed."""
    patterns = ("fastloc/*.py", "fastloc/video/*.py", "kernels/*.py", "benchmarks/gpu.py", "benchmarks/gpu_parts/*.py", "export/*.py",
                "benchmarks/video_parts/*.py", "fastloc/bench/*.py", "fastloc/bench/peers/*.py")  # fmt: skip
    files = sorted(file for pattern in patterns for file in ROOT.glob(pattern))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def facts(device: torch.device) -> Row:
    """Facts of the machine for a record. Touches the device."""
    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = "none"
    found = {"torch": torch.__version__, "triton": version, "cuda": torch.version.cuda, "python": platform.python_version(),
             "processor": hardware.cpu(), "cores": os.cpu_count() or 1, "threads": torch.get_num_threads()}  # fmt: skip
    if device.type != "cuda":
        return {"device": hardware.cpu(), "capability": None, "driver": None, **found}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name, "capability": f"{properties.major}.{properties.minor}", "driver": driver(), **found,
        "sms": properties.multi_processor_count, "memory_gb": properties.total_memory / 1e9,
    }  # fmt: skip


def driver() -> str:
    """The driver's version, as nvidia-smi reports it."""
    try:
        output = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True,
                                timeout=20, check=True, encoding="utf-8").stdout.split()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return output[0] if output else "unknown"
