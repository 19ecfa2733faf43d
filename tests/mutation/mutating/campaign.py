"""Campaigns of mutants: the tests that come to a mutant's line run first, in a child where they are collected already. A mutant that they
miss is run again with all tests, in a child that imports the changed module in place of the file's. No file is copied or written.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

from mutating.collected import Collected, run_pytest
from mutating.equivalent import EQUIVALENT
from mutating.mutants import Mutant, mutants, mutated
from mutating.targets import Target

__all__ = ["Score", "campaign", "survives"]


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from a syntax tree in place of its file's."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self.tree = tree

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.tree, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, target: Target, tree: ast.Module) -> None:
        self.target, self.tree = target, tree

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname != self.target.module:
            return None
        loader = _Changed(fullname, str(self.target.file), self.tree)
        return importlib.util.spec_from_file_location(fullname, self.target.file, loader=loader)


def survives(target: Target, tree: ast.Module | None, seconds: float) -> bool:
    """True if the tests pass with the changed module, or with the file's own for None; a child that takes longer has noticed."""
    child = os.fork()
    if not child:
        status = 1
        # whatever happens in a child, it never returns
        try:
            if tree is not None:
                sys.meta_path.insert(0, _Finder(target, tree))
            status = run_pytest(target, "-x")
        finally:
            os._exit(status)
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@dataclass(frozen=True)
class Score:
    """Mutants of one target: how many there are, were run, and were noticed; those that were not, and those known to change nothing."""

    mutants: int
    run: int
    killed: int
    survivors: tuple[Mutant, ...]
    equivalent: int

    @property
    def share(self) -> float:
        """The share that was noticed of those that could be."""
        return self.killed / max(self.run - self.equivalent, 1)

    def __str__(self) -> str:
        """One line."""
        noticed = f"{self.killed:4} of {self.run - self.equivalent:4} noticed, {self.share:6.1%}"
        return f"{noticed}; {self.run} of {self.mutants} mutants run, {self.equivalent} of them known to change nothing"

    @classmethod
    def total(cls, scores: Sequence[Score]) -> Score:
        """The sum of several."""
        counts = {field: sum(getattr(each, field) for each in scores) for field in ("mutants", "run", "killed", "equivalent")}
        return cls(survivors=tuple(mutant for each in scores for mutant in each.survivors), **counts)


def campaign(name: str, target: Target, seconds: float, seed: int = 0, lines: Sequence[int] = ()) -> Score:
    """Run mutants of a target in a random order until the time is over. Raises RuntimeError where the tests fail without any."""
    source = target.file.read_text(encoding="utf-8")
    every = [each for each in mutants(source) if not lines or each.line in lines]
    begun = time.monotonic()
    collected = Collected(target)
    usual = time.monotonic() - begun
    counts: Counter[str] = Counter()
    survivors = []
    for each in random.Random(seed).sample(every, len(every)):
        if time.monotonic() - begun > seconds:
            break
        counts["run"] += 1
        if collected.notices(each.number) or not survives(target, mutated(source, each.number), 3 * usual + 5):
            counts["killed"] += 1
        elif (name, each.name) in EQUIVALENT:
            counts["equivalent"] += 1
        else:
            survivors.append(each)
    collected.close()
    survivors.sort(key=lambda each: each.number)
    return Score(len(every), counts["run"], counts["killed"], tuple(survivors), counts["equivalent"])
