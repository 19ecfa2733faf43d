"""A data set that is made as it is read, and a judge that counts: what runs are tested and measured with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.evaluation.rows import Row
from fastloc.evaluation.samples import Item, Sample, SampleError

__all__ = ["Counting", "Numbers"]

SIZE = (8, 6)


class Numbers:
    """Small pictures with seeded labels; those in `broken` cannot be read, those in `short` by this error. `reads` are the
    numbers that were read."""

    name, task, background = "numbers", "labels", True

    def __init__(
        self, count: int, *, broken: Sequence[int] = (), classes: int = 5, size: tuple[int, int] = SIZE, pause: float = 0.0,
        short: Mapping[int, Exception] | None = None,
    ) -> None:  # fmt: skip
        self.count, self.broken, self.size, self.pause, self.short = count, frozenset(broken), size, pause, short or {}
        self.classes = tuple(f"class {number}" for number in range(classes))
        self.reads: list[int] = []

    def items(self) -> Sequence[Item]:
        return [Item(f"{number:06d}", number) for number in range(self.count)]

    def read(self, item: Item) -> Sample:
        time.sleep(self.pause)
        self.reads.append(item.picture)
        if item.picture in self.short:
            raise self.short[item.picture]
        if item.picture in self.broken:
            raise SampleError(f"picture {item.picture} is broken")
        random = np.random.default_rng(item.picture)
        labels = random.integers(0, len(self.classes), self.size[::-1]).astype(np.int16)
        return Sample(item.key, Image.new("RGB", self.size, (item.picture % 256, 0, 0)), labels)


class Counting:
    """Predicts the next class everywhere; `chunks` are the sizes of what it was given at once."""

    def __init__(self, *, unprepared: Sequence[int] = (), unjudged: Sequence[int] = ()) -> None:
        self.unprepared, self.unjudged = frozenset(unprepared), frozenset(unjudged)
        self.chunks: list[int] = []

    def prepare(self, sample: Sample) -> Sample:
        if int(sample.key) in self.unprepared:
            raise FastlocError(f"picture {int(sample.key)} is not prepared")
        return sample

    def judge(self, prepared: Sequence[Sample]) -> list[Row]:
        self.chunks.append(len(prepared))
        for sample in prepared:
            if int(sample.key) in self.unjudged:
                raise FastlocError(f"picture {int(sample.key)} is not judged")
        return [self._row(sample) for sample in prepared]

    def _row(self, sample: Sample) -> Row:
        assert sample.labels is not None
        labels, pixels = np.unique(sample.labels, return_counts=True)
        return Row(sample.key, tuple((int(label), int(label + 1) % 5, int(count)) for label, count in zip(labels, pixels, strict=True)))
