"""The files that the answers of one or several videos go to, under names of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fastloc.errors import VideoError
from fastloc.utils.system import files
from fastloc.video.output.containers import CONTAINERS, container_of
from fastloc.video.output.partial_file import check

__all__ = ["STDOUT", "Job", "plan"]

# asks for lines of JSON on standard output; and other names of it
STDOUT = "-"
STDOUTS = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@dataclass(frozen=True, slots=True)
class Job:
    """One source, and where its answer goes: a video, lines of JSON (`STDOUT` or a file), or both."""

    source: str
    video: Path | None
    records: str | None

    @property
    def to_stdout(self) -> bool:
        """True where standard output takes data, so that nothing else may be printed there."""
        return self.records == STDOUT or str(self.video) in STDOUTS

    @property
    def record_file(self) -> Path | None:
        return None if self.records in (None, STDOUT) else Path(str(self.records))


def plan(sources: Sequence[str], method: str, output: Path | None, records: str | None, *, many: bool, force: bool = False) -> list[Job]:
    """A job for each source, in order.

    Args:
        output: a file, or a folder for <source>.<method>.mp4; None for the current folder, or for no video where `records` is set.
        records: a file, a folder for <source>.<method>.jsonl, STDOUT, or None.
        many: whether there may be several sources: `output` and `records` are folders then, and are made.

    Two sources of one name get a number. Raises VideoError for what cannot be written, before any file or folder is made.
    """
    output = Path(STDOUTS[0]) if output is not None and str(output) == STDOUT else output
    records = STDOUT if records in STDOUTS else records
    video = (Path() if records is None else None) if output is None else output
    lines = None if records in (None, STDOUT) else Path(str(records))
    jobs: list[Job] = []
    taken: set[str] = set()
    for source in sources:
        name = _name(source, method, taken)
        made = None if video is None else _file(video, f"{name}.mp4", many or output is None, "--output", CONTAINERS)
        target = records if lines is None else str(_file(lines, f"{name}.jsonl", many, "--json", (".json", ".jsonl")))
        jobs.append(Job(source, made, target))
    for job in jobs:
        _check(job, sources, force)
    # files that exist are never folders, so what is not there yet can be made
    for folder in {path.parent for job in jobs for path in (job.video, job.record_file) if path is not None and many}:
        try:
            files.make_folder(folder, parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(f"{folder}: cannot be made ({error.strerror or error})") from None
    for job in jobs:
        for path in (job.video, job.record_file):
            if path is not None:
                check(path, force)
    return jobs


def _file(given: Path, name: str, folder: bool, option: str, extensions: Collection[str]) -> Path:
    """The file of that name in the folder that was given, or the file that was given."""
    if given.is_dir():
        return given / name
    if not folder:
        return given
    if given.suffix.lower() in extensions or given.exists():
        raise VideoError(f"{option} must be a folder for several videos, got {given}")
    return given / name


def _check(job: Job, sources: Sequence[str], force: bool) -> None:
    targets = [path for path in (job.video, job.record_file) if path is not None]
    if job.video is not None:
        container_of(job.video)
    for path in targets:
        if any(path.exists() and Path(source).exists() and path.samefile(source) for source in sources):
            raise VideoError(f"{path}: the output must be another file than the video, got the same")
        # a folder that will be made has nothing in it
        if path.parent.exists():
            check(path, force)
    if len(targets) == 2 and targets[0].resolve() == targets[1].resolve() and str(targets[0]) != os.devnull:
        raise VideoError(f"{targets[0]}: the video and the JSON must be two files, got one")
    if job.records == STDOUT and str(job.video) in STDOUTS:
        raise VideoError("standard output: the video and the JSON must be two files, got one")


def _name(source: str, method: str, taken: set[str]) -> str:
    stem = stem_of(source)
    number = 1
    # without case: on some file systems A.mp4 and a.mp4 are one file
    while (name := f"{stem}{f'-{number}' if number > 1 else ''}.{method}").casefold() in taken:
        number += 1
    taken.add(name.casefold())
    return name


def stem_of(source: str) -> str:
    """The name that files of a source begin with: a file's name, the last part of an address, a camera."""
    if "://" in source:
        address = urlsplit(source)
        source = address.path.rstrip("/") or address.hostname or "stream"
    return re.sub(r"[^\w.+-]+", "-", Path(source).stem).strip("-") or "video"
