"""Batches in one process: shards one after the other, each committed when the last of its pictures is located."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fastloc.scale.locate import Found, Locate
from fastloc.scale.shards import Counts, Shard, commit

__all__ = ["located", "run"]


def run(locate: Locate, shards: Iterable[Shard], folder: Path) -> Iterator[tuple[int, Counts]]:
    """Locate and commit shards in a batch's folder; yields the number and the counts of each when it is on the disk.

    The next shard's pictures are already read while one is written. Raises FastlocError where a file cannot be written.
    """
    found = Found([], [])
    groups = ((shard, [(item.key, item) for item in shard.items]) for shard in shards)
    for shard, window in locate.windows(groups):
        found.add(window)
        if len(found.rows) // len(locate.texts) + len(found.errors) == len(shard.items):
            yield shard.number, commit(folder, shard, found, locate.settings)
            found = Found([], [])


def located(locate: Locate, shard: Shard) -> Found:
    """Everything found in one shard, in its order."""
    found = Found([], [])
    for _, window in locate.windows([(shard, [(item.key, item) for item in shard.items])]):
        found.add(window)
    return found
