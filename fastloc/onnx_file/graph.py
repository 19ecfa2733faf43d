"""The graph inside an ONNX file: its nodes, weights, inputs and outputs, read without the onnx package and without loading a weight.

An ONNX file is one protobuf message: fields of a number, a wire type and a value, one after another
(https://protobuf.dev/programming-guides/encoding/); the numbers below are those of onnx.proto. What is not wanted is stepped over, so a
file of gigabytes is read in milliseconds. `fastloc.onnx_file.header` has looked at the file as a whole before: it says what is wrong with
it.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastloc.errors import ModelError
from fastloc.onnx_file import header, protobuf
from fastloc.onnx_file.header import Header
from fastloc.onnx_file.protobuf import VARINT, Damaged, signed, varint

__all__ = ["DTYPES", "Content", "Graph", "Node", "Tensor", "Value", "read"]

# TensorProto.DataType -> its name here and bits of a number
DTYPES: dict[int, tuple[str, int]] = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16), 6: ("int32", 32), 7: ("int64", 64),
    8: ("string", 0), 9: ("bool", 8), 10: ("float16", 16), 11: ("float64", 64), 12: ("uint32", 32), 13: ("uint64", 64),
    14: ("complex64", 64), 15: ("complex128", 128), 16: ("bfloat16", 16), 17: ("float8e4m3fn", 8), 18: ("float8e4m3fnuz", 8),
    19: ("float8e5m2", 8), 20: ("float8e5m2fnuz", 8), 21: ("uint4", 4), 22: ("int4", 4), 23: ("float4e2m1", 4), 24: ("float8e8m0", 8),
}  # fmt: skip

_UNKNOWN = ("unknown", 0)
# AttributeProto.type
_INT, _STRING, _TENSOR = 2, 3, 4
Fields = list[tuple[int, Any]]


@dataclass(frozen=True)
class Tensor:
    """A weight or a constant, without its numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class Value:
    """An input or output; a side is a number, a symbol's name, or None where nothing is said."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Node:
    """domain is "" for ai.onnx. attributes: whole numbers, strings and tensors alone; graphs: the bodies of If and Loop."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | str | Tensor]
    graphs: tuple[Graph, ...] = ()

    @property
    def kind(self) -> str:
        """The op with its domain, as in com.microsoft.MultiHeadAttention."""
        return f"{self.domain}.{self.op}" if self.domain else self.op


@dataclass(frozen=True)
class Graph:
    """values: types of intermediate results, where the exporter wrote them down."""

    nodes: tuple[Node, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    values: tuple[Value, ...]

    def every_node(self) -> Iterator[Node]:
        """Also those inside If and Loop."""
        for node in self.nodes:
            yield node
            for graph in node.graphs:
                yield from graph.every_node()

    def every_tensor(self) -> Iterator[Tensor]:
        """Initialisers and the tensors of Constant nodes, also inside If and Loop."""
        yield from self.tensors
        for node in self.nodes:
            yield from (each for each in node.attributes.values() if isinstance(each, Tensor))
            for graph in node.graphs:
                yield from graph.every_tensor()


@dataclass(frozen=True)
class Content:
    """A whole file. opsets: version by domain, "" for ai.onnx. functions: names of model-local ones, whose nodes are not read."""

    file: Header
    bytes: int
    ir: int
    producer: str
    opsets: Mapping[str, int]
    graph: Graph
    functions: tuple[str, ...]


def read(path: Path | str) -> Content:
    """What is in an ONNX file.

    Raises:
        ModelError: no such file, not an ONNX file, damaged, or weights beside it are missing.
    """
    file = header.read(path)
    with file.path.open("rb") as opened:
        # closed by whoever drops the last view: an error on its way out still holds some
        view = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _content(file, view)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: its graph is damaged ({type(error).__name__} while reading it)") from error


def _fields(view: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field: an int, or the bytes as a view. Four and eight byte numbers come as bytes."""
    for number, wire, begin, end in protobuf.fields(view):
        if number < 1 or end > len(view):
            raise Damaged("is no protobuf")
        yield number, signed(varint(view, begin)[0]) if wire == VARINT else view[begin:end]


def _text(value: memoryview) -> str:
    return bytes(value).decode()


def _all(fields: Fields, number: int) -> list[Any]:
    return [value for each, value in fields if each == number]


def _one(fields: Fields, number: int, default: Any = None) -> Any:
    """protobuf's rule: the last one counts."""
    return next((value for each, value in reversed(fields) if each == number), default)


def _texts(fields: Fields, number: int) -> tuple[str, ...]:
    return tuple(_text(each) for each in _all(fields, number))


def _part(fields: Fields, number: int) -> Fields:
    """The fields of a message inside; none where it is not there."""
    return list(_fields(_one(fields, number, memoryview(b""))))


def _content(file: Header, view: memoryview) -> Content:
    fields = list(_fields(view))
    opsets = [list(_fields(each)) for each in _all(fields, 8)]
    return Content(
        file=file,
        bytes=len(view),
        ir=_one(fields, 1, 0),
        producer=" ".join((*_texts(fields, 2), *_texts(fields, 3))),
        opsets={_domain(each, 1): _one(each, 2, 0) for each in opsets},
        graph=_graph(_one(fields, 7)),
        functions=tuple("".join(_texts(list(_fields(each)), 1)) for each in _all(fields, 25)),
    )


def _domain(fields: Fields, number: int) -> str:
    name = _text(_one(fields, number, b""))
    return "" if name == "ai.onnx" else name


def _graph(view: memoryview) -> Graph:
    fields = list(_fields(view))
    return Graph(
        nodes=tuple(_node(each) for each in _all(fields, 1)),
        tensors=tuple(_tensor(each) for each in _all(fields, 5)),
        inputs=tuple(_value(each) for each in _all(fields, 11)),
        outputs=tuple(_value(each) for each in _all(fields, 12)),
        values=tuple(_value(each) for each in _all(fields, 13)),
    )


def _node(view: memoryview) -> Node:
    fields = list(_fields(view))
    attributes: dict[str, int | str | Tensor] = {}
    graphs: list[Graph] = []
    for each in _all(fields, 5):
        part = list(_fields(each))
        graphs += [_graph(graph) for graph in (*_all(part, 6), *_all(part, 11))]
        if (value := _attribute(part)) is not None:
            attributes[_text(_one(part, 1, b""))] = value
    op, name = _text(_one(fields, 4)), _text(_one(fields, 3, b""))
    return Node(op, _domain(fields, 7), name, _texts(fields, 1), _texts(fields, 2), attributes, tuple(graphs))


def _attribute(fields: Fields) -> int | str | Tensor | None:
    kind = _one(fields, 20, 0)
    if kind == _INT:
        # a zero may be left out
        return int(_one(fields, 3, 0))
    if kind == _STRING:
        return bytes(_one(fields, 4, b"")).decode("utf-8", "replace")
    return _tensor(_one(fields, 5)) if kind == _TENSOR else None


def _tensor(view: memoryview) -> Tensor:
    fields = list(_fields(view))
    shape = tuple(_numbers(fields, 1))
    dtype, bits = DTYPES.get(_one(fields, 2, 0), _UNKNOWN)
    return Tensor(_text(_one(fields, 8, b"")), shape, dtype, -(-math.prod(shape) * bits // 8))


def _numbers(fields: Fields, number: int) -> Iterator[int]:
    """A repeated int, packed or not."""
    for value in _all(fields, number):
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            each, at = varint(value, at)
            yield signed(each)


def _value(view: memoryview) -> Value:
    fields = list(_fields(view))
    tensor = _part(_part(fields, 2), 1)
    dtype, _ = DTYPES.get(_one(tensor, 1, 0), _UNKNOWN)
    sides = (list(_fields(each)) for each in _all(_part(tensor, 2), 1))
    return Value(_text(_one(fields, 1, b"")), dtype, tuple(_side(each) for each in sides))


def _side(fields: Fields) -> int | str | None:
    symbol, number = _one(fields, 2), _one(fields, 1)
    return number if symbol is None else _text(symbol)
