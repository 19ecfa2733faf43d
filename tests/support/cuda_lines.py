"""Lines that run on a GPU alone, found in the source, and those of them that a run went through."""

import ast
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from repo import REPO

ROOMS = ("fastloc/engine/*.py", "fastloc/functional/*.py", "kernels/*.py", "benchmarks/gpu.py", "benchmarks/gpu_parts/*.py",
         "fastloc/video/*.py", "fastloc/bench/**/*.py")  # fmt: skip
_DEVICE = re.compile(r"\.cuda\b|\"cuda\"|'cuda'|is_cuda|cuda\.is_available")


def cuda_lines(file: Path) -> set[int]:
    """The first lines of statements that only a GPU reaches: what names `torch.cuda`, and the branch of a test for one."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: set[int] = set()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    inside = {id(each) for function in functions for each in ast.walk(function)}
    blocks = [getattr(node, name) for node in ast.walk(tree) for name in ("body", "orelse") if isinstance(getattr(node, name, None), list)]
    for block in blocks:
        for place, each in enumerate(block):
            # what stands behind "if it is no GPU: return"
            if isinstance(each, ast.If) and id(each) in inside and _negative(each) and isinstance(each.body[-1], ast.Return | ast.Raise):
                found |= {one.lineno for after in block[place + 1 :] for one in ast.walk(after) if isinstance(one, ast.stmt)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or id(node) not in inside or isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.If):
            if _DEVICE.search(ast.unparse(node.test)):
                branch = node.orelse if _negative(node) else node.body
                found |= {each.lineno for every in branch for each in ast.walk(every) if isinstance(each, ast.stmt)}
        elif not isinstance(node, ast.For | ast.While | ast.Try):
            named = node.items if isinstance(node, ast.With) else [node]
            if "torch.cuda." in "".join(map(ast.unparse, named)):
                found.add(node.lineno)
    return found


def _negative(node: ast.If) -> bool:
    test = ast.unparse(node.test)
    return bool(_DEVICE.search(test)) and ("not " in test or "!=" in test)


def all_cuda_lines() -> dict[str, set[int]]:
    """Every file of `ROOMS` that has such lines, by its path in the repo."""
    files = sorted({file for pattern in ROOMS for file in REPO.glob(pattern)})
    return {file.relative_to(REPO).as_posix(): lines for file in files if (lines := cuda_lines(file))}


@contextmanager
def reached(files: Iterator[str] | set[str]) -> Iterator[dict[str, set[int]]]:
    """The lines of these files of the repo that run while this is open, in every thread."""
    names = {str((REPO / name).resolve()): name for name in files}
    found: dict[str, set[int]] = {name: set() for name in names.values()}
    known: dict[str, str | None] = {}

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            found[known[frame.f_code.co_filename] or ""].add(frame.f_lineno)
        return local

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in known:
            known[name] = names.get(str(Path(name).resolve()))
        return local if known[name] else None

    before = sys.gettrace()
    sys.settrace(called)
    threading.settrace(called)
    try:
        yield found
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]
