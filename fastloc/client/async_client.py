"""The client for programs on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, overload

import httpx2

from fastloc.client import calls
from fastloc.errors import ServiceError
from fastloc.imaging.picture_files import MAX_PIXELS
from fastloc.imaging.picture_sources import is_many, pictures
from fastloc.results.result import Result
from fastloc.utils.fork_safety import keep_for_ever, renewed_after_fork

__all__ = ["AsyncClient"]


class AsyncClient:
    """`fastloc.Client` whose calls are awaited; arguments, answers and errors are the same. Pictures are read beside the event loop.

        async with AsyncClient("http://127.0.0.1:8020", token) as client:
            result = await client("photo.jpg", ["a dog", "a red car"])
    """

    def __init__(
        self, address: str, token: str = "", *, timeout: float = calls.TIMEOUT, retries: int = calls.RETRIES,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.retries = retries
        self._given: dict[str, Any] = {"address": address, "token": token, "timeout": timeout, "retries": retries}
        self._options, self._transport = calls.options(address, token, timeout), transport
        self._http: httpx2.AsyncClient | None = self._opened()
        renewed_after_fork(self)

    def _opened(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(**self._options, transport=self._transport)

    @property
    def _connections(self) -> httpx2.AsyncClient:
        if self._http is None:
            self._http = self._opened()
        if self._http.is_closed:
            raise ServiceError("the client must be open for a call, and it is closed; make another one")
        return self._http

    def _at_fork_reinit(self) -> None:
        # connections are the parent's: both processes would read what the other one asked for. Not even their destructors may run here
        if self._transport is None and self._http is not None and not self._http.is_closed:
            keep_for_ever(self._http)
            self._http = None

    def __reduce__(self) -> tuple[Any, ...]:
        calls.check_portable(self._transport)
        return partial(type(self), **self._given), ()

    @overload
    async def __call__(
        self, images: Sequence[Any], texts: str | Sequence[str], method: str | None = None, *, bgr: bool = ..., max_pixels: int = ...
    ) -> list[Result]: ...
    @overload
    async def __call__(
        self, images: Any, texts: str | Sequence[str], method: str | None = None, *, bgr: bool = ..., max_pixels: int = ...
    ) -> Result: ...
    async def __call__(
        self, images: Any, texts: str | Sequence[str], method: str | None = None, *, bgr: bool = False, max_pixels: int = MAX_PIXELS
    ) -> Result | list[Result]:
        """Locate every text in every picture; see `fastloc.Client`."""
        room = asyncio.Semaphore(calls.CONNECTIONS)

        async def located(image: Any) -> Result:
            async with room:
                call = await asyncio.to_thread(calls.ask, image, texts, method, bgr, max_pixels)
                return calls.read_result(await self._sent("POST", "v1/locate", call.parts), call)

        if not is_many(images):
            return await located(images)
        tasks = [asyncio.create_task(located(image)) for image in await asyncio.to_thread(lambda: list(pictures(images)))]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def models(self) -> list[calls.ServedModel]:
        """The model and methods of the service; see `fastloc.Client.models`."""
        return calls.read_models(await self._sent("GET", "v1/models"))

    async def ready(self) -> bool:
        """True where the service takes calls; see `fastloc.Client.ready`."""
        try:
            return (await self._connections.get("readyz")).status_code == 200
        except httpx2.HTTPError:
            return False

    async def close(self) -> None:
        """Close its connections."""
        if self._http is not None:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _sent(self, verb: str, path: str, parts: dict[str, Any] | None = None) -> httpx2.Response:
        attempt = 0
        while True:
            http = self._connections
            try:
                response = await http.request(verb, path, **(parts or {}))
            except httpx2.HTTPError as error:
                raise calls.unreachable(http.base_url, error) from None
            if (wait := calls.pause(response, attempt, self.retries)) is None:
                return response
            await asyncio.sleep(wait)
            attempt += 1
