"""Rows of a run: one for each picture, one line of JSON, enough for every metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from fastloc.utils import schema

__all__ = ["Answer", "Row", "decoded", "encoded"]


@dataclass(frozen=True)
class Answer:
    """The outcome of one question: its class (-1 of a phrase) and its measures by name, such as "iou", "auc", "hit", "tp"."""

    label: int
    measures: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """One picture's outcome.

    key: the sample's.
    counts: (true label, predicted label, pixels) of each pair that occurs, without ignored pixels; predicted -1 is no class.
    answers: in the order of the questions.
    error: the reason why there are neither counts nor answers.
    short: True where memory, or something else, ran out, which says nothing about the picture.
    """

    key: str
    counts: tuple[tuple[int, int, int], ...] = ()
    answers: tuple[Answer, ...] = field(default=())
    error: str = ""
    short: bool = False


def encoded(row: Row) -> bytes:
    """One line of JSON with its line feed; empty fields are left out."""
    content = {name: value for name in ("key", "counts", "answers", "error", "short") if (value := getattr(row, name))}
    return msgspec.json.encode(content) + b"\n"


def decoded(line: bytes, name: str) -> Row:
    """The row of a line. Raises FastlocError whose message begins with name."""
    return schema.decode(line, Row, name)
