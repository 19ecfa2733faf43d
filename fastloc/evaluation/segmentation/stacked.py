"""Logits of a picture as a product of three factors, read in tiles so that no array [T, H, W] is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Best", "Block", "Factors", "Logits", "best"]

# rows @ grids @ columns, [H, a], [T, a, b] and [b, W]: see `fastloc.evaluation.segmentation.windows`
Factors = tuple[Tensor, Tensor, Tensor]

# numbers in the logits of a tile, by kind of device: smaller ones cost a CPU's threads more waiting for each other; and those of whole
# maps at a time
_TILE = {"cpu": 1 << 22, "cuda": 1 << 25}
_CHUNK = 1 << 25
# rows of a tile where there are many texts
_ROWS = 32


@dataclass(frozen=True, eq=False)
class Block:
    """Logits [t, rows, columns] of some texts, from number `first` on, in one tile of the picture."""

    rows: slice
    columns: slice
    first: int
    logits: Tensor


@dataclass(frozen=True, eq=False)
class Logits:
    """The logits of a picture, block by block.

    factors: rows [H, a], grids [T, a, b] and columns [b, W], whose product they are. refined: a function of maps [t, H, W] of
    whole pictures, each by itself, or None.
    """

    factors: Factors
    refined: Callable[[Tensor], Tensor] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.factors[0].shape[0], self.factors[2].shape[1]

    def of(self, texts: Tensor) -> Logits:
        """The logits of some texts, int64 [t]."""
        rows, grids, columns = self.factors
        return replace(self, factors=(rows, grids[texts], columns))

    def blocks(self, where: Tensor | None = None) -> Iterator[Block]:
        """All blocks, or those with a pixel where `where`, bool [H, W], is true."""
        return self._tiles(where) if self.refined is None else self._chunks()

    def _tiles(self, where: Tensor | None) -> Iterator[Block]:
        rows, grids, columns = self.factors
        (height, width), texts = self.size, len(grids)
        vertical, horizontal = _bands(rows), _bands(columns.T)
        budget = _TILE.get(grids.device.type, _TILE["cuda"])
        across = min(max(budget // (texts * _ROWS), 1), width)
        down = min(max(budget // (texts * across), 1), height)
        for columns_of in _slices(width, across):
            beside = _read(horizontal, columns_of)
            # [a, T, columns], so that the product with the rows is one of two matrices
            strip = (grids[:, :, beside] @ columns[beside, columns_of]).transpose(0, 1).contiguous()
            for rows_of in _slices(height, down):
                if where is not None and not where[rows_of, columns_of].any():
                    continue
                above = _read(vertical, rows_of)
                made = rows[rows_of, above] @ strip[above].flatten(1)
                yield Block(rows_of, columns_of, 0, made.view(len(made), texts, -1).transpose(0, 1))

    def _chunks(self) -> Iterator[Block]:
        rows, grids, columns = self.factors
        assert self.refined is not None
        height, width = self.size
        for chunk in _slices(len(grids), max(_CHUNK // (height * width), 1)):
            maps = rows @ (grids[chunk] @ columns)
            yield Block(slice(0, height), slice(0, width), chunk.start, self.refined(maps))


@dataclass(frozen=True, eq=False)
class Best:
    """The best of every pixel: the largest logit and its text's number, int64, and the logarithm of the sum of powers over all texts, or
    None: [H, W]."""

    value: Tensor
    number: Tensor
    total: Tensor | None


def best(logits: Logits, where: Tensor | None = None, *, total: float | None = None) -> Best:
    """The best text of every pixel, the first of equal ones; of blocks without a pixel in `where` nothing is to be read.

    total: the factor of the logits in the sum of powers; without it there is no sum.
    """
    grids = logits.factors[1]
    value = grids.new_full(logits.size, -torch.inf)
    number = torch.zeros(logits.size, dtype=torch.int64, device=grids.device)
    powers = grids.new_full(logits.size, -torch.inf) if total is not None else None
    for block in logits.blocks(where):
        at = block.rows, block.columns
        largest, text = block.logits.max(0)
        better = largest > value[at]
        value[at] = torch.maximum(value[at], largest)
        number[at] = torch.where(better, text + block.first, number[at])
        if powers is not None and total is not None:
            powers[at] = torch.logaddexp(powers[at], (total * block.logits).logsumexp(0))
    return Best(value, number, powers)


def _slices(length: int, most: int) -> Iterator[slice]:
    """Slices of `most` and a rest."""
    return (slice(start, min(start + most, length)) for start in range(0, length, most))


def _bands(matrix: Tensor) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The band of each row [n, a]: the index of its first number that is not 0, and that behind its last; a and 0 for a row of zeros."""
    used = matrix.ne(0).cpu().numpy()
    length, some = used.shape[1], used.any(1)
    return np.where(some, used.argmax(1), length), np.where(some, length - used[:, ::-1].argmax(1), 0)


def _read(bands: tuple[NDArray[np.intp], NDArray[np.intp]], pixels: slice) -> slice:
    """The numbers that a slice of rows reads, one at least."""
    first, last = int(bands[0][pixels].min()), int(bands[1][pixels].max())
    return slice(first, last) if first < last else slice(0, 1)
