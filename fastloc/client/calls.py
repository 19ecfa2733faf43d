"""Requests to a service and the reading of its answers: all of a client but the waiting."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
from PIL import Image

from fastloc._version import __version__
from fastloc.errors import FastlocError, ServiceError
from fastloc.imaging import picture_files
from fastloc.imaging.images import load
from fastloc.results.batching import name_of
from fastloc.results.result import Result
from fastloc.results.wire import FORMAT, Located
from fastloc.text.prompts import checked
from fastloc.utils.schema import decode, first_line, number, shown

__all__ = [
    "CONNECTIONS", "RETRIES", "TIMEOUT", "Ask", "ServedModel", "ask", "check_portable", "options", "pause", "read_models",
    "read_result", "unreachable",
]  # fmt: skip

# seconds of silence that end a call
TIMEOUT = 60.0
# how often a call that the service has no room for is made again, and the longest wait before that, in seconds
RETRIES, LONGEST_WAIT = 8, 30.0
# calls that are under way at once where there are several pictures
CONNECTIONS = 8
# bytes of an answer; 3000 texts on 128 x 128 patches
ANSWER_BYTES = 256 << 20
# what to do about a refusal
_FIXES = {
    401: "give the token that the service was started with",
    403: "use the address that the service printed",
    404: "give the address of a fastloc service",
    413: "send a smaller picture or fewer texts",
    429: "ask again later",
    503: "ask again later",
}

T = TypeVar("T")


@dataclass(frozen=True)
class ServedModel:
    """A model that the service runs, and the method by which it locates."""

    name: str
    method: str


@dataclass(frozen=True)
class _Models:
    models: list[ServedModel]


@dataclass(frozen=True)
class _Answer:
    format: int
    results: list[Located]


@dataclass(frozen=True)
class _Format:
    format: int | None = None
    fastloc: str = ""


@dataclass(frozen=True)
class _Refusal:
    error: str = ""


@dataclass(frozen=True)
class Ask:
    """One picture's call: the picture as the caller has it, its name, and the request's parts."""

    picture: Image.Image
    name: str
    parts: dict[str, Any] = field(repr=False)


def options(address: str, token: str, timeout: float) -> dict[str, Any]:
    """Arguments of httpx2's clients.

    Raises:
        ServiceError: an address that is no http(s) address, or a token that no header can hold.
    """
    number("timeout", timeout, 0.001, 86400.0)
    if not token.isascii() or not token.isprintable():
        raise ServiceError("token must be printable ASCII without line breaks; give it as the service printed it")
    headers = {"User-Agent": f"fastloc/{__version__}", "Accept": "application/json", "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    # a call may wait for a connection as long as the calls before it take
    return {"base_url": _url(address), "headers": headers, "timeout": httpx2.Timeout(timeout, pool=None)}


def check_portable(transport: object) -> None:
    """Raise ServiceError for a client that cannot be made again in another process."""
    if transport is not None:
        raise ServiceError("a client with a transport of its own cannot be pickled; make one in the other process")


def _url(address: str) -> httpx2.URL:
    try:
        url = httpx2.URL(address.rstrip("/") + "/")
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise ServiceError(f"address must be http://HOST:PORT or https://HOST, got {shown(address)}")
    return url


def ask(image: Any, texts: str | Sequence[str], method: str | None, bgr: bool, max_pixels: int) -> Ask:
    """The call for one picture. A file is sent as it is; pixels are sent as PNG, which loses nothing.

    Raises:
        ImageError: the picture cannot be read. TextError: no prompt, or one that is empty or no string.
    """
    name = name_of(image)
    content = _content(image)
    picture = load(image if content is None else content, name or None, bgr=bgr, max_pixels=max_pixels)
    data = {"texts": json.dumps(checked(texts)), "similarity": "true"} | ({} if method is None else {"method": method})
    sent = _png(picture) if content is None else content
    return Ask(picture, name, {"data": data, "files": {"image": ("picture", sent, "application/octet-stream")}})


def _content(image: Any) -> bytes | None:
    """The bytes of a file; None for a picture of pixels."""
    if isinstance(image, (str, os.PathLike)):
        with picture_files.opened(image) as (file, _):
            return picture_files.content_of(file, os.fsdecode(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    return picture_files.content_of(image, "open file") if callable(getattr(image, "read", None)) else None


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def pause(response: httpx2.Response, attempt: int, retries: int) -> float | None:
    """Seconds until a call that the service had no room for is made again; None where the answer is the last word."""
    after = response.headers.get("Retry-After", "")
    if attempt >= retries or response.status_code not in (429, 503) or not after.isdecimal():
        return None
    # clients that were refused together do not come back together
    return min(max(int(after[:9]), 1), LONGEST_WAIT) * random.uniform(1, 1.5)


def read_result(response: httpx2.Response, call: Ask) -> Result:
    """The Result around the caller's own picture.

    Raises:
        ServiceError: the service refused, or the answer is not one of this version.
    """
    answer = _read(response, _Answer, call.name)
    if len(answer.results) != 1:
        raise ServiceError(f"{_place(response.url, call.name)} must answer with one result a picture, got {len(answer.results)}")
    try:
        return answer.results[0].result(call.picture, call.name)
    except FastlocError as error:
        raise ServiceError(f"{_place(response.url, call.name)} must answer for the picture and texts that were sent: {error}") from error


def read_models(response: httpx2.Response) -> list[ServedModel]:
    """The models of an answer. Raises ServiceError as `read_result` does."""
    return _read(response, _Models).models


def unreachable(url: httpx2.URL, error: Exception) -> ServiceError:
    """The error of a call without an answer."""
    address = _place(url)
    if isinstance(error, httpx2.TimeoutException):
        return ServiceError(f"{address} did not answer in time; give a longer timeout, or ask again later")
    return ServiceError(f"{address} cannot be reached ({first_line(error)}); start a service there: python -m fastloc serve")


def _read(response: httpx2.Response, kind: type[T], picture: str = "") -> T:
    place = _place(response.url, picture)
    if response.status_code != 200:
        raise ServiceError(_refused(place, response))
    found = decode(response.content, _Format, f"{place} must answer as a fastloc service does", ANSWER_BYTES, ServiceError)
    if kind is _Answer and found.format != FORMAT:
        got = f"{found.format} of fastloc {shown(found.fastloc)}"
        raise ServiceError(f"{place} must answer in format {FORMAT}, got {got}; install the same fastloc here and there")
    return decode(response.content, kind, f"{place} must answer as fastloc {__version__} does", ANSWER_BYTES, ServiceError)


def _refused(place: str, response: httpx2.Response) -> str:
    try:
        reason = decode(response.content, _Refusal, "", error=ServiceError).error
    except ServiceError:
        reason = ""
    fix = _FIXES.get(response.status_code, "")
    line = first_line(ValueError(reason or response.reason_phrase or "no reason given")).rstrip(".")
    return f"{place} answers {response.status_code}: {line}{'; ' * bool(fix)}{fix}"


def _place(url: httpx2.URL, picture: str = "") -> str:
    """An address as messages show it: without a password, after the name of the picture that was sent there."""
    address = str(url.copy_with(query=None, userinfo=b"")).rstrip("/")
    return f"{picture}: {address}" if picture else address
