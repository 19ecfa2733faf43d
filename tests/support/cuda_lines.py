"""Lines that run on a GPU alone, found in the source, and those of them that a run went through."""

import ast
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
            if isinstance(each, ast.If) and id(each) in inside and _asks(each.test) is False and isinstance(each.body[-1], ast.Return):
                found |= _statements(block[place + 1 :])
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or id(node) not in inside or isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.If):
            asked = _asks(node.test)
            found |= set() if asked is None else _statements(node.body if asked else node.orelse)
        elif not isinstance(node, ast.For | ast.While | ast.Try):
            named = node.items if isinstance(node, ast.With) else [node]
            if "torch.cuda." in "".join(map(ast.unparse, named)):
                found.add(node.lineno)
    return found


def _asks(test: ast.expr) -> bool | None:
    """True for a test that holds on a GPU alone, False for one that holds elsewhere alone, None for others."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        asked = _asks(test.operand)
        return None if asked is None else not asked
    if isinstance(test, ast.BoolOp):
        # of "and" one is enough to be on a GPU, of "or" all would have to say so
        return True if isinstance(test.op, ast.And) and True in map(_asks, test.values) else None
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.NotEq):
        there = any(isinstance(each, ast.Constant) and each.value == "cuda" for each in test.comparators)
        return isinstance(test.ops[0], ast.Eq) if there else None
    return True if isinstance(test, ast.Attribute) and test.attr in ("cuda", "is_cuda") else None


def _statements(block: list[ast.stmt]) -> set[int]:
    return {each.lineno for every in block for each in ast.walk(every) if isinstance(each, ast.stmt)}


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
