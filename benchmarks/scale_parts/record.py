"""The record: a line of JSON a run of a contender, with all that its times depend on."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastloc.bench import run_facts
from fastloc.utils.atomic_write import replacing
from gpu_parts.job import clean

Row = dict[str, Any]
RECORD = Path(__file__).resolve().parents[1] / "records" / "scale.jsonl"
PACKAGES = ("fastloc", "torch", "numpy", "pillow", "pyarrow", "ray", "starlette", "uvicorn", "fastapi", "open_clip_torch")


def facts() -> Row:
    """The machine, its load, the code and the packages."""
    return {"run": time.strftime("%Y%m%d-%H%M%S", time.gmtime()), **run_facts.columns("cpu"), "versions": run_facts.versions(*PACKAGES)}


def read(path: Path = RECORD) -> list[Row]:
    """The rows; none where there is no record."""
    return parsed(path.read_text(encoding="utf-8")) if path.exists() else []


def parsed(text: str) -> list[Row]:
    return [json.loads(line) for line in text.splitlines()]


def write(path: Path, rows: Iterable[Row]) -> None:
    """The whole record in place of the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text("".join(json.dumps(clean({key: value for key, value in row.items() if value is not None})) + "\n" for row in rows),
                        encoding="utf-8")  # fmt: skip
