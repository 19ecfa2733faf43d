"""All protocols by paper and set, and the one that a method is evaluated under."""

from __future__ import annotations

from dataclasses import replace

from fastloc.errors import FastlocError, unknown
from fastloc.evaluation.protocols import asked, mmseg, whole
from fastloc.evaluation.protocols.papers import Paper
from fastloc.evaluation.protocols.schema import Protocol

__all__ = ["PAPERS", "PLAIN", "PROTOCOLS", "protocol_of"]

PLAIN = Paper(
    "plain", "any set: whole pictures at the localizer's own size and fit, the set's own names; argmax, or each present text alone", "",
    {"resize": "fit", "crop": 0, "names": "plain", "template": "", "logit_scale": None, "asked": "present"}, sets=(),
)  # fmt: skip
PAPERS: dict[str, Paper] = {paper.name: paper for paper in (*mmseg.PAPERS, *whole.PAPERS, *asked.PAPERS, PLAIN)}
PROTOCOLS: dict[tuple[str, str], Protocol] = {(paper.name, data): row for paper in PAPERS.values() for data, row in paper.rows.items()}
# for methods whose paper does not have the set, the first that has
_USUAL = ("sclip", "chefer", "point_miou", "pointing")
_LARGE = "-large"


def protocol_of(method: str, data: str, paper: str | None = None, *, task: str = "labels", model: str = "") -> Protocol:
    """The protocol of a paper on a set; without a paper the method's own where it has a row for the set, else the first of SCLIP's,
    Chefer's, the points' and the pointing game's that has one, else "plain".

    "plain" is for any set. A paper's protocol on a set that it does not have keeps the paper's usual fields, see `Paper.elsewhere`.

    Args:
        task: of the set, "labels" or "questions"; a set of labels can be asked as questions by a paper's protocol of questions.
        model: its name; of a ViT-L/14 the paper's own settings for one are taken, where it has such and no paper is named.

    Raises:
        FastlocError: an unknown paper, and a protocol of labels for a set of questions.
    """
    if paper is None:
        own = (f"{method}{_LARGE}",) if "L-14" in model.replace("/", "-") else ()
        paper = next((each for each in (*own, method, *_USUAL) if (each, data) in PROTOCOLS), PLAIN.name)
    if paper not in PAPERS:
        raise FastlocError(unknown("protocol", paper, PAPERS))
    row = PROTOCOLS.get((paper, data)) or PAPERS[paper].elsewhere(data)
    if paper == PLAIN.name:
        return replace(row, task=task)
    if task == "questions" and row.task != task:
        fitting = ", ".join((*(each.name for each in asked.PAPERS), PLAIN.name))
        raise FastlocError(f"protocol must be one of questions for {data}, got {paper!r}; use {fitting}")
    return row
