"""The outputs of a file: the scores on the patch grid, and maps and labels computed from them in the graph."""

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
    """The target of maps: the pictures of a geometry, or the encoder's input at its own size."""

    geometry: Geometry | None
    size: Pair
    grid: Pair

    def upsampled(self, values: Tensor, order: str) -> Tensor:
        """Upsample [B, T, h, w] -> [B, T, H, W], bilinear, in the given order."""
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
        """The encoder's view [H, W], 1 inside and 0 outside; None if it covers everything."""
        if self.geometry is None:
            return None
        mask = np.zeros(self.geometry.picture, np.float32)
        mask[self.geometry.covered()] = 1
        return None if mask.all() else torch.from_numpy(mask).to(like)


def heatmaps(similarity: Tensor, place: Place, readout: ReadOut) -> Tensor:
    """Heatmaps [B,T,H,W], float32, of similarities [B,T,h,w], as `fastloc.imaging.heatmaps.heatmaps` gives them.

    With one text, softmax orders become min-max on the picture here too.
    """
    if readout.order == "grid":
        values = _minmax(similarity, place.seen(similarity))
        values = 1 - values if readout.reverse else values
        return _masked(place.upsampled(values, readout.order).clamp(0, 1), place)
    maps = place.upsampled(similarity, readout.order)
    if readout.order == "none":
        return maps
    # the read-out of one text alone does not pass the input's size
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
    # a text without rivals would be 1 everywhere; a tensor decides, because an exported graph may take any number of texts
    alone = torch.ones_like(similarity[0, :, 0, 0]).sum() < 1.5
    return _masked(torch.where(alone, picture, competing), place)


def labels(similarity: Tensor, place: Place, readout: ReadOut) -> Tensor:
    """The index of the most similar text, uint8 [B,H,W], from similarities [B,T,h,w]; UNSEEN where a crop hid the frame."""
    maps = place.upsampled(-similarity if readout.reverse else similarity, readout.order)
    best = maps.argmax(1)
    mask = place.mask(maps)
    if mask is not None:
        best = torch.where(mask > 0, best, UNSEEN)
    return best.to(torch.uint8)


# the rows of `fastloc.onnx_file.formats.OUTPUTS` that are computed from the similarity
MADE: dict[str, Callable[[Tensor, Place, ReadOut], Tensor]] = {"heatmaps": heatmaps, "labels": labels}


def _minmax(values: Tensor, part: Tensor) -> Tensor:
    """Scale values by the part's least and greatest value.

    A map that is constant up to rounding becomes 0, as in `fastloc.imaging.heatmaps.minmax`.
    """
    low, high = part.amin((2, 3), keepdim=True), part.amax((2, 3), keepdim=True)
    span = high - low
    noise = 8 * torch.finfo(values.dtype).eps * torch.maximum(low.abs(), high.abs())
    scaled = (values - low) / torch.where(span <= noise, 1.0, span)
    return torch.where(span <= noise, 0.0, scaled)


def _masked(maps: Tensor, place: Place) -> Tensor:
    mask = place.mask(maps)
    return maps if mask is None else maps * mask
