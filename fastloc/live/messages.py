"""The schema of the JSON over the WebSocket: the messages of a client, and the server's one way of writing.

A client says "ping" {time}, "seen" {} or "settings" {any of `Asked`'s fields}. An invalid setting is answered by "problem"
{field, message}, and the connection stays. Data that is no message at all is answered by one "problem" too, and the connection is closed
with code 1008.
"""

from __future__ import annotations

import functools
import json
import reprlib
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from fastloc.errors import FastlocError, unknown
from fastloc.live.limits import MOMENT, Violation

__all__ = ["LONGEST", "Asked", "Ping", "Refused", "Seen", "read_words", "written"]

# half-life of the longest memory, seconds
LONGEST = 10.0
# cosines and logits are far within it
SIMILARITY = 10_000.0

Moment = Annotated[float, Meta(ge=-MOMENT, le=MOMENT)]
Similarity = Annotated[float, Meta(ge=-SIMILARITY, le=SIMILARITY)]


class Ping(msgspec.Struct, frozen=True):
    """A sign of life; the time, by the client's clock, comes back."""

    time: Moment


class Seen(msgspec.Struct, frozen=True):
    """An answer about the server's own source was drawn."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Settings to be changed; `fastloc.live.settings` defines them, and checks those that depend on the server's limits."""

    texts: list[str] | UnsetType = UNSET
    methods: list[str] | UnsetType = UNSET
    background: list[str] | UnsetType = UNSET
    smooth: Annotated[float, Meta(ge=0, le=LONGEST)] | UnsetType = UNSET
    maps: str | tuple[Similarity, Similarity] | UnsetType = UNSET
    threshold: Annotated[float, Meta(ge=0.05, le=1)] | UnsetType = UNSET
    boxes: bool | UnsetType = UNSET

    @property
    def requested(self) -> dict[str, Any]:
        """The requested values, by field."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in values.items() if value is not UNSET}


TYPES: dict[str, type[Ping | Seen | Asked]] = {"ping": Ping, "seen": Seen, "settings": Asked}
# what the schema demands, in words
RULES = {
    "texts": "a list of texts",
    "methods": "a list of methods' names",
    "background": "a list of texts",
    "smooth": f"a number from 0 to {LONGEST:g}",
    "maps": f"a name or two similarities within ±{SIMILARITY:g}, the colder one first",
    "threshold": "a number from 0.05 to 1",
    "boxes": "true or false",
}


class Refused(FastlocError):
    """An invalid setting: `field` names the input beside which the page shows the message."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def read_words(message: str) -> Ping | Seen | Asked:
    """A JSON message of a client.

    Raises Violation for what is no message, and Refused for settings that cannot be.
    """
    try:
        # not msgspec's decoder: half a surrogate pair in a text is refused beside that text, and is no reason to hang up
        found = json.loads(message, parse_constant=_no_constant)
    # deep nesting ends in a RecursionError
    except (ValueError, RecursionError):
        raise Violation("a text message is not JSON") from None
    if not isinstance(found, dict) or not isinstance(kind := found.pop("type", None), str):
        raise Violation('a text message is not an object with a "type"')
    if kind == "settings":
        return Asked(**{field: _setting(field, value) for field, value in found.items()})
    if kind not in TYPES:
        raise Violation(f"unknown type of message {_short(kind)}; known types: {', '.join(TYPES)}")
    try:
        return msgspec.convert(found, TYPES[kind])
    # half a surrogate pair in place of a number is a UnicodeEncodeError
    except ValueError as error:
        raise Violation(f"{kind} must hold what the protocol says, got: {error}") from None


def _setting(field: str, value: Any) -> Any:
    types = _types()
    if field not in types:
        raise Refused("", unknown("setting", field[:40], types))
    try:
        return msgspec.convert(value, types[field])
    except (ValueError, RecursionError):
        raise Refused(field, f"{field} must be {RULES[field]}, got {_short(value)}") from None


@functools.cache
def _types() -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(Asked)}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _short(value: Any) -> str:
    text = reprlib.repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def written(value: Any) -> bytes:
    """JSON of plain values: NaN and the infinities become null, and what cannot be encoded becomes a question mark."""
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(value), enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not written as JSON")


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return [_encodable(each) for each in value] if isinstance(value, (list, tuple)) else value
