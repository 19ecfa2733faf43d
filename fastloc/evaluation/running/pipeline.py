"""Pictures read ahead in threads, and judged chunk by chunk by several judges that share the decoding."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastloc.errors import FastlocError
from fastloc.evaluation.judges import Judge
from fastloc.evaluation.rows import Row
from fastloc.evaluation.samples import DataSet, Item
from fastloc.utils.hardware import processors
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import exhausted, ran_out

__all__ = ["judged", "workers"]

# chunks that are read while one is judged
AHEAD = 2

# what became of one picture: the prepared sample of each judge by name, or a row that says why there is none
Prepared = Mapping[str, Any]


def workers() -> int:
    """Threads that read by default: the cores of this process, 8 at most."""
    return min(processors(), 8)


def judged(
    dataset: DataSet, judges: Mapping[str, Judge[Any]], todo: Iterable[tuple[int, Sequence[Item], Sequence[str]]], threads: int
) -> Iterator[tuple[int, str, list[Row]]]:
    """Judge chunks of pictures, each picture read and decoded once.

    Args:
        todo: (number, items, names of the judges) of each chunk, drawn as its turn comes.
        threads: that read and prepare side by side.

    Yields: (number, name, rows) of each chunk and judge, in order. A picture that cannot be read, prepared or judged has a row with an
        error; at most AHEAD + 1 chunks of pictures are in memory.
    """
    with ThreadPoolExecutor(threads, "fastloc-read") as pool:
        waiting: deque[tuple[int, Sequence[Item], Sequence[str], list[Future[Prepared]]]] = deque()
        try:
            for number, items, names in todo:
                waiting.append((number, items, names, [pool.submit(_prepared, dataset, judges, item, names) for item in items]))
                if len(waiting) > AHEAD:
                    yield from _finished(judges, *waiting.popleft())
            while waiting:
                yield from _finished(judges, *waiting.popleft())
        finally:
            for *_, futures in waiting:
                for future in futures:
                    future.cancel()


def _prepared(dataset: DataSet, judges: Mapping[str, Judge[Any]], item: Item, names: Sequence[str]) -> Prepared:
    try:
        sample = dataset.read(item)
    except (FastlocError, OSError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, (FastlocError, OSError)) or ran_out(error)):
            raise
        return dict.fromkeys(names, _failed(item.key, error))
    made: dict[str, Any] = {}
    for name in names:
        try:
            made[name] = judges[name].prepare(sample)
        except (FastlocError, MemoryError, RuntimeError) as error:
            if not (isinstance(error, FastlocError) or ran_out(error)):
                raise
            made[name] = _failed(item.key, error)
    return made


def _finished(
    judges: Mapping[str, Judge[Any]], number: int, items: Sequence[Item], names: Sequence[str], futures: list[Future[Prepared]]
) -> Iterator[tuple[int, str, list[Row]]]:
    ready = [future.result() for future in futures]
    for name in names:
        found = {item.key: each[name] for item, each in zip(items, ready, strict=True)}
        good = [(key, each) for key, each in found.items() if not isinstance(each, Row)]
        found.update(zip((key for key, _ in good), _rows(judges[name], good), strict=True))
        yield number, name, [found[item.key] for item in items]


def _rows(judge: Judge[Any], prepared: list[tuple[str, Any]]) -> list[Row]:
    """The rows of a chunk; where it cannot be judged as a whole, of each picture alone."""
    if not prepared:
        return []
    try:
        return judge.judge([each for _, each in prepared])
    except (FastlocError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, FastlocError) or ran_out(error)):
            raise
        return [_failed(prepared[0][0], error)] if len(prepared) == 1 else [row for each in prepared for row in _rows(judge, [each])]


def _failed(key: str, error: BaseException) -> Row:
    return Row(key, error=exhausted(error) or first_line(error), short=ran_out(error))
