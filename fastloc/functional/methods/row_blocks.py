"""The sum S of several blocks' softmax maps, in bounded memory.

A small S [B, H, N, N] is kept as it is. For a larger one the blocks' queries and keys are kept in its place, and the S of one head at a
time is made from them. Where even that is too large, a block of its rows at a time is made, again in every pass over it. Memory then
grows with N, and time with the passes. A tower's biases of relative positions, [H, N, N] a block, are in memory in any case.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from fastloc.functional.attention import Attend, Temperature, rows_of
from fastloc.functional.slices import at_once, in_parts, joined, parts, total
from fastloc.functional.vjp import upcast

# keys and queries, which include the logits' scale, and the bias of the logits, each [b, h, N, …]
_Sides = tuple[Tensor, Tensor, Tensor | None]
# pictures that are processed at a time, and for each group the heads
Groups = list[tuple[slice, list[slice]]]


class Maps(Protocol):
    """S of some pictures and heads, [b, h, N, N], one block of R rows after the other."""

    # True if S is in memory, so that results of its size may be too
    kept: bool

    def rows(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield a slice of rows and those rows of S, [b, h, R, N]."""

    def both(self, first: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield, from row `first` on, a slice of rows, those rows of S and those of its transpose, [b, h, R, N] each."""


class Kept:
    """S in memory."""

    kept = True

    def __init__(self, maps: Tensor, most: int | None) -> None:
        self.maps, self.most = maps, most

    def rows(self) -> Iterator[tuple[slice, Tensor]]:
        for part in self._parts(0):
            yield part, self.maps[:, :, part]

    def both(self, first: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        # read more than once, and along its rows
        across = self.maps.transpose(2, 3).contiguous()
        for part in self._parts(first):
            yield part, self.maps[:, :, part], across[:, :, part]

    def _parts(self, first: int) -> Iterator[slice]:
        batch, heads, tokens, _ = self.maps.shape
        return _rows_from(first, tokens, batch * heads * tokens, self.most)


class Recomputed:
    """S recomputed in every pass from each block's queries and keys, [b, h, N, d] each, and its bias [1, h, N, N] or None."""

    kept = False

    def __init__(self, blocks: list[_Sides], most: int | None) -> None:
        self.blocks, self.most = blocks, most
        # the log-sum-exp of each row of each block's map
        self.normalisers = [self._normaliser(*each) for each in blocks]

    def rows(self) -> Iterator[tuple[slice, Tensor]]:
        for part in self._parts(0):
            yield part, self._along(part)

    def both(self, first: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        for part in self._parts(first):
            pairs = zip(self.blocks, self.normalisers, strict=True)
            across = (
                torch.exp(_logits(k[:, :, part], q, None if bias is None else rows_of(bias.mT, part)) - each[:, :, None])
                for (q, k, bias), each in pairs
            )
            yield part, self._along(part), total(across)

    def _normaliser(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        each = q.shape[0] * q.shape[1] * q.shape[2]
        return in_parts(
            q.shape[2], each, self.most, lambda rows: torch.logsumexp(_logits(q[:, :, rows], k, rows_of(bias, rows)), -1), axis=2
        )

    def _along(self, part: slice) -> Tensor:
        pairs = zip(self.blocks, self.normalisers, strict=True)
        return total(
            torch.exp(_logits(q[:, :, part], k, rows_of(bias, part)) - each[:, :, part, None]) for (q, k, bias), each in pairs
        )

    def _parts(self, first: int) -> Iterator[slice]:
        batch, heads, tokens, _ = self.blocks[0][0].shape
        return _rows_from(first, tokens, batch * heads * tokens, self.most)


class Summed:
    """Adds up the maps of the blocks that attend through `attend`, then returns the sum, some pictures and heads at a time.

    Args:
        how: the attention of blocks whose maps are not kept.
        most: the most numbers of maps in memory at a time; None for all, whatever the shape.
    """

    def __init__(self, how: Attend, most: int | None) -> None:
        self.how, self.most = how, most
        self.groups: Groups = []
        self.sums: list[list[Tensor]] = []
        self.queries: list[Tensor] = []
        self.keys: list[Tensor] = []
        self.biases: list[Tensor | None] = []

    def attend(self, q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
        """See `fastloc.functional.attention.Attend`; a bias has the axes [1, H, N, N]."""
        batch, tokens, heads = q.shape[:3]
        self.groups = _groups(batch, heads, tokens, at_once(self.most, q))
        queries, keys = (upcast(q) * temperature).transpose(1, 2), upcast(k).transpose(1, 2)
        wide = None if bias is None else upcast(bias)
        if self.most is not None and batch * heads * tokens**2 > self.most:
            self.queries.append(queries.contiguous())
            self.keys.append(keys.contiguous())
            self.biases.append(wide)
            return self.how(q, k, v, temperature, bias)
        values, sums, seen = upcast(v).transpose(1, 2), [], []
        for i, (images, several) in enumerate(self.groups):
            maps = [torch.softmax(_logits(queries[images, some], keys[images, some], _of_heads(wide, some)), -1) for some in several]
            beside = [each @ values[images, some] for each, some in zip(maps, several, strict=True)]
            seen.append(joined(beside, 1).transpose(1, 2).flatten(2))
            sums.append([each + before for each, before in zip(maps, self.sums[i], strict=True)] if self.sums else maps)
        self.sums = sums
        return joined(seen, 0).to(v.dtype)

    def maps(self, group: int, place: int) -> Maps:
        """S of the `place`-th heads of the `group`-th pictures, see `groups`."""
        if self.sums:
            kept = self.sums[group][place]
            return Kept(kept, at_once(self.most, kept))
        images, some = self.groups[group][0], self.groups[group][1][place]
        kept_sides = zip(self.queries, self.keys, self.biases, strict=True)
        sides = [(q[images, some], k[images, some], _of_heads(bias, some)) for q, k, bias in kept_sides]
        most = at_once(self.most, self.queries[0])
        assert self.most is not None
        if sides[0][0].shape[2] ** 2 > self.most:
            return Recomputed(sides, most)
        return Kept(total(torch.softmax(_logits(*each), -1) for each in sides), most)


def _logits(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Products of queries [b, h, R, d] with keys [b, h, N, d], and a bias [1, h, R, N] if there is one: [b, h, R, N]."""
    logits = q @ k.mT
    return logits if bias is None else logits + bias


def _of_heads(bias: Tensor | None, heads: slice) -> Tensor | None:
    return None if bias is None else bias[:, heads]


def _groups(batch: int, heads: int, tokens: int, most: int | None) -> Groups:
    """Groups of as many pictures with all their heads as `most` numbers of maps allow, or of as many heads of one picture."""
    each = tokens**2
    return [(images, list(parts(heads, each, most))) for images in parts(batch, heads * each, most)]


def _rows_from(first: int, count: int, each: int, most: int | None) -> Iterator[slice]:
    """Yield slices of the rows from `first` on, as many at a time as `most` numbers allow when one row takes `each`."""
    if most is None:
        yield slice(first, None)
        return
    for part in parts(count - first, each, most):
        yield slice(first + part.start, first + part.stop)
