"""The folder of a run: run.json, rows.jsonl and result.json, for one writer at a time and of one kind of settings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fastloc.errors import FastlocError
from fastloc.evaluation.running.settings import FORMAT, RunFile, Settings, machine, versions
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.schema import decode, plain, read_file, shown
from fastloc.utils.system import files

__all__ = ["RESULT", "ROWS", "RUN", "begin", "check", "locked", "read"]

RUN, ROWS, RESULT = "run.json", "rows.jsonl", "result.json"


@dataclass(frozen=True)
class _Format:
    format: int
    fastloc: str = "of an unknown version"


def read(folder: Path) -> RunFile:
    """The run.json of a folder. Raises FastlocError: there is none, it is damaged, or of another format."""
    path = folder / RUN
    content = read_file(path, str(path), error=FastlocError)
    found = decode(content, _Format, f"{path} is damaged", error=FastlocError)
    if found.format != FORMAT:
        other = f"{shown(found.format)} of fastloc {shown(found.fastloc)}"
        raise FastlocError(f"{path} must be of format {FORMAT}, got {other}; give another folder with -o")
    return decode(content, RunFile, f"{path} is damaged", error=FastlocError)


def check(folder: Path, settings: Settings) -> bool:
    """True for the folder of a run of the same settings, False for an empty one.

    Raises FastlocError for a folder of other settings, which it names, and for one that is not a run's.
    """
    if (folder / RUN).exists():
        _check(folder, read(folder).settings, settings)
        return True
    # a run that was killed at its very beginning leaves an unfinished file alone
    if any(not (each.name.startswith(f".{RUN}.") and each.suffix == ".part") for each in folder.iterdir()):
        raise FastlocError(f"{folder} must be a new folder or a run's, got one that holds something else; give another with -o")
    return False


def begin(folder: Path, settings: Settings) -> None:
    """Write run.json where there is none, and remove the parts of files that a killed run left. Raises FastlocError as `check` does."""
    if check(folder, settings):
        # what a killed write left under its random name
        for part in folder.glob(".*.part"):
            with suppress(OSError):
                files.remove(part)
        return
    made = RunFile(settings=settings, versions=versions(), machine=machine())
    content = json.dumps(asdict(made), indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape")
    write_whole(folder / RUN, lambda file: file.write(content), sync=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A block in which this process alone writes to a run's folder, which is made where it is missing.

    The system releases the lock when the process ends, for any reason. Raises FastlocError where another process has it, and where the
    folder cannot be made.
    """
    made = not folder.exists()
    try:
        files.make_folder(folder, parents=True, exist_ok=True)
        if os.name == "posix":
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FastlocError(f"{folder}: rows cannot be written there ({error.strerror or error})") from error
    try:
        if os.name == "posix":
            _lock(descriptor, folder)
        yield
    finally:
        if os.name == "posix":
            os.close(descriptor)
        if made:
            # a run that never began leaves no folder behind
            with suppress(OSError):
                folder.rmdir()


def _lock(descriptor: int, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise FastlocError(f"{folder} must have one writer, got a second; wait for the other command, or give another with -o") from None


def _check(folder: Path, before: Settings, now: Settings) -> None:
    # as the file has them: lists for tuples
    old, new = (plain(json.dumps(asdict(each)), RUN) for each in (before, now))
    for name in old:
        if old[name] == new[name]:
            continue
        was, is_now, what = old[name], new[name], name
        if name == "protocol":
            field = next(each for each in was if was[each] != is_now[each])
            was, is_now, what = was[field], is_now[field], f"the protocol's {field}"
        raise FastlocError(f"{what} must be {shown(was)}, as for the rows in {folder}, got {shown(is_now)}; give another folder with -o")
