"""All protocols by paper and set, and the one that a method is evaluated under."""

from __future__ import annotations

from fastloc.errors import FastlocError, unknown
from fastloc.evaluation.protocols import mmseg
from fastloc.evaluation.protocols.papers import Paper
from fastloc.evaluation.protocols.schema import Protocol

__all__ = ["PAPERS", "PLAIN", "PROTOCOLS", "protocol_of"]

PLAIN = Paper(
    "plain", "the whole picture by the localizer's own size and fit, the set's own names, argmax", "", sets=(),
    usual={"resize": "fit", "crop": 0, "names": "plain", "template": "", "logit_scale": None},
)  # fmt: skip
PAPERS: dict[str, Paper] = {paper.name: paper for paper in (*mmseg.PAPERS, PLAIN)}
PROTOCOLS: dict[tuple[str, str], Protocol] = {(paper.name, data): row for paper in PAPERS.values() for data, row in paper.rows.items()}


def protocol_of(method: str, data: str, paper: str | None = None) -> Protocol:
    """The protocol of a paper on a set; without a paper the method's own where it has a row for the set, else SCLIP's, else "plain".

    "plain" is for any set. A paper's protocol on a set that it does not have keeps the paper's usual fields, see `Paper.elsewhere`.

    Raises:
        FastlocError: an unknown paper.
    """
    if paper is None:
        paper = next((each for each in (method, "sclip") if (each, data) in PROTOCOLS), "plain")
    if paper not in PAPERS:
        raise FastlocError(unknown("protocol", paper, PAPERS))
    if paper == "plain":
        return Protocol(paper="plain", data=data, source="", **PLAIN.usual)
    return PROTOCOLS.get((paper, data)) or PAPERS[paper].elsewhere(data)
