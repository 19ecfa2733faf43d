"""The state of a record: the commits that made it, and what has changed since in the code that it depends on."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from record_parts.step import Step


class Repository:
    """A checkout, and what its git says."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str) -> str:
        """The output of git; "" where it fails."""
        done = subprocess.run(["git", "--no-optional-locks", "-C", str(self.root), *arguments], capture_output=True, text=True, timeout=60,
                              check=False, encoding="utf-8")  # fmt: skip
        return done.stdout.strip() if done.returncode == 0 else ""

    def head(self) -> str:
        return self.git("rev-parse", "--short", "HEAD")

    def changed(self, commit: str, paths: tuple[str, ...]) -> str:
        """Changes of the paths since a commit, in a few words; "" for none."""
        plain = commit.removesuffix("+")
        if not self.git("rev-parse", "--verify", "--quiet", f"{plain}^{{commit}}"):
            return f"commit {plain} is not in this repository"
        found = self.git("log", "--format=%h", f"{plain}..HEAD", "--", *paths).split()
        if found:
            return f"{len(found)} commit{'s' if len(found) > 1 else ''} since {plain}, the newest {found[0]}"
        return f"made with files that differ from {plain}" if plain != commit else ""

    def edited(self, paths: tuple[str, ...]) -> list[str]:
        """Tracked files under the paths that differ from the commit."""
        return self.git("diff", "--name-only", "HEAD", "--", *paths).splitlines()


def stale(step: Step, repository: Repository, finished: Mapping[str, Any], machine: str) -> str:
    """The reason to run a step, "" where its records are up to date.

    finished: what `records.py` has written about earlier runs of the step. machine: the folder of this machine's runs.
    """
    files = [repository.root / each / machine if (repository.root / each).is_dir() else repository.root / each for each in step.writes]
    found = [(file, _content(file, step)) for file in files]
    for file, content in found:
        if not content:
            return f"{file.name} has none of it" if file.exists() else f"there is no {file.relative_to(repository.root)}"
    if finished:
        if finished["command"] != list(step.command):
            return "its command changed"
        return repository.changed(finished["commit"], step.code)
    for file, content in found:
        # a record without a commit is of the one that it was committed with
        made = sorted(set(_commits(content))) or [repository.git("log", "-1", "--format=%h", "--", str(file))]
        for commit in made:
            if why := repository.changed(commit, step.code):
                return why
    return ""


def _content(file: Path, step: Step) -> Any:
    """The rows of a step in a file or in the newest run of a folder, its part of a file, or the whole file; None for nothing."""
    if file.is_dir():
        rows = [row for each in sorted(file.glob("*.jsonl")) for row in _rows(each) if row.get("suite") in step.suites]
        newest = {suite: max(row["run"] for row in rows if row["suite"] == suite) for suite in {row["suite"] for row in rows}}
        return [row for row in rows if row["run"] == newest[row["suite"]]] if set(newest) == set(step.suites) else None
    if not file.is_file():
        return None
    if file.suffix == ".jsonl":
        return [row for row in _rows(file) if row.get("suite") in step.suites or (not step.suites and step.part in ("", row.get("part")))]
    content = json.loads(file.read_text(encoding="utf-8"))
    return {**content, **content.get("parts", {}), **content.get("towers", {})}.get(step.part) if step.part else content


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def _commits(value: Any) -> Iterator[str]:
    """Every commit that a record names."""
    if isinstance(value, dict):
        if isinstance(value.get("commit"), str):
            yield value["commit"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _commits(each)
