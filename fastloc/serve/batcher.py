"""Batches of pictures of many requests: one input size each, made by one thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from fastloc.results.base_localizer import BaseLocalizer
from fastloc.results.result import Result
from fastloc.serve.settings import ending
from fastloc.utils.system.lasting_pool import LastingPool
from fastloc.utils.system.panics import contained

__all__ = ["Batcher"]

# texts of one batch, where requests with different texts share one
TEXTS = 1024


@dataclass(frozen=True, eq=False)
class _Job:
    """One picture that waits, and the future of its result."""

    localizer: BaseLocalizer[Any]
    picture: Image.Image
    texts: tuple[str, ...]
    answer: asyncio.Future[Result]
    since: float


class Batcher:
    """Makes batches: of the picture that has waited longest, and those with which it can share a pass.

    A batch begins when it is full, or when its first picture has waited for `wait` seconds and the model is free. Pictures share a pass if
    they have one localizer and one input size, and the same texts; of a method that compares each text by itself, any texts.

    Args:
        batch: pictures at once; None for as many as the localizer takes.
        wait: seconds.
        made: called with the number of pictures of each batch.
    """

    def __init__(self, batch: int | None, wait: float, made: Callable[[int], object]) -> None:
        self._batch, self._wait, self._made = batch, wait, made
        self._groups: dict[Hashable, list[_Job]] = {}
        self._thread = LastingPool(1, thread_name_prefix="fastloc-serve-engine")
        self._come: asyncio.Event | None = None
        self._worker: asyncio.Task[None] | None = None
        self._running: list[_Job] = []
        self._closed = False

    async def locate(self, localizer: BaseLocalizer[Any], pictures: Sequence[Image.Image], texts: Sequence[str]) -> list[Result]:
        """The results of the pictures, in order. Cancelled, those that still wait are not computed.

        Raises ImageError for a picture that the model does not take, Refused once the batcher is closed, and what the localizer raises.
        """
        if self._closed:
            raise ending()
        loop = asyncio.get_running_loop()
        places = [localizer.place(picture) for picture in pictures]
        jobs = [_Job(localizer, picture, tuple(texts), loop.create_future(), loop.time()) for picture in pictures]
        if self._worker is None or self._come is None or self._worker.done():
            self._come = asyncio.Event()
            self._worker = loop.create_task(self._work(self._come))
        for job, place in zip(jobs, places, strict=True):
            key = (id(localizer), place.input, None if _apart(localizer) else job.texts)
            self._groups.setdefault(key, []).append(job)
        self._come.set()
        try:
            return list(await asyncio.gather(*(job.answer for job in jobs)))
        finally:
            for job in jobs:
                job.answer.cancel()

    def close(self) -> None:
        """End the thread, after the batch that it is at; pictures that wait get Refused. Any thread may call it, and twice."""
        self._closed = True
        if self._worker is not None:
            # tasks belong to their loop's thread; a loop that is closed has none left
            with contextlib.suppress(RuntimeError):
                self._worker.get_loop().call_soon_threadsafe(self._worker.cancel)
        self._thread.shutdown(cancel_futures=True)

    async def _work(self, come: asyncio.Event) -> None:
        """Make batches until it is cancelled. Whoever waits then gets Refused; where it ends of an error of ours, that error."""
        error: Exception | None = None
        try:
            await self._batches(come)
        except Exception as raised:
            error = raised
        finally:
            # nobody computes what is left
            for job in [*self._running, *(job for group in self._groups.values() for job in group)]:
                if not job.answer.done():
                    job.answer.set_exception(error or ending())
            self._groups.clear()

    async def _batches(self, come: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while True:
            group = self._oldest()
            if group is None:
                come.clear()
                await come.wait()
                continue
            most = self._batch or group[0].localizer.batch
            left = group[0].since + self._wait - loop.time()
            if len(group) < most and left > 0:
                come.clear()
                await _set_within(come, left)
                continue
            jobs = _sharing(group[:most])
            del group[: len(jobs)]
            self._running = jobs
            await self._run(jobs)
            self._running = []

    def _oldest(self) -> list[_Job] | None:
        """The group of the picture that has waited longest, without cancelled pictures."""
        for key, group in list(self._groups.items()):
            group[:] = [job for job in group if not job.answer.done()]
            if not group:
                del self._groups[key]
        return min(self._groups.values(), key=lambda group: group[0].since, default=None)

    async def _run(self, jobs: list[_Job]) -> None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, contained, _located, jobs)
        except Exception as error:
            if len(jobs) > 1:
                # one of them may spoil it for the others
                for job in jobs:
                    await self._run([job])
            elif not jobs[0].answer.done():
                # its thread takes nothing more
                jobs[0].answer.set_exception(ending() if self._closed else error)
            return
        for job, result in zip(jobs, found, strict=True):
            if not job.answer.done():
                job.answer.set_result(result)
        self._made(len(jobs))


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _sharing(jobs: list[_Job]) -> list[_Job]:
    """The first jobs, as many as have no more texts than one pass may."""
    texts: set[str] = set()
    for index, job in enumerate(jobs):
        texts.update(job.texts)
        if index and len(texts) > TEXTS:
            return jobs[:index]
    return jobs


def _located(jobs: list[_Job]) -> list[Result]:
    # jobs that share their texts also share the copies of one that is given twice
    same = all(job.texts == jobs[0].texts for job in jobs)
    texts = jobs[0].texts if same else tuple(dict.fromkeys(text for job in jobs for text in job.texts))
    localizer = jobs[0].localizer
    results = localizer.locate([job.picture for job in jobs], localizer.encode_texts(texts), [""] * len(jobs))
    return [result if job.texts == texts else _part(result, texts, job.texts) for job, result in zip(jobs, results, strict=True)]


def _part(result: Result, texts: tuple[str, ...], chosen: tuple[str, ...]) -> Result:
    """The result for some of its texts, of which none depends on the others."""
    rows = [texts.index(text) for text in chosen]
    values = {name: each[rows] for name in ("scores", "image_scores", "limits") if (each := getattr(result, name)) is not None}
    return replace(result, texts=chosen, similarity=result.similarity[rows], **values)


def _apart(localizer: Any) -> bool:
    """True where a text's similarity does not depend on the other texts of a call, and a call takes any number of them."""
    manifest = getattr(localizer, "manifest", None)
    recipe = getattr(localizer if manifest is None else manifest, "recipe", None)
    free = manifest is None or (not manifest.texts.baked and manifest.texts.count is None)
    return recipe is not None and recipe.readout.score == "cosine" and free
