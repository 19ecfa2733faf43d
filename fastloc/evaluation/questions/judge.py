"""One map a text under a protocol of questions, for whole chunks of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastloc.errors import FastlocError
from fastloc.evaluation.judges import Subject, most_together
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.questions.measured import Map, Mask, measured
from fastloc.evaluation.rows import Answer, Row
from fastloc.evaluation.samples import IGNORE, DataSet, Question, Sample
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.heatmaps import heatmaps

__all__ = ["Asked", "QuestionJudge"]


@dataclass(frozen=True, eq=False)
class Asked:
    """A picture made ready: its input [3, h, w], its geometry there, and the questions."""

    key: str
    pixels: Tensor
    geometry: Geometry
    questions: tuple[Question, ...]


class QuestionJudge:
    """Makes rows of answers. A set of labels poses a question for each class that a picture has, besides the background."""

    def __init__(self, subject: Subject, protocol: Protocol, dataset: DataSet) -> None:
        self.subject, self.protocol, self.dataset = subject, protocol, dataset

    def prepare(self, sample: Sample) -> Asked:
        """The input and the questions. Raises FastlocError for a picture without a question."""
        questions = self.questions(sample)
        size = (sample.picture.height, sample.picture.width)
        own = self.protocol.resize == "fit"
        geometry = self.subject.geometry(size) if own else fit(size, self.protocol.short_side, self.subject.patch)
        return Asked(sample.key, self.subject.pixels(sample.picture, geometry), geometry, questions)

    def questions(self, sample: Sample) -> tuple[Question, ...]:
        """The questions of a sample. Raises FastlocError where nothing is asked of it."""
        if found := sample.questions or _of_labels(sample, self.dataset):
            return found
        raise FastlocError("picture must have a class or a phrase to ask for, got none")

    @torch.inference_mode()
    def judge(self, prepared: Sequence[Asked]) -> list[Row]:
        """The rows of one chunk of pictures, in their order."""
        return [
            Row(asked.key, answers=self._answers(asked, grids)) for asked, grids in zip(prepared, self._grids(prepared), strict=True)
        ]

    @torch.inference_mode()
    def heatmaps(self, sample: Sample) -> list[Map]:
        """The min-maxed map of each question, float32 [H, W] at the picture's size, whatever size the protocol measures at."""
        asked = self.prepare(sample)
        return self._maps(asked, self._grids([asked])[0], 0)

    def _texts(self, asked: Asked) -> tuple[str, ...]:
        """The texts that are compared in a picture, each once."""
        every = self.protocol.asked == "all" and self.dataset.classes
        return tuple(dict.fromkeys(self.dataset.classes if every else (question.text for question in asked.questions)))

    def _grids(self, prepared: Sequence[Asked]) -> list[Tensor]:
        """The grids [T, h, w] of each picture's texts; pictures of one input size and the same texts go through the model together."""
        groups: dict[tuple[torch.Size, tuple[str, ...]], list[int]] = {}
        for number, asked in enumerate(prepared):
            groups.setdefault((asked.pixels.shape, self._texts(asked)), []).append(number)
        found: dict[int, Tensor] = {}
        for (shape, texts), numbers in groups.items():
            most = most_together(self.subject.device, shape[-2] * shape[-1])
            for start in range(0, len(numbers), most):
                batch = numbers[start : start + most]
                pixels = torch.stack([prepared[number].pixels for number in batch]).to(self.subject.device)
                found.update(zip(batch, self.subject.similarity(pixels, texts), strict=True))
        return [found[number] for number in range(len(prepared))]

    def _maps(self, asked: Asked, grids: Tensor, side: int) -> list[Map]:
        """Min-maxed maps at the picture's size, or in a square of so many pixels, of its grids [T, h, w]."""
        texts = self._texts(asked)
        geometry = fit((side, side), asked.geometry.input, self.subject.patch) if side else asked.geometry
        chosen = grids[[texts.index(question.text) for question in asked.questions]].float().cpu().numpy()
        return list(heatmaps(chosen, geometry, self.subject.order))

    def _answers(self, asked: Asked, grids: Tensor) -> tuple[Answer, ...]:
        side = self.protocol.truth_side
        questions = [_resized(each, side) for each in asked.questions] if side else asked.questions
        found = zip(self._maps(asked, grids, side), questions, strict=True)
        return tuple(Answer(question.label, measured(each, question, self.protocol.threshold)) for each, question in found)


def _of_labels(sample: Sample, dataset: DataSet) -> tuple[Question, ...]:
    if sample.labels is None:
        return ()
    ignored = sample.labels == IGNORE
    least = int(dataset.background)
    present = [label for label in np.unique(sample.labels).tolist() if label >= least]
    return tuple(Question(dataset.classes[label], label, sample.labels == label, ignored) for label in present)


def _resized(question: Question, side: int) -> Question:
    """The question with its masks brought to a square by their nearest pixels."""
    mask, ignored = (None if each is None else _nearest(each, side) for each in (question.mask, question.ignored))
    return replace(question, mask=mask, ignored=ignored)


def _nearest(mask: Mask, side: int) -> Mask:
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
