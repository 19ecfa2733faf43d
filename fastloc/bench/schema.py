"""The records: one line of JSON a measurement, each with everything it depends on, so that files of many machines can be put together.

A file is one run; a folder is one machine. Rows are appended as they are measured, so a run that is stopped keeps what it has.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastloc.errors import FastlocError
from fastloc.utils.schema import plain, read_file
from fastloc.utils.system import files, lines

Row = dict[str, Any]
SUFFIX = ".jsonl"
# of one file, which is one run
RECORD_BYTES = 256 << 20
# the contender of which every group's times are multiples: the untouched encoder
ENCODER = "encoder"


@dataclass(frozen=True)
class Column:
    """One field of a row: its Python types as JSON has them, and what it says."""

    name: str
    kinds: tuple[type, ...]
    meaning: str


_NUMBER, _TEXT, _WHOLE, _MAP, _LIST = (float, int), (str,), (int,), (dict,), (list,)

COLUMNS = {
    column.name: column
    for column in (
        Column("run", _TEXT, "when the run began, UTC, as 20261121-184005"),
        Column("suite", _TEXT, "what it belongs to: methods, tokens, batch, texts, blocks, waterfall, cold, ceilings, gpu-speed …"),
        Column("group", _TEXT, "rows of one run and group were measured in turns with one another"),
        Column("contender", _TEXT, "who: a backend of fastloc, or a peer"),
        Column("by", _TEXT, "fastloc or peer"),
        Column("step", _TEXT, "of the waterfall: what this row adds to the one before"),
        Column("case", _TEXT, "of a kernel: its shape"),
        # what
        Column("model", _TEXT, "embedded, or an open_clip architecture"),
        Column("weights", _TEXT, "trained or random"),
        Column("method", _TEXT, "the recipe, or what a peer computes"),
        Column("changes", _MAP, "recipe fields that were changed"),
        Column("height", _WHOLE, "of the model's input, pixels"),
        Column("width", _WHOLE, "of the model's input, pixels"),
        Column("tokens", _WHOLE, "patches and the class token"),
        Column("batch", _WHOLE, "pictures a call"),
        Column("texts", _WHOLE, "texts, encoded beforehand"),
        Column("dtype", _TEXT, "of the image tower"),
        Column("compiled", (bool,), "through torch.compile"),
        Column("plan", _MAP, "how it was executed, see fastloc.engine.plan"),
        Column("provider", _TEXT, "onnxruntime's"),
        Column("spinning", (bool,), "whether onnxruntime's threads spin while they wait in a call; where it is missing, they did"),
        Column("note", _TEXT, "what else is to be known"),
        # where
        Column("device", _TEXT, "what it ran on: the GPU's name or the processor's"),
        Column("driver", _TEXT, "of the GPU"),
        Column("capability", _TEXT, "of the GPU"),
        Column("processor", _TEXT, "the host's"),
        Column("cores", _WHOLE, "logical processors"),
        Column("threads", _WHOLE, "that a contender is set to use"),
        Column("load_before", _NUMBER, "load average over the minute before the run"),
        Column("throttled", _TEXT, "what the driver said held the clocks back"),
        Column("python", _TEXT, "of the contender's process"),
        Column("versions", _MAP, "packages of the contender's process"),
        Column("commit", _TEXT, "of fastloc, with + where files differ from it"),
        # correctness
        Column("error", _NUMBER, "largest difference from the float32 reference over its largest value, as fractions of 1"),
        Column("allowed", _NUMBER, "the largest error with which a speed is reported"),
        Column("checked", _TEXT, "what the error is of, where not of this very case; 'cost only' where nothing is compared"),
        Column("failed", _TEXT, "why there are no times"),
        # times, of single calls
        Column("ms", _NUMBER, "median milliseconds, pixels on the device to grids on the device"),
        Column("ms_p20", _NUMBER, "20th percentile"),
        Column("ms_p80", _NUMBER, "80th percentile"),
        Column("ms_p99", _NUMBER, "99th percentile"),
        Column("end_ms", _NUMBER, "median milliseconds, frame in host memory to heatmaps in host memory"),
        Column("end_ms_p20", _NUMBER, "20th percentile"),
        Column("end_ms_p80", _NUMBER, "80th percentile"),
        Column("end_ms_p99", _NUMBER, "99th percentile"),
        Column("frame", _LIST, "(height, width) of that frame"),
        Column("rounds", _WHOLE, "turns it had"),
        Column("calls", _WHOLE, "calls timed in all of them"),
        Column("ratios", _MAP, "contender -> [this one's time over that one's, and its 95 % interval], of the same rounds"),
        Column("import_s", _NUMBER, "cold start: from the process's start until its packages are imported"),
        Column("load_s", _NUMBER, "cold start: until the model is loaded"),
        Column("first_ms", _NUMBER, "the first call"),
        # memory
        Column("loaded_mb", _NUMBER, "resident once the model is loaded"),
        Column("peak_mb", _NUMBER, "peak resident during a call, libraries included"),
        Column("working_mb", _NUMBER, "of that, above what was resident once the model was loaded"),
        Column("device_mb", _NUMBER, "peak of PyTorch's memory on the GPU"),
        Column("device_working_mb", _NUMBER, "of that, above what was there before the call"),
        Column("needs_mb", _NUMBER, "an estimate of what it would take, where it was not run for that"),
        # the limit
        Column("gflop", _NUMBER, "of one call, counted from the plan"),
        Column("moved_mb", _NUMBER, "bytes that must move at least: weights, inputs, outputs"),
        Column("traffic_mb", _NUMBER, "bytes that the plan's ops read and write"),
        Column("floor_ms", _NUMBER, "the least time at this machine's measured ceilings"),
        Column("bound", _TEXT, "what the floor comes from: products or memory"),
        Column("achieved", _NUMBER, "floor_ms / ms"),
        Column("rate", _NUMBER, "of a ceiling"),
        Column("unit", _TEXT, "of that rate"),
        Column("quality", _MAP, "pointing, miou and auc of the method on the embedded quality set"),
    )
}
# what a row cannot do without
NEEDED = ("run", "suite", "contender", "device", "commit", "versions")


def checked(row: Mapping[str, Any]) -> Row:
    """The row without what is None, numbers rounded to five digits.

    Raises:
        FastlocError: a column that is unknown, missing or of another type, or a number that is not finite.
    """
    found = {name: _rounded(value) for name, value in row.items() if value is not None}
    for name, value in found.items():
        if name not in COLUMNS:
            raise FastlocError(f"a record has no column {name!r}")
        if not isinstance(value, COLUMNS[name].kinds):
            raise FastlocError(f"column {name!r} must be {' or '.join(kind.__name__ for kind in COLUMNS[name].kinds)}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise FastlocError(f"column {name!r} must be finite, got {value}; leave it out and say why in 'failed'")
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise FastlocError(f"a record must have every needed column, got none of {', '.join(missing)}")
    return found


class Log:
    """A file that rows are appended to, each on the disk before the next is measured."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[Row] = []

    def add(self, row: Mapping[str, Any]) -> Row:
        """Append a row. Raises FastlocError for a row that `checked` refuses, and where it cannot be written."""
        one = checked(row)
        try:
            files.make_folder(self.file.parent, parents=True, exist_ok=True)
            lines.append(self.file, (json.dumps(one, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise FastlocError(f"{self.file}: cannot be written ({error.strerror or error})") from error
        self.rows.append(one)
        return one


def read(path: Path) -> list[Row]:
    """The rows of a file, or of every file in a folder and the folders in it, oldest run first.

    Raises:
        FastlocError: there is none, or a line is not a row.
    """
    # a name that no file system takes is neither
    there = [path] if os.path.isfile(path) else sorted(path.rglob(f"*{SUFFIX}")) if os.path.isdir(path) else []
    if not there:
        what = "holds no records" if os.path.isdir(path) else "does not exist"
        raise FastlocError(
            f"records must be a {SUFFIX} file or a folder of them, got {str(path)!r}, which {what}; `python -m fastloc.bench` writes them"
        )
    return sorted((row for file in there for row in _lines(file)), key=lambda row: str(row["run"]))


def _lines(file: Path) -> Iterator[Row]:
    content = read_file(file, f"record {str(file)!r}", RECORD_BYTES, FastlocError)
    found = content.splitlines()
    for number, line in enumerate(found, 1):
        try:
            yield checked(plain(line, "it is not JSON", error=FastlocError))
        except FastlocError as error:
            # a killed process had begun the last one
            if number == len(found) > 1 and not content.endswith(b"\n"):
                return
            raise FastlocError(f"{str(file)!r}, line {number}, is not a record: {error}") from error


def newest(rows: Iterable[Row], suite: str) -> list[Row]:
    """The rows of the newest run that has this suite."""
    mine = [row for row in rows if row["suite"] == suite]
    last = max((str(row["run"]) for row in mine), default="")
    return [row for row in mine if row["run"] == last]


def slug(name: str) -> str:
    """A device's name as a folder: "NVIDIA H200" -> "nvidia-h200"."""
    return "-".join("".join(each if each.isalnum() else " " for each in name.lower()).split()) or "unknown"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else value
    if isinstance(value, Mapping):
        return {str(name): _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
