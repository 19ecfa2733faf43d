"""Tensors of the Open Inference Protocol, version 2: in JSON, and as the bytes behind it that its binary extension has."""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.serve.settings import Refused
from fastloc.utils.schema import decode

__all__ = ["HEADER", "Request", "Tensor", "read", "written"]

# the length of the JSON in front of binary tensors
HEADER = "Inference-Header-Content-Length"
# a BYTES element's length, in front of it
_LENGTH = 4
# of a number in a header, and sides of a tensor
_DIGITS, _SIDES = 20, 8


@dataclass(frozen=True)
class Parameters:
    """Parameters of a request or a tensor; others are ignored."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool | None = None
    method: str | None = None


@dataclass(frozen=True)
class Tensor:
    """An input: nested or flat `data`, or the next bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: Parameters = field(default_factory=Parameters)


@dataclass(frozen=True)
class Output:
    """A requested output."""

    name: str
    parameters: Parameters = field(default_factory=Parameters)


@dataclass(frozen=True)
class Request:
    """The JSON of `infer`."""

    inputs: list[Tensor]
    outputs: list[Output] = field(default_factory=list)
    id: str = ""
    parameters: Parameters = field(default_factory=Parameters)


def read(body: bytes, length: str | None) -> tuple[Request, dict[str, Any]]:
    """The request and its tensors by name: uint8 arrays, and lists of bytes for BYTES (text of JSON as UTF-8).

    Args:
        length: the value of the header `HEADER`, if there is one.

    Raises:
        Refused: JSON, a shape or bytes that do not fit together.
    """
    end = len(body) if length is None else int(length) if length.isdecimal() and len(length) <= _DIGITS else -1
    if not 0 <= end <= len(body):
        raise Refused(400, f"{HEADER} must be a number of bytes within the body's {len(body)}, got {(length or '')[:_DIGITS]!r}")
    request = decode(body[:end], Request, "the body must be a request of the Open Inference Protocol", len(body), _BadRequest)
    rest, found = memoryview(body)[end:], {}
    for tensor in request.inputs:
        size = tensor.parameters.binary_data_size
        if size is not None and not 0 <= size <= len(rest):
            raise Refused(400, f"binary_data_size of {tensor.name[:40]!r} must be within the {len(rest)} bytes left, got {size}")
        if tensor.name in found:
            raise Refused(400, f"inputs must have names of their own, got {tensor.name[:40]!r} twice")
        found[tensor.name] = _array(tensor, None if size is None else rest[:size])
        rest = rest[size or 0 :]
    if rest:
        raise Refused(400, f"the body must end with the bytes of its inputs, got {len(rest)} more; say their number in binary_data_size")
    return request, found


def _array(tensor: Tensor, content: memoryview | None) -> Any:
    name = tensor.name[:40]
    if not 0 < len(tensor.shape) <= _SIDES or min(tensor.shape) < 1:
        raise Refused(400, f"shape of {name!r} must be of 1 to {_SIDES} numbers above 0, got {tensor.shape[:_SIDES]}")
    count = math.prod(tensor.shape)
    if tensor.datatype == "BYTES":
        parts = _texts(name, tensor.data) if content is None else _parts(name, content)
        if len(parts) != count:
            raise Refused(400, f"{name!r} must hold the {count} elements of shape {tensor.shape}, got {len(parts)}")
        return parts
    if tensor.datatype != "UINT8":
        raise Refused(400, f"datatype of {name!r} must be BYTES or UINT8, got {tensor.datatype[:20]!r}")
    flat = np.frombuffer(content, np.uint8) if content is not None else _numbers(name, tensor.data)
    if flat.size != count:
        raise Refused(400, f"{name!r} must hold the {count} elements of shape {tensor.shape}, got {flat.size}")
    return flat.reshape(tensor.shape)


def _texts(name: str, data: list[Any] | None) -> list[bytes]:
    if data is None or not all(isinstance(each, str) for each in data):
        raise Refused(400, f"data of {name!r} must be a list of strings")
    return [each.encode("utf-8", "surrogatepass") for each in data]


def _parts(name: str, content: memoryview) -> list[bytes]:
    parts, at = [], 0
    while at < len(content):
        begin = at + _LENGTH
        at = begin + int.from_bytes(content[at:begin], "little")
        if at > len(content):
            raise Refused(400, f"the bytes of {name!r} must be elements behind lengths of {_LENGTH} bytes; one ends beyond them")
        parts.append(bytes(content[begin:at]))
    return parts


def _numbers(name: str, data: list[Any] | None) -> NDArray[np.uint8]:
    try:
        found = np.asarray([] if data is None else data)
    except ValueError:
        found = np.empty(0, object)
    if found.dtype.kind not in "iu" or (found.size and not 0 <= found.min() <= found.max() <= 255):
        raise Refused(400, f"data of {name!r} must be whole numbers of 0 to 255, in lists of equal lengths")
    return found.astype(np.uint8).ravel()


def base64_or_bytes(content: bytes) -> bytes:
    """A picture's bytes: as they are, or from base64, which JSON needs."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content


def written(answer: dict[str, Any], outputs: dict[str, NDArray[np.float32]], request: Request) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of an answer: each output as JSON, or behind it where its request asks for that."""
    asked = {each.name: each.parameters.binary_data for each in request.outputs}
    every, parts = bool(request.parameters.binary_data_output), []
    described: list[dict[str, Any]] = []
    for name, array in outputs.items():
        one: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(array.shape)}
        binary = asked.get(name)
        if every if binary is None else binary:
            parts.append(np.ascontiguousarray(array, "<f4").tobytes())
            one["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            one["data"] = array.ravel().tolist()
        described.append(one)
    head = json.dumps({**answer, "outputs": described}, separators=(",", ":"), allow_nan=False).encode()
    if not parts:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *parts]), {"Content-Type": "application/octet-stream", HEADER: str(len(head))}


class _BadRequest(Refused):
    def __init__(self, message: str) -> None:
        super().__init__(400, message)
