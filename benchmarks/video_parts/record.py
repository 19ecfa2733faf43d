"""The record of the video benchmark: one file, each part with the machine, versions, commit and day of its own run."""

import importlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from fastloc.bench.run_facts import commit, load
from fastloc.utils import hardware
from gpu_parts.job import clean

Part = dict[str, Any]
RECORD = Path(__file__).resolve().parents[1] / "records" / "video.json"
PACKAGES = ("fastloc", "torch", "onnxruntime", "av", "numpy")


def head() -> Part:
    """The facts that a part's results depend on."""
    import torch

    return {
        "day": time.strftime("%Y-%m-%d", time.gmtime()), "commit": commit(), "machine": hardware.cpu(), "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(), "load_before": load(), "python": platform.python_version(), "versions": _versions(),
    }  # fmt: skip


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = str(importlib.import_module(name).__version__)
        except ImportError:
            continue
    return found


def write(parts: dict[str, Part], path: Path = RECORD) -> None:
    """Put these parts in place of those of the same names; whole or not at all."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["parts"]
    except (OSError, KeyError, ValueError):
        before = {}
    merged = clean({**before, **parts})
    temporary = path.with_suffix(".tmp")
    temporary.write_text(_text({name: merged[name] for name in sorted(merged)}), encoding="utf-8")
    temporary.replace(path)


def replace(name: str, rows: list[Part], path: Path = RECORD) -> None:
    """Put rows in place of those of the same method and mode in a part; each then says its own commit."""
    part = json.loads(path.read_text(encoding="utf-8"))["parts"][name]
    new = {(row["method"], row["mode"]): {**row, "commit": commit()} for row in rows}
    write({name: {**part, "rows": [new.get((row["method"], row["mode"]), row) for row in part["rows"]]}}, path)


def _text(parts: dict[str, Part]) -> str:
    """JSON, a row a line."""
    blocks = []
    for name, part in parts.items():
        lists = {key: value for key, value in part.items() if isinstance(value, list) and value and isinstance(value[0], dict)}
        entries = [f'  "{key}": {json.dumps(value)}' for key, value in part.items() if key not in lists]
        for key, rows in lists.items():
            entries.append(f'  "{key}": [\n' + ",\n".join("   " + json.dumps(row) for row in rows) + "\n  ]")
        blocks.append(f' "{name}": {{\n' + ",\n".join(entries) + "\n }")
    return '{"benchmark": "video", "parts": {\n' + ",\n".join(blocks) + "\n}}\n"
