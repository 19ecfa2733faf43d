"""The regression watch: this checkout and an earlier one, in processes of their own, measured in turns on the cases of a record.

A time in a record is of another hour, and often of another machine; so nothing is compared with it. The record gives the cases to measure,
and the commit of the earlier checkout.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastloc.bench import request, run_facts, schema, session, stats
from fastloc.bench.backends import table
from fastloc.bench.backends.table import BACKENDS
from fastloc.bench.models import Model, model
from fastloc.bench.request import Request
from fastloc.bench.run_context import Work
from fastloc.bench.schema import Row
from fastloc.bench.worker_pool import WorkerError, WorkerProcess
from fastloc.errors import FastlocError

NOW, THEN = "now", "then"
# rounds: an interval of fewer says little
LEAST = 9


@dataclass(frozen=True)
class Compared:
    """One case: this checkout's time over the earlier one's with its 95 % interval, or why there is none."""

    name: str
    ratio: tuple[float, float, float] | None
    slower: bool
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """Result of all cases. `slower`: at least one is slower than the threshold allows, or computes something else now."""

    commit: str
    threshold: float
    cases: tuple[Compared, ...]

    @property
    def slower(self) -> bool:
        return any(each.slower for each in self.cases)

    def lines(self) -> list[str]:
        """A line a case, and one at the end."""
        found = []
        for each in self.cases:
            ratio = "" if each.ratio is None else f"{each.ratio[0]:.3f} ({each.ratio[1]:.3f} … {each.ratio[2]:.3f})"
            found.append(f"{'SLOWER' if each.slower else 'good':7}{each.name:50}{ratio}{each.reason}")
        count = sum(each.slower for each in self.cases)
        said = f"{count} of {len(self.cases)} cases are slower than {self.commit} by more than {self.threshold:.0%}, or wrong"
        return [*found, said if count else f"no case is slower than {self.commit} by more than {self.threshold:.0%}"]


def compare(target: str, threshold: float, seconds: float, threads: int, say: Callable[[str], None]) -> Verdict:
    """Compare this checkout with the commit of a record, on the record's cases.

    Args:
        target: a file or folder of records; or a commit, which is compared on a few cases of its own.
        threshold: how much longer a case may take: it is slower if its median ratio is beyond 1 + threshold and the interval beyond 1.
        seconds: of timed calls in all; each case has at least LEAST rounds.

    Raises:
        FastlocError: no records, no checkout, a commit that is not there or has no benchmark, or no case that can run here.
    """
    rows = schema.read(Path(target)) if os.path.exists(target) else []
    root = _root()
    commit = _commit(root, rows[-1]["commit"].removesuffix("+") if rows else target)
    todo = _cases(rows) if rows else _usual()
    models = {name: model(name) for name in dict.fromkeys(each["model"] for each in todo)}
    asked = Request(
        models=tuple(models.values()), methods=(), backends=(), peers=(), suites=(), sizes=(), batches=(), texts=4, dtype="float32",
        device=request.device_of(None), threads=threads, seconds=seconds, out=Path(),
    )  # fmt: skip
    with _worktree(root, commit) as tree, Work(asked, "against") as work:
        groups = [_group(work, tree, models[each["model"]], each) for each in todo]
        found = []
        for group in groups:
            session.measure(group, seconds / len(groups), work.references, lambda row: None, say)
            found.append(judged(group, threshold))
    return Verdict(commit, threshold, tuple(found))


def judged(group: session.Group, threshold: float) -> Compared:
    """The comparison of a group of two contenders, NOW and THEN."""
    by_label = {each.label: each for each in group.contenders}
    now, then = by_label[NOW], by_label[THEN]
    if now.failed:
        return Compared(group.name, None, not then.failed, f"now: {now.failed}")
    if then.failed:
        return Compared(group.name, None, False, f"then: {then.failed}")
    ratio = session.ratio(now, then)
    return Compared(group.name, ratio, stats.slower(ratio, threshold))


def _cases(rows: list[Row]) -> list[Row]:
    """The cases of the newest run that this machine can run, each once."""
    found: dict[str, Row] = {}
    for row in schema.newest(rows, "methods"):
        name = row["contender"]
        device = request.device_of(None)
        if row.get("failed") or name not in BACKENDS or table.why_not(BACKENDS[name], device, _tower(row)):
            continue
        found.setdefault(_name(row), row)
    if not found:
        raise FastlocError("the records have no row of the suite 'methods' that can be measured here")
    return list(found.values())


def _tower(row: Row) -> str:
    """The dtype that its case asks for; one that is stored in 8 bits asks for float32."""
    return "float32" if BACKENDS[row["contender"]].stored else str(row["dtype"])


def _usual() -> list[Row]:
    head = {"batch": 1, "texts": 4, "contender": "torch", "dtype": "float32"}
    places = [("embedded", 96, name) for name in ("itsm", "gem", "clip_surgery", "naclip")] + [("ViT-B-16", 224, "gem")]
    return [{**head, "model": name, "height": size, "method": method} for name, size, method in places]


def _name(row: Row) -> str:
    changes = " ".join(f"{name}={value}" for name, value in row.get("changes", {}).items() if not isinstance(value, list))
    batch = f" batch {row['batch']}" if row["batch"] > 1 else ""
    return f"{row['model']} {row['height']} px{batch}, {row['method']} {changes}".rstrip() + f", {row['contender']} {row['dtype']}"


def _group(work: Work, tree: Path, one: Model, row: Row) -> session.Group:
    backend, device = BACKENDS[row["contender"]], work.request.device
    case = work.case(one, row["method"], row["height"], row["batch"], row["texts"], changes=row.get("changes", {}), dtype=_tower(row))
    case = replace(case, device=device)

    def contender(label: str, path: Path | None) -> session.Contender:
        def start() -> WorkerProcess:
            worker = work.backend(backend.name, f" {label}", path)
            loaded = Path(worker.hello.get("tree", ""))
            if path is not None and loaded != tree.resolve():
                raise WorkerError(f"its process imported fastloc from {loaded}, not from the earlier checkout")
            return worker

        return session.Contender(label, start, case, {}, backend.stored or case.dtype)

    return session.Group(_name(row), [contender(THEN, tree.parent / "path"), contender(NOW, None)], False, LEAST, (THEN,))


@contextmanager
def _worktree(root: Path, commit: str) -> Iterator[Path]:
    """The earlier checkout, in a folder that is gone afterwards. Beside it a folder `path` that holds its package alone."""
    with tempfile.TemporaryDirectory(prefix="fastloc-then-") as folder:
        tree = Path(folder) / "tree"
        _git(root, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            # a file in the first versions, then a folder: both are run by the same name
            if not any((tree / "fastloc" / "bench" / name).exists() for name in ("backends", "backends.py")):
                raise FastlocError(f"commit {commit} is from before `python -m fastloc.bench`: there is nothing in it that could be timed")
            (tree.parent / "path").mkdir()
            (tree.parent / "path" / "fastloc").symlink_to(tree / "fastloc")
            yield tree
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _root() -> Path:
    root = run_facts.TREE
    if not (root / ".git").exists():
        raise FastlocError(f"fastloc must run from its repository for --against, got {root}")
    return root


def _commit(root: Path, name: str) -> str:
    try:
        return _git(root, "rev-parse", "--verify", "--short", "--quiet", f"{name}^{{commit}}")
    except FastlocError:
        raise FastlocError(f"--against must be a file of records or a commit of {root}, got {name!r}") from None


def _git(root: Path, *command: str) -> str:
    try:
        run = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True, encoding="utf-8")
    except (OSError, subprocess.CalledProcessError) as error:
        said: Any = getattr(error, "stderr", "") or error
        raise FastlocError(f"git {command[0]}: {str(said).strip()}") from error
    return run.stdout.strip()

