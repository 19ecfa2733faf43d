"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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

__all__ = ["Client"]


class Client:
    """A service's localizer: pictures and texts in, the same `fastloc.Result` out as where the model runs.

        with Client("http://127.0.0.1:8020", token) as client:
            result = client("photo.jpg", ["a dog", "a red car"])

    Threads may share one. A forked process opens connections of its own, unless the transport is yours; it pickles as its address, token,
    timeout and retries. Close it, or use it in a `with` block.

    Args:
        address: of the service, as it printed it: http://HOST:PORT.
        token: that the service asks for; "" for none.
        timeout: seconds of silence that end a call.
        retries: how often a call that the service had no room for (429) is made again, each time after the wait that it asks for.
        transport: httpx2's, for calls that do not go over the network.

    Raises:
        ServiceError: an address or a token that cannot be one.
    """

    def __init__(
        self, address: str, token: str = "", *, timeout: float = calls.TIMEOUT, retries: int = calls.RETRIES,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.retries = retries
        self._given: dict[str, Any] = {"address": address, "token": token, "timeout": timeout, "retries": retries}
        self._options, self._transport = calls.options(address, token, timeout), transport
        self._http: httpx2.Client | None = self._opened()
        renewed_after_fork(self)

    def _opened(self) -> httpx2.Client:
        return httpx2.Client(**self._options, transport=self._transport)

    @property
    def _connections(self) -> httpx2.Client:
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
    def __call__(
        self, images: Sequence[Any], texts: str | Sequence[str], method: str | None = None, *, bgr: bool = ..., max_pixels: int = ...
    ) -> list[Result]: ...
    @overload
    def __call__(
        self, images: Any, texts: str | Sequence[str], method: str | None = None, *, bgr: bool = ..., max_pixels: int = ...
    ) -> Result: ...
    def __call__(
        self, images: Any, texts: str | Sequence[str], method: str | None = None, *, bgr: bool = False, max_pixels: int = MAX_PIXELS
    ) -> Result | list[Result]:
        """Locate every text in every picture. Several pictures are sent by some connections at once, and the service batches them; they and
        their results are in memory together, so of very many give some at a time.

        Args:
            images: one picture or several, as for a call of `fastloc.Localizer`. Each is read here and is the result's picture.
            texts: one prompt or several.
            method: one of those that the service offers; None for its own.
            bgr, max_pixels: as for a call of `fastloc.Localizer`.

        Returns: one Result for one picture, else a list of one Result each, in order.

        Raises:
            ImageError: a picture that cannot be read. TextError: no prompt, or one that is empty or no string. ServiceError: the service
            cannot be reached, refuses, has no room after all retries, or answers in another form.
        """

        def located(image: Any) -> Result:
            call = calls.ask(image, texts, method, bgr, max_pixels)
            return calls.read_result(self._sent("POST", "v1/locate", call.parts), call)

        if not is_many(images):
            return located(images)
        pool = ThreadPoolExecutor(calls.CONNECTIONS, thread_name_prefix="fastloc-client")
        try:
            return list(pool.map(located, pictures(images)))
        finally:
            # after an error the calls that are under way are left to end by themselves
            pool.shutdown(wait=False, cancel_futures=True)

    def models(self) -> list[calls.ServedModel]:
        """The model and methods of the service. Raises ServiceError as a call does."""
        return calls.read_models(self._sent("GET", "v1/models"))

    def ready(self) -> bool:
        """True where the service takes calls; False where it cannot be reached, is starting or is about to stop."""
        try:
            return self._connections.get("readyz").status_code == 200
        except httpx2.HTTPError:
            return False

    def close(self) -> None:
        """Close its connections."""
        if self._http is not None:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _sent(self, verb: str, path: str, parts: dict[str, Any] | None = None) -> httpx2.Response:
        attempt = 0
        while True:
            http = self._connections
            try:
                response = http.request(verb, path, **(parts or {}))
            except httpx2.HTTPError as error:
                raise calls.unreachable(http.base_url, error) from None
            if (wait := calls.pause(response, attempt, self.retries)) is None:
                return response
            time.sleep(wait)
            attempt += 1
