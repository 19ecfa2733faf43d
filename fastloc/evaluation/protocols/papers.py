"""A paper's evaluation as data: the usual fields of its code, and the exceptions of each set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fastloc.evaluation.protocols.schema import Protocol

__all__ = ["SEGMENTATION_SETS", "Fields", "Paper"]

Fields = dict[str, Any]

# those of the mmsegmentation family, with a background first
SEGMENTATION_SETS = ("voc21", "context60", "coco-object", "voc20", "context59", "coco-stuff", "cityscapes", "ade20k")


@dataclass(frozen=True)
class Paper:
    """One paper's rows.

    name: its value for `--protocol`; method: the method it evaluates, "" where fastloc has none.
    about: one line for a list. source: repository@commit and files.
    usual: fields of Protocol on all its sets; own: those of single sets, over the usual ones. sets: the sets that it evaluates on.
    """

    name: str
    about: str
    source: str
    usual: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sets: tuple[str, ...] = SEGMENTATION_SETS
    method: str = ""

    @cached_property
    def rows(self) -> dict[str, Protocol]:
        """The protocol of each set."""
        return {data: self._row(data, self.own.get(data, {})) for data in self.sets}

    def elsewhere(self, data: str) -> Protocol:
        """The protocol on a set that the paper does not have: its usual fields, and the set's own names."""
        note = f"{self.name} has no {data}: its usual fields, with the set's own names" if self.sets else ""
        return self._row(data, {"names": "plain", "note": note})

    def _row(self, data: str, own: Mapping[str, Any]) -> Protocol:
        return Protocol(paper=self.name, data=data, source=self.source, **{**self.usual, **own})
