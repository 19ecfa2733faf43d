"""What comes out of a file: the scores on the patch grid, and maps and labels made of them within the graph."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastloc.functional.position_embedding import axis_weights
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import through_input
from fastloc.onnx_file.formats import UNSEEN
from fastloc.recipes import ReadOut

Pair = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """Where maps are drawn: over the pictures of a geometry, or over the encoder's input of whatever size comes in."""

    geometry: Geometry | None
    size: Pair
    grid: Pair

    def upsampled(self, values: Tensor, order: str) -> Tensor:
        """[B, T, h, w] -> [B, T, H, W], bilinear, as the order has it."""
        rows, columns = self._matrices(values, through_input(order))
        return rows @ (values @ columns.transpose(0, 1))

    def _matrices(self, values: Tensor, through: bool) -> tuple[Tensor, Tensor]:
        # over the input itself there is no second step
        if self.geometry is None:
            rows, columns = (axis_weights(side, cells, "bilinear", values) for side, cells in zip(self.size, self.grid, strict=True))
            return rows, columns
        rows, columns = (torch.from_numpy(each).to(values) for each in self.geometry.resampling(self.grid, through))
        return rows, columns

    def covered(self, maps: Tensor) -> Tensor:
        """The part of the maps that the encoder saw."""
        return maps if self.geometry is None else maps[(..., *self.geometry.covered())]

    def seen(self, values: Tensor) -> Tensor:
        """The part of the grid that holds any of the picture."""
        return values if self.geometry is None else values[(..., *self.geometry.seen(self.grid))]

    def mask(self, like: Tensor) -> Tensor | None:
        """1 where the encoder looked, 0 elsewhere, [H, W]; None where it looked everywhere."""
        if self.geometry is None:
            return None
        mask = np.zeros(self.geometry.picture, np.float32)
        mask[self.geometry.covered()] = 1
        return None if mask.all() else torch.from_numpy(mask).to(like)


def heatmaps(similarity: Tensor, place: Place, readout: ReadOut) -> Tensor:
    """[B,T,h,w] -> [B,T,H,W] float32; what `fastloc.imaging.heatmaps.heatmaps` gives, with one text a softmax by min-max on the picture
    too.
    """
    if readout.order == "grid":
        values = _minmax(similarity, place.seen(similarity))
        values = 1 - values if readout.reverse else values
        return _masked(place.upsampled(values, readout.order).clamp(0, 1), place)
    maps = place.upsampled(similarity, readout.order)
    if readout.order == "none":
        return maps
    # what one text alone is read out from passes no input
    direct = place.upsampled(similarity, "picture") if through_input(readout.order) else maps
    picture = _minmax(direct, place.covered(direct))
    picture = 1 - picture if readout.reverse else picture
    if readout.order == "picture":
        return _masked(picture, place)
    assert readout.scale is not None
    if readout.order == "softmax-grid":
        competing = place.upsampled(torch.softmax(readout.scale * similarity, 1), readout.order).clamp(0, 1)
    else:
        competing = torch.softmax(readout.scale * maps, 1)
    # a text without rivals would be 1 everywhere; told by a tensor, because an exported graph may take any number of texts
    alone = torch.ones_like(similarity[0, :, 0, 0]).sum() < 1.5
    return _masked(torch.where(alone, picture, competing), place)


def labels(similarity: Tensor, place: Place, readout: ReadOut) -> Tensor:
    """[B,T,h,w] -> uint8 [B,H,W], the most similar text; UNSEEN where a crop hid the frame."""
    maps = place.upsampled(-similarity if readout.reverse else similarity, readout.order)
    best = maps.argmax(1)
    mask = place.mask(maps)
    if mask is not None:
        best = torch.where(mask > 0, best, UNSEEN)
    return best.to(torch.uint8)


# of `fastloc.onnx_file.formats.OUTPUTS`, those that are made of the similarity
MADE: dict[str, Callable[[Tensor, Place, ReadOut], Tensor]] = {"heatmaps": heatmaps, "labels": labels}


def _minmax(values: Tensor, part: Tensor) -> Tensor:
    """Scaled by the part's least and greatest value; a map that is constant but for rounding becomes 0, as in
    `fastloc.imaging.heatmaps.minmax`.
    """
    low, high = part.amin((2, 3), keepdim=True), part.amax((2, 3), keepdim=True)
    span = high - low
    noise = 8 * torch.finfo(values.dtype).eps * torch.maximum(low.abs(), high.abs())
    scaled = (values - low) / torch.where(span <= noise, 1.0, span)
    return torch.where(span <= noise, 0.0, scaled)


def _masked(maps: Tensor, place: Place) -> Tensor:
    mask = place.mask(maps)
    return maps if mask is None else maps * mask
