"""The loss curve: a CSV file with a row a step, and a plot of it if matplotlib is installed."""

import csv
import io
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastloc.eclip.steps import CurveRow
from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.system.unraised import memory_errors_raised

NAME, PLOT = "curve.csv", "curve.png"
_COLUMNS = {row.name: row.type for row in fields(CurveRow)}


def write(path: Path, rows: list[CurveRow]) -> None:
    """Write the CSV file atomically."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, list(_COLUMNS), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    write_whole(path, lambda file: file.write(buffer.getvalue().encode()))


def read(path: Path, steps: int) -> list[CurveRow]:
    """The rows of the first `steps` steps; empty if there is no file. Raises FastlocError for a damaged one."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = [_parsed(row) for row in csv.DictReader(lines)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FastlocError(f"{path}: is not a loss curve of this program ({error})") from error
    return [row for row in rows if row.step <= steps]


def _parsed(row: dict[str, str]) -> CurveRow:
    return CurveRow(int(row["step"]), int(row["epoch"]), *(float(row[name]) for name in ("loss", "accuracy", "scale", "rate")))


def plot(path: Path, rows: list[CurveRow]) -> bool:
    """Draw loss and accuracy over the steps. Returns False if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    steps = [row.step for row in rows]
    left.plot(steps, [row.loss for row in rows], color="tab:blue", linewidth=1)
    right.plot(steps, [row.accuracy for row in rows], color="tab:orange", linewidth=1)
    left.set(xlabel="step", ylabel="contrastive loss")
    right.set(ylabel="own text nearest", ylim=(0, 1))
    left.yaxis.label.set_color("tab:blue")
    right.yaxis.label.set_color("tab:orange")

    def draw(file: Any) -> None:
        with memory_errors_raised():
            figure.savefig(file, format=path.suffix[1:])

    write_whole(path, draw)
    return True
