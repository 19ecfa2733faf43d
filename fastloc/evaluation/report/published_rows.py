"""Published figures as rows of a report, and the reasons for a run's difference from the nearest."""

from __future__ import annotations

from fastloc.evaluation.protocols.differences import Ran, differences
from fastloc.evaluation.report.content import Published
from fastloc.evaluation.running.published import published

__all__ = ["published_rows"]

# rows of the table: those nearest to the run
MOST = 12


def published_rows(ran: Ran, measure: str) -> tuple[tuple[Published, ...], tuple[str, ...]]:
    """The published figures of a measure, a name in `MEASURES`, the nearest first, and the differences of the run from the first."""
    found = published(ran, measure)[:MOST]
    rows = tuple(
        Published(
            each.method, f"{each.model} {each.pretrained}", each.protocol or "not said", each.value / 100, each.source,
            "; ".join(filter(None, (each.extra, each.note, ", ".join(f"{name} {value}" for name, value in each.changes)))),
        )
        for each in found
    )  # fmt: skip
    return rows, differences(ran, found[0]) if found else ()
