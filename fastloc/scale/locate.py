"""Rows of many pictures: windows of pictures, each read, decoded, located and read out by one of a few threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import cycle, islice
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from fastloc.auto import load
from fastloc.errors import FastlocError, ImageError
from fastloc.imaging import images
from fastloc.imaging.reduced_picture import check_decode
from fastloc.onnx_file.self_check import share_of
from fastloc.results.base_localizer import BATCH
from fastloc.results.batch_choice import AUTO, SAMPLE, BatchChoice, find_batch, fixed_batch
from fastloc.results.result import Result
from fastloc.scale.digests import weights_digest
from fastloc.scale.readouts import rows_of
from fastloc.scale.rows import Settings, arrays
from fastloc.scale.sources.item import Item
from fastloc.scale.sources.reading import content
from fastloc.text.prompts import checked
from fastloc.utils.described import Described
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.hardware import processors
from fastloc.utils.schema import first_line, number
from fastloc.utils.system.exhaustion import exhausted, ran_out

__all__ = ["Found", "Locate"]

# batches of a window: pictures of two sizes still fill theirs
BATCHES = 2
# windows that are under way beside each one that a thread works on
AHEAD = 2
# columns of `__call__` that hold pictures
PICTURES = ("image", "bytes", "path")

Tag = TypeVar("Tag")
Picture = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of the pictures of a window, in their order, and {"key", "reason"} of those that could not be used.

    short: the keys of those for which memory, or something else, ran out, which says nothing about them.
    """

    rows: list[dict[str, Any]]
    errors: list[dict[str, str]]
    short: list[str] = field(default_factory=list)

    def add(self, more: Found) -> None:
        """Add the pictures of another window."""
        self.rows.extend(more.rows)
        self.errors.extend(more.errors)
        self.short.extend(more.short)


class _Short(ImageError):
    """A picture for which something ran out."""


class Locate(Described):
    """Locates texts in batches of pictures; what `ray.data.Dataset.map_batches` takes as a class.

    It pickles as its arguments, and loads its model in the process that first calls it. The same pictures in one call give the same bytes
    in every process: a CPU computes each window of pictures in one thread, several windows side by side, because the last bits of a sum
    depend on how many threads share it. PyTorch's number of threads is 1 in the process as long as that lasts.

    Args:
        texts: T prompts.
        model, pretrained, method, device, options: see `fastloc.load`.
        threshold: share of full heat from which a pixel is in a box and in the mask.
        score: the least score, within [0, 1], of a text that has boxes and a mask; None for all.
        masks: masks in COCO's run lengths.
        grids: similarity grids [h, w] as float16.
        batch: pictures that go through the model at once; "auto" for a number that `find_batch` or `use_batch` sets before the first call.
        threads: windows that are computed side by side; by default the cores of this process.
        max_pixels: what a picture may decode to.
        decode: "full", or "reduced": see a call of `fastloc.Localizer`.
        self_check: the share of the model's calls that are checked in each process, see `fastloc.Localizer`; rows do not depend on it.

    Raises:
        TextError, FastlocError: texts or numbers that cannot be used; the first call raises what `fastloc.load` does.
    """

    def __init__(
        self,
        texts: Sequence[str],
        *,
        model: str | os.PathLike[str] = "embedded",
        pretrained: str | os.PathLike[str] | None = None,
        method: str | None = None,
        device: str | None = None,
        threshold: float = 0.5,
        score: float | None = None,
        masks: bool = True,
        grids: bool = False,
        batch: int | str = BATCH,
        threads: int | None = None,
        max_pixels: int = images.MAX_PIXELS,
        decode: str = "full",
        self_check: float | bool = False,
        **options: Any,
    ) -> None:
        self._describe(locals(), "options")
        self.texts = tuple(checked(texts))
        self.auto = batch == AUTO
        first: Any = BATCH if self.auto else batch
        for name, value, least in (("batch", first, 1), ("max_pixels", max_pixels, 1), ("threads", 1 if threads is None else threads, 1)):
            number(name, value, least, float("inf"))
        check_decode(decode)
        number("threshold", threshold, -float("inf"), float("inf"))
        if score is not None:
            number("score", score, 0, 1)
        # as they pickle: paths mean the same in every process, and the settings that name them are equal
        meant = self._description()
        self.batch: int
        self.model, self.pretrained, self.batch = os.fspath(meant["model"]), meant["pretrained"], first
        self.threshold, self.score, self.masks, self.grids = float(threshold), score, masks, grids
        self.max_pixels, self.decode, self.options = max_pixels, decode, {name: meant[name] for name in options}
        self.threads = processors() if threads is None else threads
        given = (("method", method), ("device", device), ("self_check", share_of(self_check) or None))
        self._chosen: dict[str, Any] = {name: value for name, value in given if value is not None}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Locate the texts in pictures.

        Args:
            batch: `key`, N strings, and one of `bytes` (N contents of picture files), `path` (N paths or addresses) and `image`
                (uint8 [N, H, W, 3], or N arrays). Other columns are ignored.

        Returns: the columns of `fastloc.scale.rows` as arrays, N x T rows in order, and `error`, "" in each of these; a picture that cannot
            be used has one row behind them, with its `key` and the reason in `error`, whose other columns are 0, "" or None.

        Raises FastlocError for a batch without such columns.
        """
        name = next((name for name in PICTURES if name in batch), None)
        if name is None or "key" not in batch:
            raise FastlocError(f"a batch must have the columns 'key' and one of {', '.join(PICTURES)}, got {', '.join(batch) or 'none'}")
        pictures = list(zip(map(str, batch["key"]), batch[name], strict=True))
        found = list(self.windows([(None, pictures)]))
        rows = [row for _, each in found for row in each.rows]
        errors = [error for _, each in found for error in each.errors]
        made = arrays([*rows, *(_empty(error["key"]) for error in errors)])
        made["error"] = np.array([*[""] * len(rows), *(error["reason"] for error in errors)], object)
        return made

    def windows(self, groups: Iterable[tuple[Tag, Sequence[Picture]]]) -> Iterator[tuple[Tag, Found]]:
        """The findings of groups of pictures, (tag, [(key, picture)]), window by window in order, each with its group's tag.

        A picture is whatever `fastloc.imaging.images.load` takes, or an `Item`. A window never holds pictures of two groups, so
        that what is computed together does not depend on the groups before. Groups are drawn as their turn comes.
        """
        if self.auto:
            raise FastlocError(f"batch must be a number before pictures are located, got {AUTO!r}; call find_batch or use_batch")
        yield from self._windows(groups, BATCHES * self.batch)

    def _windows(self, groups: Iterable[tuple[Tag, Sequence[Picture]]], size: int) -> Iterator[tuple[Tag, Found]]:
        cut = ((tag, group[start : start + size]) for tag, group in groups for start in range(0, len(group), size))
        with _undivided(self.localizer), ThreadPoolExecutor(self.threads, "fastloc-locate") as pool:
            waiting: deque[tuple[Tag, Future[Found]]] = deque()
            try:
                for tag, window in cut:
                    waiting.append((tag, pool.submit(self._window, window)))
                    if len(waiting) >= AHEAD * self.threads:
                        yield _finished(waiting)
                while waiting:
                    yield _finished(waiting)
            finally:
                for _, future in waiting:
                    future.cancel()

    def find_batch(self, pictures: Sequence[Picture]) -> BatchChoice:
        """Choose `batch` by what this process does with pictures, (key, picture): decoding, locating and reading out, in all threads.

        The first `SAMPLE` that can be used count. The choice is a measurement, and another one may differ; `use_batch` takes it over.
        An exported file of a fixed batch keeps it.
        """
        usable = list(islice(self._usable(pictures), SAMPLE))
        choice = fixed_batch(self.localizer)
        if choice is None and not usable:
            choice = BatchChoice(BATCH, {}, f"no picture among the first {len(pictures)} to measure on, so the usual number")
        choice = choice or find_batch(partial(self._try, usable))
        self.use_batch(choice.batch)
        return choice

    def use_batch(self, batch: int) -> None:
        """Set `batch`, in place of "auto" or of another number."""
        number("batch", batch, 1, float("inf"))
        self.auto, self.batch = False, batch
        self._arguments = {**self._arguments, "batch": batch}
        vars(self).pop("settings", None)
        _set_batch(self.localizer, batch)

    def _try(self, pictures: Sequence[Picture], batch: int) -> int:
        """Locate copies of pictures, a batch a thread. Returns their number."""
        _set_batch(self.localizer, batch)
        copies = list(islice(cycle(pictures), batch * self.threads))
        for _, found in self._windows([(None, copies)], batch):
            if found.errors:
                raise FastlocError(found.errors[0]["reason"])
        return len(copies)

    def _usable(self, pictures: Sequence[Picture]) -> Iterator[Picture]:
        """Pictures that can be located, those of a source as their contents: a store is asked once for each."""
        for key, source in pictures:
            with suppress(FastlocError, OSError):
                held = content(source) if isinstance(source, Item) else source
                self._decoded(key, held)
                yield key, held

    @cached_property
    def settings(self) -> Settings:
        """The settings that rows depend on. Loads the model. Raises FastlocError while `batch` is not chosen."""
        if self.auto:
            raise FastlocError(f"batch must be a number before settings are known, got {AUTO!r}; call find_batch or use_batch")
        localizer = self.localizer
        device = getattr(localizer, "device", None)
        return Settings(
            model=self.model, pretrained=str(self.pretrained or ""), method=localizer.method, digest=weights_digest(localizer),
            texts=self.texts, threshold=self.threshold, score=self.score, masks=self.masks, grids=self.grids, batch=self.batch,
            device="cpu" if device is None else str(device.type), max_pixels=self.max_pixels,
            options={name: str(value) for name, value in sorted(self.options.items())}, decode=self.decode,
        )  # fmt: skip

    @property
    def localizer(self) -> Any:
        """The localizer, loaded on first use."""
        return self._engine[0]

    @cached_property
    def _engine(self) -> tuple[Any, Any]:
        """The localizer, and its own form of the texts."""
        options = {**self._chosen, **self.options}
        if self.model.endswith(".onnx"):
            options.setdefault("threads", 1)
        localizer: Any = load(self.model, self.pretrained, **options)
        _set_batch(localizer, self.batch)
        # a text that the model cannot take is found now, not by each picture
        prepare = getattr(localizer, "encode_texts", localizer._texts)
        with _undivided(localizer):
            return localizer, prepare(self.texts)

    @cached_property
    def _turns(self) -> Any:
        """A lock where one pass at a time is all that the model takes: on a GPU, and of a classifier, whose gradients are traced."""
        localizer = self.localizer
        one = not hasattr(localizer, "encode_texts") or str(getattr(localizer, "device", "cpu")) != "cpu"
        return renewed_after_fork(Lock()) if one else nullcontext()

    def _window(self, pictures: Sequence[Picture]) -> Found:
        decoded, keys, found = [], [], Found([], [])
        for key, source in pictures:
            try:
                decoded.append(self._decoded(key, source))
                keys.append(key)
            except FastlocError as error:
                found.errors.append({"key": key, "reason": first_line(error)})
                found.short.extend([key] if ran_out(error) else [])
        for key, result in zip(keys, self._results(decoded), strict=True):
            if isinstance(result, FastlocError):
                found.errors.append({"key": key, "reason": first_line(result)})
                found.short.extend([key] if isinstance(result, _Short) else [])
            else:
                found.rows.extend(rows_of(result, key, self.threshold, self.score, masks=self.masks, grids=self.grids))
        return found

    def _results(self, pictures: list[Any]) -> list[Result | FastlocError]:
        """The Result of each picture, or the reason why the model has none: of half precision that overflows, NaN; too little memory."""
        localizer, texts = self._engine
        try:
            with self._turns:
                return list(localizer.locate(pictures, texts, [""] * len(pictures)))
        except (FastlocError, MemoryError, RuntimeError) as error:
            if not isinstance(error, FastlocError) and exhausted(error) is None:
                raise
            refused = error if isinstance(error, FastlocError) and not ran_out(error) else _Short(exhausted(error) or first_line(error))
        return [refused] if len(pictures) == 1 else [each for picture in pictures for each in self._results([picture])]

    def _decoded(self, key: str, source: Any) -> Any:
        try:
            enough = self.localizer.enough if self.decode == "reduced" else None
            given = content(source) if isinstance(source, Item) else source
            picture = images.load(given, key, max_pixels=self.max_pixels, enough=enough)
            self.localizer._geometry(picture.size[::-1], key)
        except (OSError, MemoryError) as error:
            raise ImageError(exhausted(error) or f"cannot be read ({first_line(error)})") from error
        return picture


def _set_batch(localizer: Any, batch: int) -> None:
    """Set a localizer's batch; an exported file of a fixed one keeps it."""
    if fixed_batch(localizer) is None:
        localizer.batch = batch


def _finished(waiting: deque[tuple[Tag, Future[Found]]]) -> tuple[Tag, Found]:
    tag, future = waiting.popleft()
    return tag, future.result()


@contextmanager
def _undivided(localizer: Any) -> Iterator[None]:
    """Within this context PyTorch, where it is what computes, divides no operation among threads, here and in threads begun here."""
    if not hasattr(localizer, "device"):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _empty(key: str) -> dict[str, Any]:
    """The row of a picture that could not be used."""
    numbers = dict.fromkeys(("width", "height", "text_index", "peak_x", "peak_y", "value", "similarity"), 0)
    nothing = dict.fromkeys(("score", "boxes", "mask", "grid", "grid_height", "grid_width"))
    return {"key": key, "text": "", **numbers, **nothing}
