"""A request's body: JSON with base64 or addresses, or multipart with files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from fastloc.serve.settings import Refused, Settings
from fastloc.utils.schema import decode, number

__all__ = ["Ask", "read", "read_body"]

T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """A picture that the service fetches."""

    url: str


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request. `image` or `images`; the others as for `fastloc.Result.to_dict`."""

    texts: list[str]
    image: bytes | Address | None = None
    images: list[bytes | Address] = field(default_factory=list)
    method: str | None = None
    threshold: float = 0.5
    score: float | None = None
    similarity: bool = False

    def __post_init__(self) -> None:
        number("threshold", self.threshold, 0, 1)
        if self.score is not None:
            number("score", self.score, 0, 1)

    @property
    def pictures(self) -> list[bytes | str]:
        """Bytes and addresses."""
        every = ([] if self.image is None else [self.image]) + self.images
        return [each.url if isinstance(each, Address) else each for each in every]


async def read(request: Request, settings: Settings) -> Ask:
    """The request. Raises Refused for one that is too large, too slow or malformed."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "multipart/form-data"):
        raise Refused(415, f"the body must be application/json or multipart/form-data, got {kind[:60]!r}")
    content = await read_body(request, settings)
    if kind == "application/json":
        return _decoded(content, Ask, "the body", settings.size)
    limits = {"max_files": settings.pictures, "max_fields": settings.texts + len(_VALUES), "max_part_size": settings.size}
    try:
        form = await MultiPartParser(request.headers, _once(content), **limits).parse()
    except MultiPartException as error:
        raise Refused(400, f"the body is no multipart form ({error.message})") from None
    try:
        return await _form(form)
    finally:
        await form.close()


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body. Raises Refused for one that is too large or too slow."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > settings.size:
        raise _large(settings)
    parts, count = [], 0
    try:
        async with asyncio.timeout(settings.body):
            async for part in request.stream():
                count += len(part)
                if count > settings.size:
                    raise _large(settings)
                parts.append(part)
    except TimeoutError:
        raise Refused(408, f"the body must arrive within {settings.body:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "the client has gone") from None
    return b"".join(parts)


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


async def _form(form: FormData) -> Ask:
    given = form.getlist("image") + form.getlist("images")
    files: list[bytes | Address] = [await each.read() for each in given if isinstance(each, UploadFile)]
    texts = [each for each in form.getlist("texts") if isinstance(each, str)]
    if len(texts) == 1 and texts[0].lstrip().startswith("["):
        texts = _decoded(texts[0].encode(), list[str], "texts", len(texts[0]) * 4)
    # of numbers and truth values the text is JSON
    values: dict[str, Any] = {}
    for name, kind in _VALUES.items():
        value = form.get(name)
        if isinstance(value, str):
            values[name] = value if kind is str else _decoded(value.encode(), kind, name, 100)
    return Ask(texts=texts, images=files, **values)


_VALUES: dict[str, Any] = {"method": str, "threshold": float, "score": float, "similarity": bool}


def _decoded(content: bytes, kind: type[T], name: str, limit: int) -> T:
    return decode(content, kind, f"{name} must be JSON as /openapi.json says", limit, BadRequest)


class BadRequest(Refused):
    """JSON that is none, or not of the schema."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


def _large(settings: Settings) -> Refused:
    return Refused(413, f"a request must have at most {settings.size:,} bytes; send smaller or fewer pictures")
