"""One label a pixel under a paper's protocol, for whole chunks of pictures: their windows share batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fastloc.evaluation.judges import Subject
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.rows import Row
from fastloc.evaluation.samples import DataSet, Sample
from fastloc.evaluation.segmentation.cliper import cliper_labels
from fastloc.evaluation.segmentation.closing import closed
from fastloc.evaluation.segmentation.grids import stacked_grids
from fastloc.evaluation.segmentation.pictures import Input, inputs, normalisation
from fastloc.evaluation.segmentation.propagated import propagated
from fastloc.evaluation.segmentation.refine import affinity, averaged
from fastloc.evaluation.segmentation.rules import softmax_labels
from fastloc.evaluation.segmentation.stacked import Factors, Logits
from fastloc.imaging.pamr import Refinement
from fastloc.imaging.propagation import Propagation, self_affinity
from fastloc.imaging.refined_heatmaps import refinement

__all__ = ["SegmentationJudge"]


class SegmentationJudge:
    """Makes rows of counts, of samples with labels.

    subject: the model with its method. names: of each class, in the order of `dataset.classes`; with the rule "cliper" of a set without a
    background one class more, ahead of the others, whose pixels are predicted as no class.

    Raises FastlocError for a refinement with settings that it does not have.
    """

    def __init__(self, subject: Subject, protocol: Protocol, dataset: DataSet, names: Sequence[Sequence[str]]) -> None:
        self.subject, self.protocol, self.classes = subject, protocol, len(names)
        # what shares patches out by itself has the background's words beside the texts, and no map of theirs
        self.words = tuple(names[0]) if protocol.rule == "cliper" and subject.shares else ()
        asked = [(number, name) for number, each in enumerate(names) for name in each if number or not self.words]
        self.texts = [name for _, name in asked]
        self.owner = torch.tensor([number for number, _ in asked], device=subject.device)
        # of the data set's label numbers and these
        self.ahead = len(names) - len(dataset.classes)
        self.scale = subject.logit_scale if protocol.logit_scale is None else protocol.logit_scale
        self.normalisation = normalisation(subject, protocol)
        self.refinement = refinement(protocol.refinement, dict(protocol.refinement_settings)) if protocol.refinement else None
        if isinstance(self.refinement, Propagation) and self.refinement.affinity is None:
            self.refinement = replace(self.refinement, affinity=self_affinity(subject.embeddings(self.texts), once=False))

    def prepare(self, sample: Sample) -> tuple[str, list[Input]]:
        """The key and the resized picture, or its two squares, each with its truth."""
        return sample.key, inputs(sample, self.subject, self.protocol)

    @torch.inference_mode()
    def judge(self, prepared: Sequence[tuple[str, list[Input]]]) -> list[Row]:
        """The rows of one chunk of pictures, in their order."""
        flat = [each for _, parts in prepared for each in parts]
        counts = iter([self._counts(*each) for each in zip(flat, self.labels(flat), strict=True)])
        return [Row(key, _rows(torch.stack([next(counts) for _ in parts]).sum(0))) for key, parts in prepared]

    def labels(self, given: Sequence[Input]) -> list[Tensor]:
        """The predicted label of every pixel of the inputs' truths, int64 [H, W] on the device; -1 is no class."""
        pixels = [each.normalised(self.normalisation, self.subject.device) for each in given]
        grids = stacked_grids(self.subject, self.texts, self.words, self.protocol, given, pixels)
        return [self._labels(*each) for each in zip(given, pixels, grids, strict=True)]

    def logits(self, given: Input, pixels: Tensor, grids: Tensor) -> Logits:
        """The logits of one input in front of the scale: of its grids beside each other [T, n h, m w], refined."""
        rows, columns = (torch.from_numpy(each).to(grids.device, grids.dtype) for each in given.matrices())
        factors: Factors = (rows, grids, columns.T)
        if isinstance(self.refinement, Propagation):
            return Logits(propagated(factors, pixels, self.refinement))
        if isinstance(self.refinement, Refinement):
            how = self.refinement
            enlarged = interpolate(pixels[None].to(grids.dtype), given.truth.shape, mode="bilinear")[0]
            weights = affinity(enlarged, how.dilations)
            return Logits(factors, partial(averaged, weights=weights, dilations=how.dilations, iterations=how.iterations))
        return Logits(factors)

    def _labels(self, given: Input, pixels: Tensor, grids: Tensor) -> Tensor:
        protocol = self.protocol
        if protocol.rule == "cliper":
            if not self.subject.shares:
                grids = (self.scale * grids).softmax(0)
            things = (self.owner > 0).nonzero()[:, 0]
            maps = self.logits(given, pixels, grids[things])
            scores = maps.factors[1].amax((1, 2))
            labels = cliper_labels(maps, scores, self.owner[things], protocol.thresholds, protocol.normalized)
        else:
            labels = softmax_labels(self.logits(given, pixels, grids), self.scale, self.owner, self.classes, protocol)
        if protocol.closing:
            labels = closed(labels, protocol.closing)
        seen = torch.full_like(labels, -1)
        seen[given.covered()] = labels[given.covered()] - self.ahead
        return seen

    def _counts(self, given: Input, labels: Tensor) -> Tensor:
        """Pixels of each true and each predicted label, int64 [C, C + 1], the last column those of no class."""
        classes = self.classes - self.ahead
        truth = torch.from_numpy(given.truth).to(labels.device).long()
        pairs = truth * (classes + 1) + torch.where(labels < 0, classes, labels)
        counts = torch.bincount(pairs[truth >= 0], minlength=classes * (classes + 1))
        return counts.view(classes, classes + 1)


def _rows(counts: Tensor) -> tuple[tuple[int, int, int], ...]:
    """(true, predicted, pixels) of each pair that occurs; predicted -1 is no class."""
    none = counts.shape[1] - 1
    places = counts.nonzero()
    found = zip(places.tolist(), counts[tuple(places.T)].tolist(), strict=True)
    return tuple(sorted((true, -1 if chosen == none else chosen, pixels) for (true, chosen), pixels in found))
