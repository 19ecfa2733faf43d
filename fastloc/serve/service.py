"""The work of a service, whatever protocol asks for it: limits, reading pictures, the localizers and their batches."""

from __future__ import annotations

import asyncio
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from PIL import Image

from fastloc.errors import FastlocError, TextError, heard, unknown
from fastloc.imaging.images import load
from fastloc.imaging.picture_files import is_address
from fastloc.onnx_file.self_check import SelfCheck
from fastloc.results.base_localizer import BaseLocalizer
from fastloc.results.result import Result
from fastloc.serve.batcher import Batcher
from fastloc.serve.metrics import Metrics
from fastloc.serve.settings import Refused, Settings, ending
from fastloc.utils.system.exhaustion import pass_on
from fastloc.utils.system.lasting_pool import LastingPool
from fastloc.utils.system.panics import contained
from fastloc.web_server.fault_log import FaultLog

__all__ = ["Service"]

T = TypeVar("T")
Pair = tuple[int, int]
# threads that read pictures and read results off
THREADS = 2
# seconds a picture, before any was located
FIRST = 0.1
# a camera's usual picture
USUAL = (640, 480)
# requests that are read or answered at once, in multiples of the queue: their bodies are in memory
READING = 2
# share of the newest picture in the mean of seconds a picture
NEWEST = 0.1


class Service:
    """A localizer behind limits. `draining`: it ends, and takes no more requests.

    Args:
        localizer: any of fastloc's. `settings.methods` need one with `with_method`.
        settings: limits.

    Raises:
        FastlocError: methods that this model cannot run.
    """

    def __init__(self, localizer: BaseLocalizer[Any], settings: Settings) -> None:
        self.settings, self.metrics, self.draining = settings, Metrics(), False
        self.method = str(localizer.method)  # type: ignore[attr-defined]  # every localizer has one
        self.localizers = {self.method: localizer, **{name: _with_method(localizer, name) for name in settings.methods}}
        for name, each in self.localizers.items():
            self._count_checks(name, getattr(each, "self_check", None))
        self.batcher = Batcher(settings.batch, settings.wait, self.metrics.batch.observe)
        self._aside = LastingPool(THREADS, thread_name_prefix="fastloc-serve-pictures")
        # texts are encoded by one thread, so that each is encoded once
        self._texts = LastingPool(1, thread_name_prefix="fastloc-serve-texts")
        self.faults = FaultLog("fastloc: serve")
        self._inside, self._requests, self._pace = 0, 0, FIRST

    @property
    def inside(self) -> int:
        """Pictures that wait or are worked on."""
        return self._inside

    @property
    def name(self) -> str:
        """The model's name."""
        localizer = self.localizers[self.method]
        for holder, field in (("source", "name"), ("classifier", "name")):
            if hasattr(localizer, holder):
                return str(getattr(getattr(localizer, holder), field))
        return str(localizer.manifest.model.name)

    @property
    def busy(self) -> bool:
        """True while requests are read, worked on or answered."""
        return bool(self._requests or self._inside)

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request, from its body to its answer: the service does not end meanwhile."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def check_open(self) -> None:
        """Raise Refused where a request cannot be taken now, whatever it asks for."""
        if self.draining:
            raise ending()
        if self._inside >= self.settings.queue or self._requests >= READING * self.settings.queue:
            self._full()

    def check_count(self, pictures: int) -> None:
        """Raise Refused for a number of pictures that no request may hold."""
        if not 0 < pictures <= self.settings.pictures:
            raise Refused(413 if pictures else 422, f"a request must hold 1 to {self.settings.pictures} pictures, got {pictures}")

    async def locate(self, pictures: Sequence[bytes | str | Image.Image], texts: Sequence[str], method: str | None = None) -> list[Result]:
        """The results of pictures: encoded files' bytes, RGB pictures or, where addresses are allowed, http(s) addresses; in order.

        Raises:
            Refused: a limit, with HTTP's status. ImageError, TextError: a picture or a text that cannot be used.
        """
        localizer = self._localizer(method)
        prompts = self._checked(texts)
        count = len(pictures)
        self.check_count(count)
        self.check_open()
        if self._inside and self._inside + count > self.settings.queue:
            self._full()
        begun = asyncio.get_running_loop().time()
        self._count(count)
        try:
            async with asyncio.timeout(self.settings.seconds):
                ready = self._in(self._texts, localizer.encode_texts, prompts)
                loaded, _ = await asyncio.gather(self._all_loaded(localizer, pictures, len(prompts)), ready)
                found = await self.batcher.locate(localizer, loaded, prompts)
        except TimeoutError:
            raise Refused(504, f"the answer took longer than {self.settings.seconds:g} s; send less at a time, or later") from None
        finally:
            self._count(-count)
        self._pace += NEWEST * ((asyncio.get_running_loop().time() - begun) / max(self._inside + count, 1) - self._pace)
        return found

    def warm_up(self) -> None:
        """Locate a text in a grey picture with each method, so that no request waits for what is loaded or compiled at first.

        Raises what is wrong with the model.
        """
        for localizer in self.localizers.values():
            # an exported file may know some texts alone, and a classifier knows classes, by their numbers too
            known = getattr(localizer, "texts", None) or ("0" if hasattr(localizer, "classifier") else "cat")
            # no request holds this text
            with heard():
                localizer.locate([Image.new("RGB", USUAL, "grey")], localizer.encode_texts(known), [""])

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run the work beside the event loop and return its result. Raises Refused once the service is closed."""
        return await self._in(self._aside, work, *arguments)

    async def _in(self, pool: LastingPool, work: Callable[..., T], *arguments: Any) -> T:
        try:
            done = asyncio.get_running_loop().run_in_executor(pool, contained, work, *arguments)
        # the pool takes nothing more
        except RuntimeError as error:
            pass_on(error)
            raise ending() from None
        try:
            return await done
        except asyncio.CancelledError:
            task = asyncio.current_task()
            # by the pool, when it was closed, and not by whoever gave up the request
            if done.cancelled() and task is not None and not task.cancelling():
                raise ending() from None
            raise

    def close(self) -> None:
        """End all threads; requests from now on are refused."""
        self.draining = True
        self.batcher.close()
        for pool in (self._aside, self._texts):
            pool.shutdown(wait=False, cancel_futures=True)

    def _localizer(self, method: str | None) -> BaseLocalizer[Any]:
        if method is not None and method not in self.localizers:
            raise Refused(422, unknown("method", method[:40], self.localizers))
        found: BaseLocalizer[Any] = self.localizers[method or self.method]
        return found

    def _checked(self, texts: Sequence[str]) -> list[str]:
        settings = self.settings
        prompts = [text.strip() for text in texts]
        if not 0 < len(prompts) <= settings.texts:
            raise Refused(413 if prompts else 422, f"a request must hold 1 to {settings.texts} texts, got {len(prompts)}")
        for text in prompts:
            if len(text) > settings.letters:
                raise Refused(413, f"a text must have at most {settings.letters} letters, got {len(text)}: {text[:20] + '…'!r}")
            # controls, and halves of surrogate pairs
            if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
                raise TextError(f"a text must hold letters and signs alone, got {text[:40]!r}")
        return prompts

    async def _all_loaded(
        self, localizer: BaseLocalizer[Any], pictures: Sequence[bytes | str | Image.Image], texts: int
    ) -> list[Image.Image]:
        enough = localizer.enough if self.settings.decode == "reduced" else None
        return [await self.aside(self._loaded, picture, texts, enough) for picture in pictures]

    def _loaded(self, picture: bytes | str | Image.Image, texts: int, enough: Callable[[Pair], Pair] | None) -> Image.Image:
        if isinstance(picture, str) and not self.settings.addresses:
            raise Refused(403, "this service fetches no addresses; send the picture itself")
        # a path would be a file of the service's own machine
        if isinstance(picture, str) and not is_address(picture):
            raise Refused(422, f"url must be an http(s) address, got {picture[:60]!r}")
        loaded = load(picture, None if isinstance(picture, str) else "image", max_pixels=self.settings.pixels, enough=enough)
        if loaded.width * loaded.height * texts > self.settings.cells:
            most = f"{self.settings.cells:,} pixels times texts"
            raise Refused(413, f"a picture must have at most {most}, got {loaded.width} x {loaded.height} x {texts}; ask for fewer texts")
        return loaded

    def _count_checks(self, method: str, check: SelfCheck | None) -> None:
        """Count a localizer's self-check in the metrics, from 0 on."""
        if check is not None:
            counters = {equal: self.metrics.checked.labels(method, "equal" if equal else "different") for equal in (True, False)}
            check.listener = lambda equal: counters[equal].inc()

    def _count(self, more: int) -> None:
        self._inside += more
        self.metrics.queue.set(self._inside)

    def _full(self) -> None:
        self.metrics.refused.inc()
        after = min(max(math.ceil(self._pace * self._inside), 1), 60)
        raise Refused(429, f"{self._inside} pictures wait already, and {self.settings.queue} may; ask again in {after} s", after)


def _with_method(localizer: Any, name: str) -> Any:
    if not hasattr(localizer, "with_method"):
        raise FastlocError(f"method {name!r} cannot be offered: this model has one method, {localizer.method!r}")
    return localizer.with_method(name)
