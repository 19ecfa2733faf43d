"""Slices of a pass whose whole intermediates would not fit in memory, or in a CPU's caches.

A result of a slice is written to its place at once. One that is kept while the next slice runs lies between the next one's large
intermediates: the allocator cannot reuse the memory around it, and a process may grow as if nothing had been sliced.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

# numbers of attention maps that a CPU processes at a time: 4 MB of float32, which its caches hold; and rows of a head, of which products
# need as many to be fast
CACHE, ROWS = 1 << 20, 128
# the most numbers in memory at a time of what no read-out keeps: 16 MB of float32
SLICE = 1 << 22


def at_once(most: int | None, like: Tensor, line: int = 0) -> int | None:
    """The numbers of attention maps to process at a time on a tensor's device, where `most` may be in memory; None for all of them.

    line: the numbers of one row of all heads, of which a CPU gets `ROWS` even where its caches do not hold them.
    """
    return min(most, max(CACHE, ROWS * line)) if most is not None and like.device.type == "cpu" else most


def parts(count: int, each: int, most: int | None) -> Iterator[slice]:
    """Slices of `count` items, as many at a time as `most` numbers allow when one item takes `each`; with None all of them."""
    if most is None:
        yield slice(None)
        return
    step = max(most // max(each, 1), 1)
    for start in range(0, max(count, 1), step):
        yield slice(start, min(start + step, count))


def in_parts(count: int, each: int, most: int | None, make: Callable[[slice], Tensor], axis: int = 1) -> Tensor:
    """Call `make` on some of `count` items at a time, and join its results along `axis`, where they have one place an item.

    A call gets as many items as `most` numbers allow when one takes `each`.
    """
    if most is None or count * each <= most:
        return make(slice(None))
    whole: Tensor | None = None
    for part in parts(count, each, most):
        whole = written(whole, make(part), part, count, axis)
    assert whole is not None
    return whole


def written(whole: Tensor | None, made: Tensor, part: slice, count: int, axis: int = 1) -> Tensor:
    """Write the result of a slice to its place among `count` along `axis`; the first slice makes the tensor, and one of all items is it."""
    if part.start is None or part.stop is None or part.stop - part.start == count:
        return made
    if whole is None:
        shape = list(made.shape)
        shape[axis] = count
        whole = made.new_empty(shape)
    whole.narrow(axis, part.start, part.stop - part.start).copy_(made)
    return whole


def joined(blocks: list[Tensor], axis: int) -> Tensor:
    """The blocks as one tensor; a single block is not copied."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, axis)


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor; each is released once it is added."""
    whole: Tensor | None = None
    for each in terms:
        whole = each if whole is None else whole + each
    assert whole is not None
    return whole
