"""The summary of a run: its figures with intervals, of each class too, its worst confusions, best and worst pictures; JSON in and out."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from fastloc.errors import FastlocError
from fastloc.evaluation.metrics.answers import QuestionSums
from fastloc.evaluation.metrics.bootstrap import RESAMPLES, SEED, ends, resampled
from fastloc.evaluation.metrics.confusion import Floats, LabelSums, confusions, counts_of
from fastloc.evaluation.metrics.measures import main_measure
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.rows import Row
from fastloc.utils import schema

__all__ = ["ClassFigures", "Confusion", "Estimate", "Failure", "PictureScore", "Rows", "Summary", "sums_of"]

# calls that each give all rows of a run again, in their order
Rows = Callable[[], Iterable[Row]]
CONFIDENCE = 0.95
# how many there are of confusions, of best and worst pictures each, and of failures
_PAIRS, _PICTURES, _FAILURES = 20, 12, 10
FORMAT = 1


@dataclass(frozen=True)
class Estimate:
    """A figure: its value over all pictures, the ends of its interval and its standard error, by a bootstrap over pictures."""

    value: float
    low: float
    high: float
    error: float

    @property
    def percent(self) -> float:
        """The value in percent, rounded to hundredths as mmsegmentation prints it."""
        return float(np.round(100 * self.value, 2))


@dataclass(frozen=True)
class ClassFigures:
    """One class. share: its part of all counted pixels or questions by the truth. figures: by name, none where it never occurs."""

    name: str
    share: float
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that are predicted as another ("": no class). share: their part of the true class's pixels."""

    true: str
    predicted: str
    pixels: int
    share: float


@dataclass(frozen=True)
class PictureScore:
    """A picture and its own figure: its mean IoU, or the mean of its questions."""

    key: str
    value: float


@dataclass(frozen=True)
class Failure:
    """A picture that could not be used, and the reason."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The figures of a run.

    measure: the figure that the protocol reports first, see `fastloc.evaluation.metrics.measures.MEASURES` for all; "" of no pictures.
    pictures: the number that is counted, without those that failed.
    figures: by name; those that are NaN are left out.
    confusions: the worst first. best, worst: pictures, the best or worst first; none is in both.
    failures: the first ones.
    """

    measure: str
    pictures: int
    failed: int
    figures: Mapping[str, Estimate]
    classes: tuple[ClassFigures, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    best: tuple[PictureScore, ...] = ()
    worst: tuple[PictureScore, ...] = ()
    failures: tuple[Failure, ...] = ()
    resamples: int = RESAMPLES
    seed: int = SEED
    confidence: float = CONFIDENCE
    format: int = field(default=FORMAT)

    @classmethod
    def of(cls, rows: Rows, classes: Sequence[str], protocol: Protocol, resamples: int = RESAMPLES, seed: int = SEED) -> Summary:
        """Sum up rows; they are read twice, and none is kept.

        Args:
            rows: called for all rows of the run, such as `lambda: file.read()`.
            classes: plain names, in the order of the labels; () of free phrases.
            protocol: that they were judged under.

        Raises FastlocError for a label that is no class.
        """
        sums = sums_of(protocol.task, len(classes))
        seen = _Seen(sums)
        for row in rows():
            seen.add(row)
        if not seen.pictures:
            return cls(measure="", pictures=0, failed=seen.failed, figures={}, failures=tuple(seen.failures))
        drawn = resampled((sums.of(row) for row in rows() if not row.error), seen.pictures, resamples, seed)
        estimates = {name: _estimates(value, sums.figures(drawn)[name]) for name, value in sums.figures(seen.total).items()}
        figures = {name: found[0] for name, found in estimates.items() if found[0] is not None}
        best, worst = seen.pictures_of()
        return cls(
            measure=main_measure(protocol.task, protocol.absent, protocol.threshold, set(figures)), pictures=seen.pictures,
            failed=seen.failed, figures=figures, classes=_classes(sums, classes, seen.total, drawn),
            confusions=_confusions(seen.matrix, classes), best=best, worst=worst, failures=tuple(seen.failures),
            resamples=resamples, seed=seed,
        )  # fmt: skip

    def dumps(self) -> bytes:
        """JSON with a line feed at its end; the same summary gives the same bytes."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, path: Path) -> Summary:
        """Read a summary from a file that `dumps` made. Raises FastlocError for a file that cannot be read or is damaged."""
        found = schema.decode(schema.read_file(path, str(path), error=FastlocError), cls, f"{path} is damaged", error=FastlocError)
        if found.format != FORMAT:
            raise FastlocError(f"{path} must be of format {FORMAT}, got {found.format}; evaluate again with this fastloc")
        return found


def sums_of(task: str, classes: int) -> LabelSums | QuestionSums:
    """The sums of rows of a task, "labels" or "questions", as an adder of rows. classes: their number."""
    return LabelSums(classes) if task == "labels" else QuestionSums(classes)


class _Seen:
    """The results of one pass over the rows."""

    def __init__(self, sums: LabelSums | QuestionSums) -> None:
        self._sums = sums
        self.pictures = self.failed = 0
        self.total = np.zeros(sums.width)
        self.matrix = np.zeros((sums.classes, sums.classes + 1), np.int64)
        self.failures: list[Failure] = []
        self._best: list[tuple[float, int, str]] = []
        self._worst: list[tuple[float, int, str]] = []

    def add(self, row: Row) -> None:
        if row.error:
            self.failed += 1
            self.failures += [Failure(row.key, row.error)] * (len(self.failures) < _FAILURES)
            return
        vector = self._sums.of(row)
        self.pictures += 1
        self.total += vector
        true, predicted, pixels = counts_of(row, self._sums.classes)
        # -1, no class, is the last column
        np.add.at(self.matrix, (true, predicted), pixels)
        score = self._sums.score(vector)
        if not np.isnan(score):
            # of equal ones the first
            _keep(self._best, (score, -self.pictures, row.key))
            _keep(self._worst, (-score, -self.pictures, row.key))

    def pictures_of(self) -> tuple[tuple[PictureScore, ...], tuple[PictureScore, ...]]:
        """Best and worst pictures; of few the better half and the worse half."""
        best = [PictureScore(key, value) for value, _, key in sorted(self._best, reverse=True)]
        worst = [PictureScore(key, -value) for value, _, key in sorted(self._worst, reverse=True)]
        most = min(_PICTURES, -(-self.pictures // 2))
        best = best[:most]
        taken = {each.key for each in best}
        return tuple(best), tuple(islice((each for each in worst if each.key not in taken), most))


def _keep(heap: list[tuple[float, int, str]], entry: tuple[float, int, str]) -> None:
    (heapq.heappush if len(heap) < 2 * _PICTURES else heapq.heappushpop)(heap, entry)


def _estimates(values: Floats, drawn: Floats) -> list[Estimate | None]:
    """Estimates of figures [...] from their resamples [resamples, ...], one after the other; None for a figure that is NaN."""
    columns = (values, *ends(drawn, CONFIDENCE))
    rows: Iterator[tuple[float, ...]] = zip(*(np.atleast_1d(column).tolist() for column in columns), strict=True)
    return [None if np.isnan(row).any() else Estimate(*row) for row in rows]


def _classes(sums: LabelSums | QuestionSums, names: Sequence[str], total: Floats, drawn: Floats) -> tuple[ClassFigures, ...]:
    resamples = sums.of_classes(drawn)
    columns = {name: _estimates(values, resamples[name]) for name, values in sums.of_classes(total).items()}
    shares = np.nan_to_num(sums.shares(total)).tolist()
    return tuple(
        ClassFigures(name, shares[index], {key: found for key, column in columns.items() if (found := column[index]) is not None})
        for index, name in enumerate(names)
    )


def _confusions(matrix: np.ndarray, names: Sequence[str]) -> tuple[Confusion, ...]:
    shown = [*names, ""]
    seen = matrix.sum(1)
    return tuple(
        Confusion(shown[true], shown[predicted], pixels, pixels / int(seen[true])) for true, predicted, pixels in confusions(matrix, _PAIRS)
    )
