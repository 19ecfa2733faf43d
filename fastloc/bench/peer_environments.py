"""The peers' Python environments, apart from fastloc's own and from one another: their pins exclude each other.

    python -m fastloc.bench.peer_environments           make all of them, or bring them up to their pins
    python -m fastloc.bench.peer_environments pinned    only this one

Each takes about 6 GB, mostly PyTorch, and minutes to download the first time.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fastloc.errors import FastlocError, unknown
from fastloc.utils.exit_status import exit_status
from fastloc.utils.terminal import say
from fastloc.utils.user_cache import user_cache

_PEERS = Path(__file__).with_name("peers")
_STAMP = "installed-pins.txt"


@dataclass(frozen=True)
class Environment:
    """A peer's environment: its purpose, and the requirements file beside the peers that pins its packages."""

    name: str
    summary: str
    requirements: str

    @property
    def pins(self) -> str:
        """The requirements file's text."""
        return (_PEERS / self.requirements).read_text(encoding="utf-8")

    @property
    def folder(self) -> Path:
        return home() / self.name

    @property
    def python(self) -> Path:
        """Path of its interpreter, whether or not it exists."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def wrong(self) -> str:
        """The reason that it cannot be used; "" if it can."""
        stamp = self.folder / _STAMP
        if not (stamp.is_file() and self.python.is_file()):
            return "is not set up"
        return "" if stamp.read_text(encoding="utf-8") == self.pins else f"is out of date with {self.requirements}"


ENVIRONMENTS = {
    row.name: row
    for row in (
        Environment("pinned", "the peers with what their authors' code was written for", "requirements-pinned.txt"),
        Environment("newest", "gem_torch as pip installs it today, with the newest open_clip", "requirements-newest.txt"),
        Environment("mmseg", "mmsegmentation and torchmetrics, whose metrics are compared with", "requirements-mmseg.txt"),
    )
}


def home() -> Path:
    """The folder that the environments are in: `.venv-peers` of a checkout, else one in the user's cache."""
    repository = Path(__file__).resolve().parents[2]
    if (repository / "pyproject.toml").is_file() and (repository / "kernels").is_dir():
        return repository / ".venv-peers"
    return user_cache() / "peers"


def environment(name: str) -> Environment:
    """The environment of this name. Raises FastlocError for a name that is not in the table."""
    if name not in ENVIRONMENTS:
        raise FastlocError(unknown("environment", name, ENVIRONMENTS))
    return ENVIRONMENTS[name]


def python_of(name: str) -> Path:
    """The interpreter of an environment.

    Raises:
        FastlocError: the environment is unknown, not set up, or out of date with its pins.
    """
    found = environment(name)
    if found.wrong:
        raise FastlocError(
            f"the peers' environment {name!r} {found.wrong}: `python -m fastloc.bench.peer_environments {name}`, or `make peers`"
        )
    return found.python


def set_up(names: Iterable[str]) -> None:
    """Make these environments, or bring them up to their pins; those that are so are left as they are. Progress goes to stderr.

    Raises:
        FastlocError: a name is unknown, or venv or pip failed.
    """
    for found in [environment(name) for name in names]:
        if found.wrong:
            _make(found)
        say(f"{found.name}: {found.python}", error=True)


def _make(found: Environment) -> None:
    say(f"making {found.folder} from {found.requirements}: about 6 GB, minutes the first time …", error=True)
    # its packages of before may be what the pins no longer name
    shutil.rmtree(found.folder, ignore_errors=True)
    requirements = _PEERS / found.requirements
    _run(found, [sys.executable, "-m", "venv", str(found.folder)])
    _run(found, [str(found.python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(requirements)])
    # last, so that a set-up that was stopped is not taken for a whole one
    (found.folder / _STAMP).write_text(found.pins, encoding="utf-8")


def _run(found: Environment, command: list[str]) -> None:
    # what pip says of it stands above the error
    try:
        done = subprocess.run(command, check=False, stdout=sys.stderr)
    except OSError as error:
        raise FastlocError(f"environment {found.name!r} was not made: {error}") from error
    if done.returncode != 0:
        raise FastlocError(f"environment {found.name!r} was not made: `{' '.join(command[1:4])} …` ended with {done.returncode}, see above")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastloc.bench.peer_environments", description="Set up the environments of the peers.",
                                     epilog="\n".join(f"  {row.name:8} {row.summary}" for row in ENVIRONMENTS.values()),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENVIRONMENTS)}; all where none is named")

    def work() -> int:
        set_up(parser.parse_args(argv).names or list(ENVIRONMENTS))
        return 0

    # a set-up that is ended takes pip with it
    return exit_status("fastloc.bench.peer_environments", work)


if __name__ == "__main__":
    sys.exit(main())
