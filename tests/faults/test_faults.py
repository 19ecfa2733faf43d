"""Every call of the file layer fails once, makers of arrays do, and the process is killed at every one: nothing is lost,
nothing is half written under a final name, one line says what is wrong, and the next run ends as if nothing had been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastloc.errors import FastlocError
from fastloc.utils.system import files
from faulty.campaign import Subject, faults_of
from faulty.pieces import PIECES
from faulty.plan import KINDS
from forked import needs_fork

# every way in which a final name is replaced, in the quick tests once
QUICK = {
    ("a full disk", "a graph with its weights"), ("killed behind a call", "a graph with its weights"), ("a failing disk", "a page"),
    ("killed in a call", "rows of an evaluation"),
}  # fmt: skip
_SLOW = pytest.mark.slow("a child for every call that writes")
# every way in which a final name is replaced; `run.py` takes any piece, any command, and the interpreter's own allocations, whose ends
# change with its version
WITHOUT_MEMORY = ("text embeddings", "a picture", "a graph with its weights", "a page")
CASES = [
    pytest.param(kind, piece, marks=() if (kind, piece) in QUICK else _SLOW)
    for piece in PIECES
    for kind in KINDS
    if not KINDS[kind].memory or (KINDS[kind].memory == "makers" and piece in WITHOUT_MEMORY)
]


@needs_fork
@pytest.mark.parametrize(("kind", "piece"), CASES)
def test_every_call_fails_once(kind: str, piece: str, tmp_path: Path) -> None:
    # `run.py` takes four times as many places
    subject = replace(PIECES[piece], step=4 * PIECES[piece].step) if KINDS[kind].memory else PIECES[piece]
    assert list(faults_of(subject, kind, tmp_path)) == []


def test_folders_of_runs_that_were_killed_at_their_very_beginning_are_taken(tmp_path: Path) -> None:
    from fastloc.evaluation.running import folder
    from fastloc.scale import manifest

    evaluation, batch = tmp_path / "evaluation", tmp_path / "batch"
    for part in ("rows", "errors"):
        (batch / part).mkdir(parents=True)
    evaluation.mkdir()
    (evaluation / ".run.json.0123456789abcdef.part").write_text("half")
    (batch / ".manifest.json.0123456789abcdef.part").write_text("half")
    settings: Any = None
    assert folder.check(evaluation, settings) is False and manifest.present(batch) is None
    # what is somebody's own is not
    (evaluation / "mine.txt").touch()
    (batch / "rows" / "mine.txt").touch()
    with pytest.raises(FastlocError, match="holds something else"):
        folder.check(evaluation, settings)
    with pytest.raises(FastlocError, match="holds something else"):
        manifest.present(batch)


def half(folder: Path) -> None:
    files.write_bytes(folder / "x.txt", b"0123456789")


def hasty(folder: Path) -> None:
    """Removes the old file before the new one is there."""
    files.write_bytes(folder / "new", b"0123456789")
    files.remove(folder / "x.txt")
    files.rename(folder / "new", folder / "x.txt")


def silent(folder: Path) -> None:
    try:
        files.write_bytes(folder / "x.txt", b"0123456789")
    except OSError:
        return


def raw(folder: Path) -> None:
    try:
        files.write_bytes(folder / "x.txt", b"0123456789")
    except OSError as error:
        raise KeyError("planted") from error


@needs_fork
@pytest.mark.parametrize("most", [None, 5])
@pytest.mark.parametrize(
    ("work", "kind", "message"),
    [
        (half, "a full disk", "neither old nor new: {'x.txt': 'other'}"),
        (half, "killed in a call", "neither old nor new"),
        (hasty, "killed behind a call", "neither old nor new"),
        (silent, "a failing disk", "it says that all is well, and it is not"),
        (raw, "a full disk", "KeyError"),
    ],
)
def test_the_campaign_finds_work_that_loses_or_halves(work: object, kind: str, message: str, most: int | None, tmp_path: Path) -> None:
    subject = Subject(work, lambda folder: (folder / "x.txt").write_bytes(b"before"), most=most)  # type: ignore[arg-type]
    assert any(message in found for found in faults_of(subject, kind, tmp_path))
