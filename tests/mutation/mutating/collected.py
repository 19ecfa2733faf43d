"""Tests of a target that are collected once, in a child that forks for each mutant and changes one function there.

It answers for mutants inside functions in a fraction of the time that a new import of everything takes. It never has the last word on a
survivor: a function that was read before the change (a default of a closure, a cached answer) would look unharmed.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import FrameType, FunctionType
from typing import Any

import pytest

from mutating.mutants import Mutant, mutants, mutated
from mutating.targets import REPO, Target

__all__ = ["Collected", "run_pytest"]

# plugins and the fixtures of tests/conftest.py cost more than the tests, and these need neither
_OPTIONS = ["-q", "-m", "not slow", "--noconftest", "-p", "no:cacheprovider"]


def run_pytest(target: Target, *more: str, plugins: Sequence[object] = ()) -> int:
    """The exit status of pytest for a target, in silence. For a child alone: its output is closed."""
    os.chdir(REPO)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return int(pytest.main([*_OPTIONS, *more, *target.tests], plugins=[_Quick(), *plugins]))


class _Quick:
    """A plugin of pytest that keeps the cases that are quick, by the rule of tests/conftest.py."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("rule_of_quick_cases", REPO / "tests" / "conftest.py")
        assert spec is not None and spec.loader is not None
        rule = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(rule)
        self.pytest_collection_modifyitems = rule.pytest_collection_modifyitems


class Collected:
    """The child with a target's tests; `close` ends it. Raises RuntimeError where the tests fail without a mutant."""

    def __init__(self, target: Target) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._child = os.fork()
        if not self._child:
            # whatever happens in a child, it never returns; with its own copy of this end it would never see the other close
            with contextlib.suppress(BaseException):
                self._ours.close()
                run_pytest(target, plugins=[_Loop(target, theirs)])
            os._exit(0)
        theirs.close()
        if self._received() is not True:
            self.close()
            raise RuntimeError(f"{target.module}: its tests fail without a mutant")

    def notices(self, number: int) -> bool:
        """True if a test fails with the mutant of this number; False for survivors and for what cannot be changed after an import."""
        self._ours.send(number)
        return self._received() is True

    def close(self) -> None:
        """End the child."""
        self._ours.close()
        os.waitpid(self._child, 0)

    def _received(self) -> Any:
        try:
            return self._ours.recv()
        except EOFError:
            return None


class _Loop:
    """A plugin of pytest that runs tests for one mutant after the other, in place of all tests once."""

    def __init__(self, target: Target, asked: Connection) -> None:
        self.target, self.asked = target, asked
        self.source = target.file.read_text(encoding="utf-8")
        self.mutants = mutants(self.source)
        # tests that passed without a mutant, in this order
        self.passing: set[tuple[str, ...]] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        found = None if session.testsfailed else _in_child(lambda: _covered(session, str(self.target.file)), 300)
        self.asked.send(found is not None)
        while found is not None:
            try:
                mutant = self.mutants[self.asked.recv()]
            except EOFError:
                break
            self.asked.send(self._notices(session, mutant, found))
        return True

    def _notices(self, session: pytest.Session, mutant: Mutant, found: dict[str, tuple[float, list[int]]]) -> bool:
        body = _function(ast.parse(self.source), mutant.line)
        items = [each for each in session.items if body and not body.isdisjoint(found[each.nodeid][1])]
        if not items:
            return False
        # those that come to the line first, the quickest of them before the others
        items.sort(key=lambda item: (mutant.line not in found[item.nodeid][1], found[item.nodeid][0]))
        limit = 3 * sum(seconds for seconds, _ in found.values()) + 5
        failed = _in_child(lambda: _failing(session, items) if _changed(self.target, self.source, mutant) else 0, limit)
        if failed is None:
            return True
        if not failed:
            return False
        # a test may fail because it runs in another order than usual: then this says nothing
        run = tuple(each.nodeid for each in items[:failed])
        if run not in self.passing and _in_child(lambda: _failing(session, items[:failed]), limit) == 0:
            self.passing.add(run)
        return run in self.passing


def _in_child(work: Callable[[], Any], seconds: float) -> Any:
    """The answer of `work` in a forked child; None where it takes longer or ends otherwise."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            answer = json.dumps(work()).encode()
            with os.fdopen(theirs, "wb") as file:
                file.write(answer)
        os._exit(0)
    os.close(theirs)
    timer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    timer.start()
    with os.fdopen(ours, "rb") as file:
        answer = file.read()
    timer.cancel()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else None


def _failing(session: pytest.Session, items: Sequence[pytest.Item]) -> int:
    """The number of tests up to the first one that fails, 0 where none does."""
    for i, item in enumerate(items):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=items[i + 1] if i + 1 < len(items) else None)
        if session.testsfailed:
            return i + 1
    return 0


def _covered(session: pytest.Session, file: str) -> dict[str, tuple[float, list[int]]] | None:
    """For each test its seconds and the lines of the file that it runs; None where one fails."""
    lines: set[int] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != file:
            return None
        lines.add(frame.f_lineno)
        return trace

    found = {}
    for i, item in enumerate(session.items):
        lines.clear()
        begun = time.monotonic()
        sys.settrace(trace)
        threading.settrace(trace)
        item.ihook.pytest_runtest_protocol(item=item, nextitem=session.items[i + 1] if i + 1 < len(session.items) else None)
        sys.settrace(None)
        if session.testsfailed:
            return None
        found[item.nodeid] = time.monotonic() - begun, sorted(lines)
    return found


def _function(tree: ast.Module, line: int) -> set[int]:
    """The lines of the outermost function, or of the method, around a line; empty outside of all."""
    for node in tree.body:
        for each in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.lineno <= line <= (each.end_lineno or 0):
                return set(range(each.lineno, (each.end_lineno or 0) + 1))
    return set()


def _changed(target: Target, source: str, mutant: Mutant) -> bool:
    """Give the imported function the mutant's code; False where there is no such function."""
    module = sys.modules.get(target.module)
    if module is None:
        return False
    fresh = type(module)(target.module)
    fresh.__file__ = str(target.file)
    sys.modules[target.module] = fresh
    try:
        exec(compile(mutated(source, mutant.number), str(target.file), "exec"), fresh.__dict__)
    # the import itself notices; a new one says so
    except Exception:
        return False
    sys.modules[target.module] = module
    ours, theirs = module.__dict__, fresh.__dict__
    for part in mutant.place.split("."):
        old, new = _plain(ours.get(part)), _plain(theirs.get(part))
        if isinstance(old, FunctionType) and isinstance(new, FunctionType):
            if old.__module__ != target.module or old.__code__.co_freevars != new.__code__.co_freevars:
                return False
            old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
            return True
        if not isinstance(old, type):
            return False
        ours, theirs = vars(old), vars(new)
    return False


def _plain(value: Any) -> Any:
    """The function under properties, class methods and caches."""
    for name in ("fget", "func", "__func__", "__wrapped__"):
        value = getattr(value, name, None) or value if not isinstance(value, type) else value
    return value
