"""Thread-safe LRU caches; they keep memory bounded in long-running programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Any, Generic, ParamSpec, TypeVar, cast
from weakref import WeakMethod

from fastloc.utils.fork_safety import renewed_after_fork

__all__ = ["MOST", "LruCache", "RowCache", "remembered"]

P = ParamSpec("P")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
# an array of numpy's or a tensor of PyTorch's
A = TypeVar("A", bound=Any)

# embeddings of 4096 texts take 8 to 16 MB
MOST = 4096
# rows of one block
ROWS = 256


def remembered(method: Callable[P, V], most: int) -> Callable[P, V]:
    """A bound method behind `functools.lru_cache` with so many results, for an attribute of its own object, which it does not hold.

    By a method that did, the object would hold itself: its memory, such as the weights of a model, would stay until the collector of cycles
    comes. Raises ReferenceError where the object is gone.
    """
    return cast(Callable[P, V], lru_cache(maxsize=most)(partial(_called, WeakMethod(method))))


def _called(method: WeakMethod[Callable[..., V]], /, *args: Any, **kwargs: Any) -> V:
    bound = method()
    if bound is None:
        raise ReferenceError("the object of this method is gone")
    return bound(*args, **kwargs)


class LruCache(Generic[K, V]):
    """Cache of the most recently requested values: at least `most` of them, and at least twice those of the last call. Thread-safe."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._values: dict[K, V] = {}
        self._lock = renewed_after_fork(threading.Lock())

    def missing(self, keys: Sequence[K]) -> list[K]:
        """The keys that would be made, each once, in order."""
        with self._lock:
            return [key for key in dict.fromkeys(keys) if key not in self._values]

    def all(self, keys: Sequence[K], make: Callable[[K], V]) -> list[V]:
        """The values of all keys, in order; those that are missing are made, once each."""
        distinct = list(dict.fromkeys(keys))
        with self._lock:
            found = {key: self._values[key] for key in distinct if key in self._values}
        for key in distinct:
            if key not in found:
                found[key] = make(key)
        with self._lock:
            # to the end, where those used last are
            for key in distinct:
                self._values.pop(key, None)
            self._values.update(found)
            for key in list(self._values)[: max(len(self._values) - max(self.most, 2 * len(distinct)), 0)]:
                del self._values[key]
        return [found[key] for key in keys]

    def __len__(self) -> int:
        return len(self._values)


class RowCache(Generic[K, A]):
    """Cache as `LruCache` is, of arrays of one shape: their rows lie side by side in blocks. Thread-safe.

    An array for each of them would be a small piece of memory that stays, taken between large ones that go: it keeps the heap around it
    from being used for large ones again, and a program that meets new keys now and then grows for hours.

    Args:
        blank: makes an uninitialised array of so many rows, each of the shape, dtype and device of the one given.
        stack: stacks a list of rows.
        most: as for `LruCache`.
    """

    def __init__(self, blank: Callable[[int, A], A], stack: Callable[[list[A]], A], most: int = MOST) -> None:
        self.most = most
        self._blank, self._stack = blank, stack
        # key -> number of its row, in the order of their last use
        self._places: dict[K, int] = {}
        self._blocks: list[A] = []
        self._free: list[int] = []
        self._lock = renewed_after_fork(threading.Lock())

    def missing(self, keys: Sequence[K]) -> list[K]:
        """The keys that would be made, each once, in order."""
        with self._lock:
            return [key for key in dict.fromkeys(keys) if key not in self._places]

    def all(self, keys: Sequence[K], make: Callable[[K], A]) -> A:
        """A new array with the rows of all keys, in order; those that are missing are made, once each."""
        distinct = list(dict.fromkeys(keys))
        with self._lock:
            there = [key for key in distinct if key in self._places]
            # a copy, because another thread may drop a row and write another one in its place
            found = dict(zip(there, self._stack([self._row(key) for key in there]), strict=True)) if there else {}
        for key in distinct:
            if key not in found:
                found[key] = make(key)
        with self._lock:
            for key, row in found.items():
                if key not in self._places:
                    self._keep(key, row)
                # to the end, where those used last are
                self._places[key] = self._places.pop(key)
            for key in list(self._places)[: max(len(self._places) - max(self.most, 2 * len(distinct)), 0)]:
                self._free.append(self._places.pop(key))
            if len(self._free) > max(self.most, len(self._places)) + ROWS:
                self._shrink()
        return self._stack([found[key] for key in keys])

    def __len__(self) -> int:
        return len(self._places)

    def _row(self, key: K) -> A:
        block, at = divmod(self._places[key], ROWS)
        row: A = self._blocks[block][at]
        return row

    def _keep(self, key: K, row: A) -> None:
        if not self._free:
            begin = ROWS * len(self._blocks)
            self._blocks.append(self._blank(ROWS, row))
            self._free = list(range(begin + ROWS - 1, begin - 1, -1))
        place = self._free.pop()
        self._blocks[place // ROWS][place % ROWS] = row
        # last, so that a fork in between finds no place without its row
        self._places[key] = place

    def _shrink(self) -> None:
        """Give back the blocks of a call that was much larger than others."""
        rows = {key: self._row(key) for key in self._places}
        self._places, self._blocks, self._free = {}, [], []
        for key, row in rows.items():
            self._keep(key, row)
