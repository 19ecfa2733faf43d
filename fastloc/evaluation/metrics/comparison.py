"""The comparison of two runs on the same pictures: differences of figures, resampled in pairs, and the pictures that changed most."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from fastloc.evaluation.metrics.bootstrap import RESAMPLES, SEED, ends, resampled
from fastloc.evaluation.metrics.confusion import Floats
from fastloc.evaluation.metrics.summary import Estimate, sums_of
from fastloc.evaluation.rows import Row

__all__ = ["Change", "ClassDifferences", "Comparison", "Difference", "Pairs"]

# calls that each give the two rows of every picture again, in one order
Pairs = Callable[[], Iterable[tuple[Row, Row]]]
_CHANGES = 20


@dataclass(frozen=True)
class Difference:
    """A figure of both runs. difference: the second less the first. above: the share of resamples in which it is above 0, 0 itself half."""

    first: float
    second: float
    difference: Estimate
    above: float


@dataclass(frozen=True)
class ClassDifferences:
    """One class. share: its part of all counted pixels or questions by the truth. figures: by name, none where it never occurs."""

    name: str
    share: float
    figures: Mapping[str, Difference]


@dataclass(frozen=True)
class Change:
    """A picture's own figure in both runs."""

    key: str
    first: float
    second: float


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side. changes: the pictures whose own figure moved most, the largest first."""

    pictures: int
    figures: Mapping[str, Difference]
    classes: tuple[ClassDifferences, ...] = ()
    changes: tuple[Change, ...] = ()

    @classmethod
    def of(cls, pairs: Pairs, classes: Sequence[str], task: str, resamples: int = RESAMPLES, seed: int = SEED) -> Comparison:
        """Compare two runs; their rows are read twice, and none is kept.

        Args:
            pairs: called for the rows of both runs, (first, second) of one picture each, none with an error.
            classes: plain names of both, in the order of the labels. task: of both, "labels" or "questions".

        Raises FastlocError for a label that is no class.
        """
        sums = sums_of(task, len(classes))
        total, pictures = np.zeros((2, sums.width)), 0
        moved: list[tuple[float, int, Change]] = []
        for pair in pairs():
            vectors = np.stack([sums.of(row) for row in pair])
            total += vectors
            pictures += 1
            change = Change(pair[0].key, sums.score(vectors[0]), sums.score(vectors[1]))
            if (size := abs(change.second - change.first)) > 0:
                (heapq.heappush if len(moved) < _CHANGES else heapq.heappushpop)(moved, (size, -pictures, change))
        if not pictures:
            return cls(0, {})
        both = (np.concatenate([sums.of(row) for row in pair]) for pair in pairs())
        drawn = resampled(both, pictures, resamples, seed).reshape(resamples, 2, sums.width)
        figures = _differences(sums.figures(total), sums.figures(drawn))
        by_class = _differences(sums.of_classes(total), sums.of_classes(drawn))
        shares = np.nan_to_num(sums.shares(total[0])).tolist()
        return cls(
            pictures, {name: found[0] for name, found in figures.items() if found[0] is not None},
            tuple(
                ClassDifferences(name, shares[index], {key: mine for key, found in by_class.items() if (mine := found[index]) is not None})
                for index, name in enumerate(classes)
            ),
            tuple(change for _, _, change in sorted(moved, reverse=True)),
        )  # fmt: skip

    def dumps(self) -> bytes:
        """JSON with a line feed at its end; the same comparison gives the same bytes."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode() + b"\n"


def _differences(values: Mapping[str, Floats], drawn: Mapping[str, Floats]) -> dict[str, list[Difference | None]]:
    """Differences of figures [2, ...] and their resamples [resamples, 2, ...], one by one; None for a figure that is NaN in a run."""
    return {name: _column(value.reshape(2, -1), drawn[name].reshape(len(drawn[name]), 2, -1)) for name, value in values.items()}


def _column(values: Floats, drawn: Floats) -> list[Difference | None]:
    moved = drawn[:, 1] - drawn[:, 0]
    low, high, error = ends(moved)
    counted = np.maximum((~np.isnan(moved)).sum(0), 1)
    above = ((moved > 0).sum(0) + (moved == 0).sum(0) / 2) / counted
    columns = (*values, values[1] - values[0], low, high, error, above)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [None if np.isnan(row).any() else Difference(row[0], row[1], Estimate(*row[2:6]), row[6]) for row in rows]
