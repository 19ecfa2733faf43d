"""Bars and a strip of marks as inline SVG, which the page's style colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fastloc.evaluation.metrics.summary import Estimate

__all__ = ["bar", "difference_bar", "strip"]

# of the strip, in pixels: a line of labels, and the axis's own height
_LINE, _AXIS = 18, 30
# share of the strip's width that a letter of a label takes where the strip is as narrow as a phone
_LETTER = 0.02


def bar(estimate: Estimate, top: float = 1.0) -> str:
    """A bar of a value in [0, top] with its interval as a whisker; an empty track for NaN."""
    value, low, high = (_within(100 * each / top, 0, 100) for each in (estimate.value, estimate.low, estimate.high))
    fill = "" if math.isnan(value) else f'<rect class="fill" width="{value:.2f}" height="12"/>'
    return _drawn("0 0 100 12", f'<rect class="track" width="100" height="12"/>{fill}{_whisker(low, high)}')


def difference_bar(estimate: Estimate, most: float) -> str:
    """A bar from the middle to a difference in [-most, most] with its interval; pale where the interval holds 0."""
    value, low, high = (_within(100 * each / (most or 1), -100, 100) for each in (estimate.value, estimate.low, estimate.high))
    soft = "" if low > 0 or high < 0 else " soft"
    fill = "" if math.isnan(value) else f'<rect class="fill{soft}" x="{min(value, 0):.2f}" width="{abs(value):.2f}" height="12"/>'
    middle = '<line class="zero" x1="0" x2="0" y1="-2" y2="14"/>'
    return _drawn("-100 0 200 12", f'<rect class="track" x="-100" width="200" height="12"/>{fill}{middle}{_whisker(low, high)}')


def _drawn(box: str, content: str) -> str:
    return f'<svg class="bar" viewBox="{box}" preserveAspectRatio="none" aria-hidden="true">{content}</svg>'


def _whisker(low: float, high: float) -> str:
    # an interval without width is no whisker
    if math.isnan(low) or math.isnan(high) or high - low < 0.05:
        return ""
    ends = "".join(f'<line x1="{x:.2f}" x2="{x:.2f}" y1="3" y2="9"/>' for x in (low, high))
    return f'<line x1="{low:.2f}" x2="{high:.2f}" y1="6" y2="6"/>{ends}'


def _within(value: float, least: float, most: float) -> float:
    return value if math.isnan(value) else min(max(value, least), most)


def strip(own: Estimate, label: str, marks: Sequence[tuple[str, float]]) -> str:
    """An axis of percent with the run's value and interval on it, and rings for other values, each with its words above.

    own and the marks' values are shares in [0, 1].
    """
    values = [each for each in (own.value, own.low, own.high, *(value for _, value in marks)) if not math.isnan(each)]
    left, right, step = _range([100 * value for value in values])

    def at(value: float) -> float:
        return 100 * (100 * value - left) / (right - left)

    words = sorted([(at(own.value), label, "own"), *((at(value), text, "") for text, value in marks)])
    lines = _levels([(x, len(text)) for x, text, _ in words])
    top = _LINE * (max(lines) + 1) + 8
    stems, parts = [], []
    for (x, text, kind), line in zip(words, lines, strict=True):
        y = _LINE * (max(lines) - line) + 12
        anchor = "end" if x > 75 else "start" if x < 25 else "middle"
        stems.append(f'<line class="stem" x1="{x:.2f}%" x2="{x:.2f}%" y1="{y + 4}" y2="{top}"/>')
        parts.append(f'<text class="{kind}" x="{x:.2f}%" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')
    parts.append(f'<line class="axis" x1="0" x2="100%" y1="{top}" y2="{top}"/>')
    if not math.isnan(own.low):
        parts.append(f'<line class="span" x1="{at(own.low):.2f}%" x2="{at(own.high):.2f}%" y1="{top}" y2="{top}"/>')
    parts += [f'<circle class="ring" cx="{at(value):.2f}%" cy="{top}" r="5"/>' for _, value in marks]
    parts.append(f'<circle class="dot" cx="{at(own.value):.2f}%" cy="{top}" r="6"/>')
    ticks = [left + step * index for index in range(round((right - left) / step) + 1)]
    for tick in ticks:
        anchor = "start" if tick == ticks[0] else "end" if tick == ticks[-1] else "middle"
        end = " %" if tick == ticks[-1] else ""
        parts.append(f'<text x="{at(tick / 100):.2f}%" y="{top + 24}" text-anchor="{anchor}">{tick:g}{end}</text>')
    return f'<svg class="strip" height="{top + _AXIS}" role="img" aria-label="{escape(label)}">{"".join(stems + parts)}</svg>'


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """Ends of an axis that holds the values with room, and the step of its ticks."""
    low, high = min(values), max(values)
    wide = max(high - low, 2.0)
    step = next(each for each in (0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if wide / each <= 6 or each == 20)
    left = max(math.floor(low / step - 0.4) * step, 0)
    right = min(math.ceil(high / step + 0.4) * step, 100)
    return left, max(right, left + step), step


def _levels(labels: Sequence[tuple[float, int]]) -> list[int]:
    """A line for each label, from left to right, so that none covers another; positions in percent, lengths in letters."""
    ends: list[float] = []
    found = []
    for x, letters in labels:
        width = 100 * _LETTER * letters
        start = x - width if x > 75 else x if x < 25 else x - width / 2
        line = next((index for index, end in enumerate(ends) if end < start), len(ends))
        ends[line:] = [start + width + 1, *ends[line + 1 :]]
        found.append(line)
    return found
