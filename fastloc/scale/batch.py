"""A batch from its sources to its folder: what is finished is kept, the rest is made, and the end is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from fastloc.results.batch_choice import SAMPLE
from fastloc.scale import manifest, one_process
from fastloc.scale.locate import Locate
from fastloc.scale.shards import SHARD, Counts, Shard, done, shards
from fastloc.scale.sources.item import Item
from fastloc.scale.sources.listing import Columns, items

__all__ = ["Maker", "batch"]

# locates and commits shards, and yields the number and the counts of each, in whatever order they are finished
Maker = Callable[[Iterable[Shard]], Iterator[tuple[int, Counts]]]


def batch(
    sources: Sequence[str], locate: Locate, folder: Path, *, shard: int = SHARD, columns: Columns | None = None, retry: bool = False,
    maker: Maker | None = None, report: Callable[[Counts], None] | None = None, chosen: Callable[[str], None] | None = None,
) -> Counts:  # fmt: skip
    """Locate texts in all pictures of the sources, and write rows/part-….parquet, errors.parquet and manifest.json into a folder.

    A run that was ended at any moment goes on where it was when it is started again, and ends with the same bytes.

    Args:
        sources, columns: see `fastloc.scale.sources.listing.items`.
        folder: a new one, or that of the same sources and settings.
        shard: pictures of a file.
        retry: make shards again in which pictures failed.
        maker: makes the shards; by default this process.
        report: called with the counts so far as shards are finished.
        chosen: called with the chosen batch and why, in one line, where that of `locate` is "auto": the folder's, or one measured on
            the first pictures and written into the folder's manifest, so that a run that goes on keeps it.

    Returns: the pictures that came in, came out and failed.

    Raises:
        FastlocError: a source that cannot be listed, a folder of other settings, a file that cannot be written, or counts that do not
            add up.
    """
    # a source that is not there leaves no folder behind
    listed = iter(items(sources, columns))
    first = list(islice(listed, SAMPLE if locate.auto else 1))
    if locate.auto:
        choice = _batch(locate, folder, first)
        if chosen is not None:
            chosen(choice)
    settings = locate.settings
    begun = manifest.begin(folder, settings, sources, shard)
    total, count = Counts(), 0

    def missing() -> Iterator[Shard]:
        nonlocal total, count
        for each in shards(chain(first, listed), shard):
            count += 1
            finished = done(folder, each, settings)
            if finished is None or (retry and finished.failed):
                yield each
            else:
                total += finished

    for _, counts in (maker or (lambda todo: one_process.run(locate, todo, folder)))(missing()):
        total += counts
        if report is not None:
            report(total)
    manifest.finish(folder, begun, total, count)
    return total


def _batch(locate: Locate, folder: Path, first: Sequence[Item]) -> str:
    """Set the batch of a run: that of the folder's rows, or one that is measured on the first pictures. Returns a line that says so."""
    before = manifest.present(folder)
    if before is None:
        return str(locate.find_batch([(item.key, item) for item in first]))
    locate.use_batch(before.settings.batch)
    return f"batch {locate.batch}: {folder} holds rows made with it"
