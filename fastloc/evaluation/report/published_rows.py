"""Published figures as rows of a report, and why a run's own may differ from the nearest."""

from __future__ import annotations

from fastloc.evaluation.protocols.differences import Ran, beside, differences
from fastloc.evaluation.report.content import Published

__all__ = ["published_rows"]

# rows of the table: those nearest to the run
MOST = 12


def published_rows(ran: Ran, metric: str) -> tuple[tuple[Published, ...], tuple[str, ...]]:
    """The published figures of this metric, the nearest first, and the differences of the run from the first."""
    found = [each for each in beside(ran) if each.metric == metric][:MOST]
    rows = tuple(
        Published(
            each.method, f"{each.model} {each.pretrained}", each.protocol or "not said", each.value / 100, each.source,
            "; ".join(filter(None, (each.extra, each.note, ", ".join(f"{name} {value}" for name, value in each.changes)))),
        )
        for each in found
    )  # fmt: skip
    return rows, differences(ran, found[0]) if found else ()
