"""Shared inputs of the tests of engines: small files to build from, and a check of the runtimes that are installed."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from onnx_files import tiny_model


def why_no(module: str) -> str:
    """The reason that a runtime cannot be used here; "" if it can."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        return f"{module} cannot be imported here: {error}"
    return ""


rtx = pytest.mark.skipif(bool(why_no("tensorrt_rtx")), reason=why_no("tensorrt_rtx"))


def tiny(folder: Path, **changes: Any) -> Path:
    """A file whose sizes are all fixed, unless `changes` opens one."""
    path = folder / "tiny.onnx"
    tiny_model(path, **{"batch": 1, "count": 2, **changes})
    return path


def left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.name not in ("tiny.onnx", "notes"))
