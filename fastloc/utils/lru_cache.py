"""Thread-safe LRU cache; keeps memory bounded in long-running programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from fastloc.utils.fork_safety import renewed_after_fork

__all__ = ["MOST", "LruCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# embeddings of 4096 texts take 8 to 16 MB
MOST = 4096


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
