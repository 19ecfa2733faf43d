"""PEARL's text-aware Laplacian propagation within a protocol, on cells of the picture: see `fastloc.imaging.propagation`.

Source: PGSmall/PEARL pearl_ovss.py, predict: it reads the model's input, enlarged to the picture's size, and not the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastloc.imaging.axis_sampling import bilinear
from fastloc.imaging.propagation import Propagation, propagate_cells

__all__ = ["propagated"]

# of red, green and blue in gray
_GRAY = (0.299, 0.587, 0.114)
Factors = tuple[Tensor, Tensor, Tensor]


def propagated(factors: Factors, pixels: Tensor, how: Propagation) -> Factors:
    """Logits of a picture, propagated, as factors once more, so that no array [T, H, W] is made.

    factors: rows [H, a], grids [T, a, b] and columns [b, W], whose product is the logits. pixels: the normalised input [3, h, w].
    Raises FastlocError where the texts on the cells take more than `how.budget` bytes.
    """
    rows, grids, columns = factors
    size = rows.shape[0], columns.shape[1]
    how.check(len(grids), size, grids.element_size())
    down, across = (_means(*each, grids) for each in zip(size, how.steps(size), strict=True))
    cells = (down @ rows) @ grids @ (columns @ across.T)
    gray = (pixels.to(grids.dtype) * grids.new_tensor(_GRAY)[:, None, None]).sum(0)
    gray = down @ _enlarged(gray.shape[0], size[0], grids) @ gray @ _enlarged(gray.shape[1], size[1], grids).T @ across.T
    found = torch.from_numpy(propagate_cells(cells.cpu().numpy(), gray.cpu().numpy(), how)).to(grids.device)
    return _enlarged(found.shape[1], size[0], grids), found, _enlarged(found.shape[2], size[1], grids).T


def _means(pixels: int, step: int, like: Tensor) -> Tensor:
    """[cells, pixels]: means of `step` pixels; those at the end that fill no cell are left out."""
    cells = pixels // step
    means = torch.zeros(cells, pixels, dtype=like.dtype, device=like.device)
    means[:, : cells * step] = torch.eye(cells, dtype=like.dtype, device=like.device).repeat_interleave(step, 1) / step
    return means


def _enlarged(cells: int, pixels: int, like: Tensor) -> Tensor:
    """[pixels, cells], bilinear."""
    return torch.from_numpy(bilinear(cells, pixels)).to(like.device, like.dtype)
