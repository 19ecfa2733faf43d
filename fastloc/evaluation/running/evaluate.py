"""The evaluation of methods on a set in one call: opened, run, kept and summed up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastloc.errors import FastlocError
from fastloc.evaluation.metrics.measures import MEASURES
from fastloc.evaluation.metrics.summary import Estimate, Summary
from fastloc.evaluation.report.compare import compare
from fastloc.evaluation.report.write import write_reports
from fastloc.evaluation.running import folder
from fastloc.evaluation.running.entrants import Asked, Entrant, entrants
from fastloc.evaluation.running.pipeline import workers
from fastloc.evaluation.running.row_file import RowFile
from fastloc.evaluation.running.run import CHUNK, Report, run
from fastloc.evaluation.running.settings import Settings, keys_hash
from fastloc.evaluation.running.tally import Tally
from fastloc.evaluation.samples import DataSet, Item
from fastloc.evaluation.sets.table import open_set
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.system import files as system_files

__all__ = ["Evaluated", "evaluate"]

# what shows a run: called with a tally of each method and the number of pictures
Display = Callable[[Mapping[str, Tally], int], AbstractContextManager[Report]]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The outcome of one method.

    folder: of its rows and figures; None where nothing is kept.
    difference: its first figure less that of the first method, by a bootstrap in pairs over the pictures that both have; None of the first
        method itself, and where figures cannot be compared.
    """

    name: str
    settings: Settings
    summary: Summary
    folder: Path | None
    difference: Estimate | None


def evaluate(
    data: str, root: str | os.PathLike[str], *, methods: str | Sequence[str] = (), model: str | os.PathLike[str] = "embedded",
    pretrained: str | None = None, against: str | os.PathLike[str] | None = None, protocol: str | None = None,
    changes: Mapping[str, str] | None = None, names: str | os.PathLike[str] | None = None, set_options: Mapping[str, str] | None = None,
    output: str | os.PathLike[str] | None = None, reports: bool = True, limit: int | None = None, retry: bool = False,
    threads: int | None = None, display: Display | None = None, **options: Any,
) -> list[Evaluated]:  # fmt: skip
    """Evaluate methods of one model on a data set, each picture read once.

    Args:
        data: a row of `fastloc.evaluation.sets.table.SETS`; root: the folder that its layout lies in; set_options: of its reader.
        methods: one name or several; by default GEM, or that of an exported file.
        model, pretrained, options: see `fastloc.load`.
        against: an exported file that takes part too.
        protocol: the paper whose protocol all are judged under; by default each method's own, else SCLIP's, else "plain".
        changes: fields of the protocol, as text: {"crop": "0"}.
        names: a file of class names in the place of the protocol's, a class a line, several names of one split at commas.
        output: a folder, in which each method has one of its own with run.json, rows.jsonl, result.json, report.html and report.md: new,
            or that of a run with the same settings, which continues where it stopped and ends with the same bytes. Of several methods it
            has a report over all. None: nothing is kept.
        reports: False leaves the reports out, for which some pictures are judged again.
        limit: evaluate this many pictures, the first ones.
        retry: judge pictures again that failed; those for which memory ran out are judged again in any case.
        threads: that read pictures; by default the cores, 8 at most.
        display: the display of the run, see `fastloc.evaluation.running.progress.shown`.

    Returns: the outcome of each method, in order, that of `against` last.

    Raises:
        FastlocError: anything unknown, unreadable, missing or contradictory, before anything is written; a folder of other settings.
    """
    dataset = open_set(data, Path(root), **(set_options or {}))
    items = dataset.items()[:limit]
    if not items:
        raise FastlocError(f"{data} must have pictures in {root}, got none")
    asked = Asked(
        methods=(methods,) if isinstance(methods, str) else methods, model=model, pretrained=pretrained, against=against, paper=protocol,
        changes=changes or {}, names=names, options=options,
    )  # fmt: skip
    found = entrants(dataset, asked)
    settings = {each.name: _settings(each, dataset, items, Path(root), set_options or {}, options) for each in found}
    judges = {each.name: each.judge for each in found}
    with ExitStack() as stack:
        kept = stack.enter_context(TemporaryDirectory(prefix="fastloc-")) if output is None else output
        runs = stack.enter_context(_made(Path(kept)))
        files = _files(stack, runs, settings, items)
        tallies = {name: Tally(dataset.classes, each.protocol) for name, each in settings.items()}
        with display(tallies, len(items)) if display is not None else nullcontext() as report:
            run(dataset, judges, files, threads=threads or workers(), retry=retry, report=report)
        summaries = {name: _summed(runs / name, settings[name], file) for name, file in files.items()}
        if output is not None and reports:
            write_reports(runs, dataset, judges)
        places = dict.fromkeys(files) if output is None else {name: runs / name for name in files}
        return [Evaluated(name, settings[name], summaries[name], places[name], _difference(runs, summaries, name)) for name in files]


def _files(stack: ExitStack, root: Path, settings: Mapping[str, Settings], items: Sequence[Item]) -> dict[str, RowFile]:
    """The rows of each method, in folders that nobody else writes to. All are checked before one is written to."""
    for name in settings:
        stack.enter_context(folder.locked(root / name))
    for name, each in settings.items():
        folder.check(root / name, each)
    for name, each in settings.items():
        folder.begin(root / name, each)
    return {name: stack.enter_context(RowFile(root / name / folder.ROWS, items, each.chunk)) for name, each in settings.items()}


def _summed(path: Path, settings: Settings, file: RowFile) -> Summary:
    summary = Summary.of(file.read, settings.classes, settings.protocol)
    write_whole(path / folder.RESULT, lambda out: out.write(summary.dumps()))
    return summary


def _difference(root: Path, summaries: Mapping[str, Summary], name: str) -> Estimate | None:
    first = next(iter(summaries))
    measure = summaries[name].measure
    if name == first or not measure or measure != summaries[first].measure:
        return None
    compared = compare(root / first, root / name).figures
    return next((each.difference for each in compared if each.name == MEASURES[measure].title), None)


def _settings(
    entrant: Entrant, dataset: DataSet, items: Sequence[Item], root: Path, set_options: Mapping[str, str], options: Mapping[str, Any]
) -> Settings:
    return Settings(
        data=dataset.name, root=str(root.resolve()), options=dict(set_options), task=entrant.protocol.task, classes=dataset.classes,
        names=entrant.names, background=dataset.background, pictures=len(items), keys=keys_hash(items), model=entrant.model,
        pretrained=entrant.pretrained, method=entrant.localizer.method, digest=entrant.subject.digest,
        encoder=entrant.subject.model, official=entrant.official, protocol=entrant.protocol, changed=entrant.changed,
        device=entrant.device, dtype=entrant.subject.dtype,
        model_options={name: str(value) for name, value in sorted(options.items()) if value not in (None, False)}, chunk=CHUNK,
    )  # fmt: skip


@contextmanager
def _made(path: Path) -> Iterator[Path]:
    """The path of a folder that is made where it is missing, and removed afterwards where it stays empty."""
    made = not path.exists()
    try:
        system_files.make_folder(path, parents=True, exist_ok=True)
    except OSError as error:
        raise FastlocError(f"{path}: a folder cannot be made there ({error.strerror or error})") from error
    try:
        yield path
    finally:
        if made:
            with suppress(OSError):
                path.rmdir()
