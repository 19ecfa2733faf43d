"""The content of a run's report, from its folder: run.json, result.json, and drawn pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastloc.evaluation.metrics.measures import MEASURES
from fastloc.evaluation.metrics.summary import ClassFigures, Estimate, Summary
from fastloc.evaluation.report.content import ClassLine, Figure, RunContent, Shown, exact
from fastloc.evaluation.report.published_rows import published_rows
from fastloc.evaluation.report.run_facts import model_name, run_facts
from fastloc.evaluation.running import folder
from fastloc.evaluation.running.published import ran
from fastloc.evaluation.running.settings import Settings

__all__ = ["CLASS_MEASURES", "class_measure", "ordered", "run_content"]

# of a class; the first that there is stands for it
CLASS_MEASURES = {"iou": "IoU", "point_iou": "IoU over points", "hit": "pointing accuracy"}


def run_content(path: Path, shown: Sequence[Shown] = ()) -> RunContent:
    """The content of the report of one method's run. Raises FastlocError: the folder holds no finished run, or a damaged one."""
    run, summary = folder.read(path), Summary.read(path / folder.RESULT)
    settings = run.settings
    measure = class_measure(summary)
    published, differences = published_rows(ran(settings, summary.failed), summary.measure)
    return RunContent(
        name=path.name, method=settings.method, model=model_name(settings), data=settings.data, protocol=_protocol(settings),
        pictures=summary.pictures, total=settings.pictures,
        figures=tuple(Figure(MEASURES[name].title, summary.figures[name], MEASURES[name].about) for name in ordered(summary)),
        per_class=CLASS_MEASURES.get(measure, ""),
        classes=tuple(ClassLine(each.name, _of_class(each, measure), each.share) for each in summary.classes if measure),
        confusions=summary.confusions, published=published, differences=differences, shown=tuple(shown), failures=summary.failures,
        failed=summary.failed, facts=run_facts(run), changed=frozenset(settings.changed),
    )  # fmt: skip


def _protocol(settings: Settings) -> str:
    """The protocol's paper, and the fields that are not the paper's."""
    return f"{settings.protocol.paper}, {', '.join(settings.changed)} changed" if settings.changed else settings.protocol.paper


def ordered(summary: Summary) -> list[str]:
    """The names of the figures, the protocol's own measure first."""
    return sorted(summary.figures, key=lambda name: name != summary.measure)


def class_measure(summary: Summary) -> str:
    """The name of the figure that is shown for each class; "" where there are no classes."""
    known = {name for each in summary.classes for name in each.figures}
    return next((name for name in CLASS_MEASURES if name in known), "")


def _of_class(found: ClassFigures, measure: str) -> Estimate:
    return found.figures.get(measure) or exact(float("nan"))
