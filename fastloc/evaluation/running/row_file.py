"""The rows of a run in a file: appended chunk by chunk, cut to whole chunks when a run continues."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from fastloc.errors import FastlocError
from fastloc.evaluation import rows
from fastloc.evaluation.rows import Row
from fastloc.evaluation.samples import Item
from fastloc.utils.atomic_write import replacing
from fastloc.utils.system import files

__all__ = ["RowFile"]


class RowFile:
    """Rows of the items in their order, a line each.

    Args:
        path: the file, a new one or that of a run which was interrupted at any moment.
        items: of the run.
        chunk: pictures that are written at once.

    Raises FastlocError: the file cannot be read or written, or holds rows of other pictures.
    """

    def __init__(self, path: Path, items: Sequence[Item], chunk: int) -> None:
        self.path, self.items, self.chunk = path, items, chunk
        # chunks in which pictures failed, and those of them in which something ran out
        self.failed: set[int] = set()
        self.short: set[int] = set()
        self.failures = 0
        # bytes of whole chunks
        self._end = 0
        self._file: IO[bytes] = _opened(path)
        try:
            self.done = self._whole()
        except OSError as error:
            self._close()
            raise self._unwritten(error) from error
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    @property
    def chunks(self) -> int:
        """The number of chunks in all."""
        return -(-len(self.items) // self.chunk)

    def part(self, chunk: int) -> Sequence[Item]:
        """The items of one chunk."""
        return self.items[chunk * self.chunk : (chunk + 1) * self.chunk]

    def append(self, found: Sequence[Row]) -> None:
        """Write the rows of the next chunk, and sync them to the disk."""
        self._check(self.done, found)
        content = b"".join(map(rows.encoded, found))
        try:
            self._file.write(content)
            files.sync(self._file)
        except OSError as error:
            self._drop()
            raise self._unwritten(error) from error
        self._end += len(content)
        self._count(self.done, found)
        self.done += 1

    def replace(self, chunks: Mapping[int, Sequence[Row]]) -> None:
        """Replace the rows of whole chunks atomically."""
        for chunk, found in chunks.items():
            self._check(chunk, found)
        try:
            with replacing(self.path, sync=True) as part, files.opened(part) as file:
                for chunk, old in enumerate(self._chunks()):
                    file.write(b"".join(map(rows.encoded, chunks[chunk])) if chunk in chunks else b"".join(old))
            self._close()
            self._file = _opened(self.path)
            self.done = self._whole()
        except OSError as error:
            raise self._unwritten(error) from error

    def read(self) -> Iterator[Row]:
        """The rows so far, one after the other."""
        for number, line in enumerate(self._lines(), 1):
            yield rows.decoded(line, f"{self.path}:{number} is damaged")

    def _chunks(self) -> Iterator[list[bytes]]:
        lines = self._lines()
        for chunk in range(self.done):
            yield [next(lines) for _ in self.part(chunk)]

    def _lines(self) -> Iterator[bytes]:
        self._file.flush()
        self._file.seek(0)
        # `yield from` would close the file with the generator
        for line in self._file:  # noqa: UP028
            yield line
        self._file.seek(0, os.SEEK_END)

    def _whole(self) -> int:
        """Cut the file to its whole chunks, and count them."""
        self.failed, self.short, self.failures = set(), set(), 0
        end, size, found, done = 0, 0, [], 0
        for number, line in enumerate(self._lines(), 1):
            if not line.endswith(b"\n"):
                break
            if done == self.chunks:
                raise FastlocError(f"{self.path} must hold {len(self.items):,} rows at most, got more; give another folder with -o")
            found.append(rows.decoded(line, f"{self.path}:{number} is damaged"))
            size += len(line)
            if len(found) == len(self.part(done)):
                self._check(done, found)
                self._count(done, found)
                end, size, found, done = end + size, 0, [], done + 1
        if self._file.seek(0, os.SEEK_END) != end:
            self._file.truncate(end)
            self._file.seek(end)
        self._end = end
        return done

    def _drop(self) -> None:
        """Cut off what a failed write left behind the last whole chunk, as far as the disk lets us; what it does not, the next run does."""
        self._close()
        with suppress(OSError), files.opened(self.path, "r+b") as file:
            file.truncate(self._end)

    def _close(self) -> None:
        # what is left in the buffer after a write that failed is written once more, and what the disk says then is known
        with suppress(OSError):
            self._file.close()

    def _check(self, chunk: int, found: Sequence[Row]) -> None:
        keys = [item.key for item in self.part(chunk)]
        if [row.key for row in found] != keys:
            raise FastlocError(
                f"{self.path} must hold the pictures of the set in its order, got others in chunk {chunk}; "
                "give another folder with -o"
            )

    def _count(self, chunk: int, found: Sequence[Row]) -> None:
        errors = sum(bool(row.error) for row in found)
        if errors:
            self.failed.add(chunk)
            self.failures += errors
        if any(row.short for row in found):
            self.short.add(chunk)

    def _unwritten(self, error: OSError) -> FastlocError:
        return FastlocError(f"{self.path}: cannot be written ({error.strerror or error})")


def _opened(path: Path) -> IO[bytes]:
    try:
        return files.opened(path, "r+b" if path.exists() else "x+b")
    except OSError as error:
        raise FastlocError(f"{path}: cannot be written ({error.strerror or error})") from error
