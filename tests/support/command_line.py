"""The command line run within the tests' process: how a command ended, and the fixture that runs one in an empty folder."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fastloc import cli

__all__ = ["Ended", "Run", "run_fixture"]


class Ended(NamedTuple):
    """The end of a command: exit status and output."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture(name="run")
def run_fixture(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> Ended:
        capsys.readouterr()
        try:
            status = cli.main([str(each) for each in argv])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        return Ended(status, *capsys.readouterr())

    return call
