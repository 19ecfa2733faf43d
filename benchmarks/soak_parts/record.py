"""The record of the soak, and its lines for the eye."""

import json
import os
import time
from pathlib import Path
from typing import Any

from fastloc.bench import run_facts
from fastloc.utils.atomic_write import replacing
from gpu_parts.job import clean

__all__ = ["RECORD", "facts", "lines", "write"]

Row = dict[str, Any]
RECORD = Path(__file__).resolve().parents[1] / "records" / "soak.json"
PACKAGES = ("fastloc", "torch", "onnxruntime", "av", "numpy", "pillow", "starlette", "uvicorn", "websockets")


def facts() -> Row:
    """The machine, its load now, the code and the packages; asked for before a run."""
    return {"day": time.strftime("%Y-%m-%d", time.gmtime()), **run_facts.columns("cpu"), "nice": os.nice(0),
            "arenas": os.environ.get("MALLOC_ARENA_MAX"), "versions": run_facts.versions(*PACKAGES)}  # fmt: skip


def write(found: Row, path: Path = RECORD) -> None:
    """Write a run and its facts; a row a line."""
    head = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in clean(found).items() if key != "rows"]
    rows = ",\n".join("  " + json.dumps(clean(row)) for row in found["rows"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text("{\n" + ",\n".join([*head, f' "rows": [\n{rows}\n ]']) + "\n}\n", encoding="utf-8")


def lines(found: Row) -> list[str]:
    """Lines of what was done, and of what each process held."""
    shown = [f"{name}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()) for name, counts in found["done"].items()]
    for row in found["rows"]:
        if "slope" in row:
            shown.append(
                f"{row['process']:8} {row['kind']:12} {row['first']:9.2f} to {row['last']:9.2f} {row['unit']:2}  "
                f"{row['slope']:+9.3f} ± {row['error']:.3f} an hour  {row['verdict'] or ''}"
            )
    return shown
