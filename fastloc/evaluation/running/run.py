"""A run of judges over a set: finished rows are kept, the rest is judged, and an interrupted run continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from fastloc.evaluation.judges import Judge
from fastloc.evaluation.rows import Row
from fastloc.evaluation.running.pipeline import judged
from fastloc.evaluation.running.row_file import RowFile
from fastloc.evaluation.samples import DataSet, Item

__all__ = ["CHUNK", "Report", "run"]

# pictures that are judged together
CHUNK = 8
# chunks whose rows are replaced at once where failed pictures are tried again
_RETRIED = 64

# called with the name of a judge, rows of it, and whether they are made now or were there
Report = Callable[[str, Sequence[Row], bool], None]


def run(
    dataset: DataSet, judges: Mapping[str, Judge[Any]], files: Mapping[str, RowFile], *, threads: int, retry: bool = False,
    report: Report | None = None,
) -> None:  # fmt: skip
    """Judge the pictures whose rows are missing in the files, by each judge the file of its name; every picture is read once.

    Args:
        files: of the same items and chunks.
        threads: that read and prepare pictures.
        retry: judge chunks again in which pictures failed; those in which memory, or something else, ran out are judged again in any case.
        report: called as rows are made, after those that were there already.

    Raises FastlocError where a file cannot be written.
    """
    again = judged(dataset, judges, _failed(files, retry), threads)
    while batch := list(islice(again, _RETRIED)):
        for name, file in files.items():
            if mine := {chunk: rows for chunk, judge, rows in batch if judge == name}:
                file.replace(mine)
    if report is not None:
        for name, file in files.items():
            for row in file.read():
                report(name, [row], False)
    for _, name, rows in judged(dataset, judges, _missing(files), threads):
        files[name].append(rows)
        if report is not None:
            report(name, rows, True)


def _failed(files: Mapping[str, RowFile], every: bool) -> list[tuple[int, Sequence[Item], list[str]]]:
    one = next(iter(files.values()))
    chunks = {name: file.failed if every else file.short for name, file in files.items()}
    by_chunk = {chunk: [name for name, mine in chunks.items() if chunk in mine] for chunk in range(one.chunks)}
    return [(chunk, one.part(chunk), names) for chunk, names in by_chunk.items() if names]


def _missing(files: Mapping[str, RowFile]) -> Iterator[tuple[int, Sequence[Item], list[str]]]:
    done = {name: file.done for name, file in files.items()}
    one = next(iter(files.values()))
    for chunk in range(min(done.values()), one.chunks):
        yield chunk, one.part(chunk), [name for name, count in done.items() if count <= chunk]
