"""Preparation of a sample for the model: its bytes or inputs, the map from grids to its pixels, and its truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastloc.errors import FastlocError
from fastloc.evaluation.judges import Subject
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.samples import Labels, Sample
from fastloc.evaluation.segmentation import resize
from fastloc.evaluation.segmentation.windows import WindowAxis, axis
from fastloc.imaging.axis_sampling import bilinear
from fastloc.imaging.geometry import Geometry

__all__ = ["Input", "Normalisation", "inputs", "normalisation"]

Pair = tuple[int, int]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

# OpenAI's mean and deviation, and mmseg's digits of them times 255
_OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_MMSEG = (122.771, 116.746, 104.094), (68.501, 66.632, 70.323)


@dataclass(frozen=True, eq=False)
class Input:
    """One input and the truth of its pixels.

    pixels: uint8 [h, w, 3] of a resized picture, or a normalised float [3, h, w].
    truth: labels, int16 [H, W]. vertical, horizontal: its windows.
    geometry: of an input that is laid out as the localizer does it, else None.
    """

    pixels: Tensor
    truth: Labels
    vertical: WindowAxis
    horizontal: WindowAxis
    geometry: Geometry | None = None
    steps: int = 2

    def normalised(self, how: Normalisation, device: torch.device) -> Tensor:
        """Float32 [3, h, w] on the device."""
        if self.pixels.dtype != torch.uint8:
            return self.pixels.to(device)
        mean, std = (torch.tensor(each, device=device)[:, None, None] for each in how)
        return (self.pixels.to(device).permute(2, 0, 1).float() - mean) / std

    def matrices(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """rows [H, n h] and columns [W, m w] from the windows' grids to the truth's pixels; 0 where the input has none of the picture."""
        height, width = self.truth.shape
        grid = self.vertical.cells, self.horizontal.cells
        if self.geometry is not None:
            return self.geometry.resampling(grid)
        if self.steps == 1:
            return bilinear(grid[0], height), bilinear(grid[1], width)
        return self.vertical.matrix(height), self.horizontal.matrix(width)

    def covered(self) -> tuple[slice, slice]:
        """(rows, columns) of the truth that the input has."""
        return (slice(None), slice(None)) if self.geometry is None else self.geometry.covered()


def normalisation(subject: Subject, protocol: Protocol) -> Normalisation:
    """Mean and deviation of bytes: mmseg's where the protocol is of its family and the model's are OpenAI's, else the model's own."""
    own = tuple(subject.mean), tuple(subject.std)
    if protocol.resize == "mmcv" and all(np.allclose(mine, theirs, 0, 1e-6) for mine, theirs in zip(own, _OPENAI, strict=True)):
        return _MMSEG
    mean, std = (tuple(255 * value for value in each) for each in own)
    return mean, std


def inputs(sample: Sample, subject: Subject, protocol: Protocol) -> list[Input]:
    """The inputs of a picture: one, or two of one that is cut into squares.

    Raises FastlocError for a truth of another size than its picture's.
    """
    picture, truth = sample.picture, sample.labels
    if truth is None or truth.shape != (picture.height, picture.width):
        shape = "none" if truth is None else f"{truth.shape[0]} x {truth.shape[1]}"
        raise FastlocError(f"labels must be {picture.height} x {picture.width} as the picture, got {shape}")
    if protocol.resize == "fit":
        return [_fitted(picture, truth, subject)]
    size = _size((picture.height, picture.width), subject.patch, protocol)
    if protocol.resize == "mmcv":
        array = resize.linear(np.asarray(picture), size)
    else:
        array = np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC))
    if protocol.resize == "centre":
        array, truth = _centre(array, truth, protocol.short_side)
    return [_windowed(part, labels, subject, protocol) for part, labels in _parts(array, truth, protocol.cut)]


def _size(picture: Pair, patch: Pair, protocol: Protocol) -> Pair:
    short = protocol.short_side
    if protocol.resize == "mmcv":
        height, width = resize.short_side(picture, short, protocol.long_side)
        return max(height, 1), max(width, 1)
    if protocol.resize == "square":
        return short, short
    ratio = short / min(picture)
    if protocol.resize == "centre":
        # torchvision cuts the long side to a whole number
        height, width = (short if side == min(picture) else int(short * side / min(picture)) for side in picture)
        return height, width
    height, width = (max(int(side * ratio / cell + 0.5), 1) * cell for side, cell in zip(picture, patch, strict=True))
    return height, width


def _parts(array: NDArray[np.uint8], truth: Labels, cut: str) -> Iterator[tuple[NDArray[np.uint8], Labels]]:
    """The whole picture, or its left square and the rest at the right."""
    split, at = array.shape[0], truth.shape[0]
    if not cut or split >= array.shape[1] or at >= truth.shape[1]:
        yield array, truth
        return
    yield array[:, :split], truth[:, :at]
    yield array[:, split:], truth[:, at:]


def _centre(array: NDArray[np.uint8], truth: Labels, side: int) -> tuple[NDArray[np.uint8], Labels]:
    """The middle squares of a resized picture and of its truth, which is brought to the same size by its nearest pixels."""
    near = Image.fromarray(truth.astype(np.int32)).resize((array.shape[1], array.shape[0]), Image.Resampling.NEAREST)
    top, left = (round((length - side) / 2) for length in array.shape[:2])
    within = slice(top, top + side), slice(left, left + side)
    return array[within], np.asarray(near).astype(np.int16)[within]


def _windowed(array: NDArray[np.uint8], truth: Labels, subject: Subject, protocol: Protocol) -> Input:
    vertical, horizontal = (
        axis(length, protocol.crop, protocol.stride, patch, protocol.odd)
        for length, patch in zip(array.shape[:2], subject.patch, strict=True)
    )
    # papers outside the mmseg family bring the grid of a whole picture to its own size in one step
    steps = 2 if protocol.resize == "mmcv" or protocol.crop else 1
    return Input(torch.from_numpy(np.array(array)), truth, vertical, horizontal, steps=steps)


def _fitted(picture: Image.Image, truth: Labels, subject: Subject) -> Input:
    geometry = subject.geometry((picture.height, picture.width))
    pixels = subject.pixels(picture, geometry)
    vertical, horizontal = (axis(length, 0, 1, patch, "floor") for length, patch in zip(geometry.input, subject.patch, strict=True))
    return Input(pixels, truth, vertical, horizontal, geometry)
