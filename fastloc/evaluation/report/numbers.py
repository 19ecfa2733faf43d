"""Numbers of reports in words: shares as percent, intervals, differences."""

from __future__ import annotations

import math

from fastloc.evaluation.metrics.summary import Estimate
from fastloc.evaluation.report.content import RunContent

__all__ = ["counted", "evaluated", "interval", "percent", "signed", "signed_interval"]

MINUS = "−"
_NONE = "–"


def percent(value: float, digits: int = 1) -> str:
    """A share in [0, 1] as percent without its sign: "54.3"; "–" for NaN."""
    return _NONE if math.isnan(value) else f"{100 * value:.{digits}f}".replace("-", MINUS)


def interval(estimate: Estimate) -> str:
    """The ends: "52.1 … 56.2"; "" where there are none."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    return f"{percent(estimate.low)} … {percent(estimate.high)}"


def signed(value: float, digits: int = 1) -> str:
    """A difference of shares in percent points, with its sign: "+1.2", "−0.4", "0.0"."""
    if math.isnan(value):
        return _NONE
    text = f"{100 * value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def signed_interval(estimate: Estimate) -> str:
    """The ends of a difference: "−0.4 … +1.2"."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    return f"{signed(estimate.low)} … {signed(estimate.high)}"


def counted(count: int, noun: str) -> str:
    """ "1 picture", "1,449 pictures"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def evaluated(content: RunContent) -> str:
    """ "1,449 pictures", "1,447 of 1,449 pictures"."""
    total = counted(content.total, "picture")
    return total if content.pictures == content.total else f"{content.pictures:,} of {total}"
