"""The evaluation of methods on a set in one call: opened, run, kept and summed up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastloc.errors import FastlocError
from fastloc.evaluation.metrics.summary import Summary
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

__all__ = ["Evaluated", "evaluate"]

# what shows a run: called with a tally of each method and the number of pictures
Display = Callable[[Mapping[str, Tally], int], AbstractContextManager[Report]]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What became of one method: its settings and figures, and the folder of its rows, or None."""

    name: str
    settings: Settings
    summary: Summary
    folder: Path | None


def evaluate(
    data: str, root: str | os.PathLike[str], *, methods: str | Sequence[str] = (), model: str | os.PathLike[str] = "embedded",
    pretrained: str | None = None, against: str | os.PathLike[str] | None = None, protocol: str | None = None,
    changes: Mapping[str, str] | None = None, names: str | os.PathLike[str] | None = None, set_options: Mapping[str, str] | None = None,
    output: str | os.PathLike[str] | None = None, limit: int | None = None, retry: bool = False, threads: int | None = None,
    display: Display | None = None, **options: Any,
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
        output: a folder, in which each method has one of its own with run.json, rows.jsonl and result.json: new, or that of a run with
            the same settings, which goes on where it was ended and ends with the same bytes. None: nothing is written.
        limit: evaluate the first so many pictures.
        retry: judge pictures again that failed.
        threads: that read pictures; by default the cores, 8 at most.
        display: what shows the run, see `fastloc.evaluation.running.progress.shown`.

    Returns: what became of each method, in order, that of `against` last.

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
    folders = {each.name: None if output is None else Path(output) / each.name for each in found}
    with ExitStack() as stack:
        if output is not None:
            stack.enter_context(_kept(Path(output)))
        files = _files(stack, folders, settings, items)
        tallies = {name: Tally(dataset.classes, each.protocol) for name, each in settings.items()}
        judges = {each.name: each.judge for each in found}
        with display(tallies, len(items)) if display is not None else nullcontext() as report:
            run(dataset, judges, files, threads=threads or workers(), retry=retry, report=report)
        return [_evaluated(name, settings[name], file, folders[name]) for name, file in files.items()]


def _files(
    stack: ExitStack, folders: Mapping[str, Path | None], settings: Mapping[str, Settings], items: Sequence[Item]
) -> dict[str, RowFile]:  # fmt: skip
    """The rows of each method, in folders that nobody else writes to. All are checked before one is written to."""
    kept = {name: path for name, path in folders.items() if path is not None}
    for path in kept.values():
        stack.enter_context(folder.locked(path))
    for name, path in kept.items():
        folder.check(path, settings[name])
    for name, path in kept.items():
        folder.begin(path, settings[name])
    return {
        name: stack.enter_context(RowFile(None if path is None else path / folder.ROWS, items, settings[name].chunk))
        for name, path in folders.items()
    }


def _evaluated(name: str, settings: Settings, file: RowFile, path: Path | None) -> Evaluated:
    summary = Summary.of(file.read, settings.classes, settings.protocol)
    if path is not None:
        write_whole(path / folder.RESULT, lambda out: out.write(summary.dumps()))
    return Evaluated(name, settings, summary, path)


def _settings(
    entrant: Entrant, dataset: DataSet, items: Sequence[Item], root: Path, set_options: Mapping[str, str], options: Mapping[str, Any]
) -> Settings:
    return Settings(
        data=dataset.name, root=str(root.resolve()), options=dict(set_options), task=entrant.protocol.task, classes=dataset.classes,
        names=entrant.names, background=dataset.background, pictures=len(items), keys=keys_hash(items), model=entrant.model,
        pretrained=entrant.pretrained, method=entrant.localizer.method, digest=entrant.subject.digest, official=entrant.official,
        protocol=entrant.protocol, changed=entrant.changed, device=entrant.device, dtype=entrant.subject.dtype,
        model_options={name: str(value) for name, value in sorted(options.items()) if value not in (None, False)}, chunk=CHUNK,
    )  # fmt: skip


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """A folder that is made where it is not there, and is gone afterwards where nothing came into it."""
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FastlocError(f"{path}: a folder cannot be made there ({error.strerror or error})") from error
    try:
        yield
    finally:
        if made:
            with suppress(OSError):
                path.rmdir()
