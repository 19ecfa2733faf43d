"""Measure what share of an evaluation's time lies around the model, of label sets, on this machine's CPU.

    python benchmarks/evaluate_parts/around_the_model.py [-m MODEL] [-n PICTURES] [-t THREADS]

Pictures, labels and weights are random; no data set and no checkpoint is read. Decoding is not in it: other threads do that ahead.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastloc.engine.localizer import Localizer
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.running.subjects import EngineSubject
from fastloc.evaluation.samples import Item, Sample
from fastloc.evaluation.segmentation.judge import SegmentationJudge


@dataclass(frozen=True)
class Case:
    """Pictures (height, width) of a set with so many words for class 0, and one name for each other class."""

    name: str
    picture: tuple[int, int]
    words: int
    classes: int
    fields: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("VOC21", (375, 500), 10, 21, {"probability": 0.1, "area": 0.1}),
    Case("COCO-Stuff", (480, 640), 1, 171, {"short_side": 448}),
    Case("VOC21, refined", (375, 500), 10, 21, {"probability": 0.1, "refinement": "pamr"}),
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """A set of classes."""

    classes: tuple[str, ...]
    name: str = "labels"
    task: str = "labels"
    background: bool = True

    def items(self) -> Sequence[Item]:
        return []

    def read(self, item: Item) -> Sample:
        raise NotImplementedError


class Timed(EngineSubject):
    """A subject that knows how long its model took."""

    spent = 0.0

    def similarity(self, pixels: Tensor, texts: Sequence[str], words: Sequence[str] = ()) -> Tensor:
        start = time.perf_counter()
        grids = super().similarity(pixels, texts, words)
        self.spent += time.perf_counter() - start
        return grids


def sample(case: Case, seed: int) -> Sample:
    random = np.random.default_rng(seed)
    height, width = case.picture
    coarse = Image.fromarray(random.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8))
    labels = random.integers(0, case.classes, (height // 25, width // 25)).repeat(25, 0).repeat(25, 1).astype(np.int16)
    truth = np.full(case.picture, -1, np.int16)
    truth[: len(labels), : labels.shape[1]] = labels
    return Sample(str(seed), coarse.resize((width, height), Image.Resampling.BICUBIC), truth)


def measured(case: Case, subject: Timed, pictures: int) -> None:
    names = [tuple(f"word {number}" for number in range(case.words)), *((f"class {number}",) for number in range(1, case.classes))]
    protocol = Protocol(paper="sclip", data=case.name, source="", **case.fields)
    judge = SegmentationJudge(subject, protocol, Labels(tuple(each[0] for each in names)), names)
    samples = [sample(case, seed) for seed in range(pictures)]
    judge.judge([judge.prepare(samples[0])])
    subject.spent, start = 0.0, time.perf_counter()
    judge.judge([judge.prepare(each) for each in samples])
    whole = time.perf_counter() - start
    around = whole - subject.spent
    print(f"{case.name}: {1000 * around / pictures:.0f} ms around {1000 * subject.spent / pictures:.0f} ms of the model a picture: "
          f"{around / whole:.1%}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="ViT-B-16-quickgelu", help="an architecture of open_clip, with random weights")
    parser.add_argument("-n", "--pictures", type=int, default=4, help="pictures of a chunk")
    parser.add_argument("-t", "--threads", type=int, default=2, help="threads of PyTorch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    subject = Timed(Localizer(args.model, "random", "sclip", device="cpu"))
    for case in CASES:
        measured(case, subject, args.pictures)


if __name__ == "__main__":
    main()
