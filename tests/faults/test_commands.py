"""The commands that write, as `run.py` runs them: some of each one's calls fail or kill it, spread from the first to the last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forked import needs_fork
from repo import REPO

RUN = Path(__file__).with_name("run.py")
# together, so that what they share is made once: what takes a graph or texts, what goes through many pictures, and the others
PARTS = {
    "files": ("export", "export-text", "embed", "calibrate", "verify", "pipeline", "registers"),
    "many pictures": ("video", "evaluate", "evaluate compare", "batch", "batch convert"),
    "a picture": ("demo", "explain", "analyze", "locate"),
}
# calls of a kind that fail, of each command: all of them take half an hour
MOST = 2


@pytest.mark.slow("every command, and a child for some of its calls that write")
@needs_fork
@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_lost_or_halved(part: str) -> None:
    asked = [word for name in PARTS[part] for word in ("--only", name)]
    run = subprocess.run(
        [sys.executable, "-P", str(RUN), "--most", str(MOST), *asked], cwd=REPO, capture_output=True, text=True, timeout=900
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-6000:]


def test_every_command_has_its_part() -> None:
    """The table of the commands is made with what they share, so its keys are read from the source."""
    source = (RUN.parent / "faulty" / "commands.py").read_text()
    named = [line.split('"')[1] for line in source.splitlines() if line.startswith('        "') and "Subject(" in line]
    assert sorted(named) == sorted(name for part in PARTS.values() for name in part)
