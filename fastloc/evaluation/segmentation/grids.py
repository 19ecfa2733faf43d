"""Similarity grids of the windows of several pictures, in batches by shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastloc.evaluation.judges import Subject, most_together
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.segmentation.pictures import Input
from fastloc.evaluation.segmentation.views import PER_WINDOW, joined, views
from fastloc.evaluation.segmentation.windows import WindowAxis

__all__ = ["stacked_grids"]


def stacked_grids(
    subject: Subject, texts: Sequence[str], words: Sequence[str], protocol: Protocol, given: Sequence[Input], pixels: Sequence[Tensor]
) -> list[Tensor]:
    """The grids of each input's windows beside each other, [T, n h, m w], of normalised pixels [3, h, w]. words: for the background.

    Batches are of one chunk's inputs alone, so that a chunk has the same answer whatever ran before.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, each in enumerate(given):
        groups.setdefault((*_shape(each.vertical), *_shape(each.horizontal)), []).append(number)
    found: list[list[Tensor]] = [[] for _ in given]
    for numbers in groups.values():
        vertical, horizontal = given[numbers[0]].vertical, given[numbers[0]].horizontal
        # the views of a window are inputs of a batch too
        inputs = vertical.inside * horizontal.inside * (PER_WINDOW if protocol.views else 1)
        most = most_together(subject.device, inputs)
        places = [
            (number, top, left) for number in numbers for top in given[number].vertical.starts for left in given[number].horizontal.starts
        ]
        for start in range(0, len(places), most):
            batch = places[start : start + most]
            cut = [pixels[number][:, top : top + vertical.side, left : left + horizontal.side] for number, top, left in batch]
            grids = _similarity(partial(subject.similarity, texts=texts, words=words), protocol, torch.stack(cut), vertical, horizontal)
            for (number, _, _), grid in zip(batch, grids, strict=True):
                found[number].append(grid)
    return [_beside(grids, len(each.vertical.starts)) for each, grids in zip(given, found, strict=True)]


def _shape(axis: WindowAxis) -> tuple[int, int, int]:
    return axis.side, axis.before, axis.seen


def _similarity(
    similarity: Callable[[Tensor], Tensor], protocol: Protocol, windows: Tensor, vertical: WindowAxis, horizontal: WindowAxis
) -> Tensor:
    """Grids [B, T, h, w] of windows [B, 3, side, side], padded or cut to sizes that the model takes; all their views in one batch."""
    shown = torch.cat(views(windows)) if protocol.views else windows
    padded = pad(shown, (horizontal.before, horizontal.after, vertical.before, vertical.after))
    grids = similarity(padded[..., : vertical.seen, : horizontal.seen])
    return joined(grids.chunk(PER_WINDOW), protocol.view_weight) if protocol.views else grids


def _beside(grids: Sequence[Tensor], down: int) -> Tensor:
    """[T, n h, m w] of n m grids [T, h, w], row by row."""
    texts, height, width = grids[0].shape
    return torch.stack(list(grids)).view(down, -1, texts, height, width).permute(2, 0, 3, 1, 4).reshape(texts, down * height, -1)
