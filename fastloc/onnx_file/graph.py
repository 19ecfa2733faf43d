"""The graph inside an ONNX file: its nodes, weights, inputs and outputs, read without the onnx package and without loading a weight.

An ONNX file is one protobuf message: fields of a number, a wire type and a value, one after another
(https://protobuf.dev/programming-guides/encoding/); the numbers below are those of onnx.proto. Unneeded fields are skipped, so a file
of gigabytes is read in milliseconds. `fastloc.onnx_file.header` has checked the file as a whole before, and reports its faults.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fastloc.errors import ModelError
from fastloc.onnx_file import header, protobuf
from fastloc.onnx_file.header import Header
from fastloc.onnx_file.protobuf import VARINT, Damaged, signed, varint
from fastloc.utils.schema import shown

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
Fields = list[tuple[int, int | memoryview]]

# fields of all messages together: a graph of 5,000 nodes has 120,000; graphs inside one another, by If and Loop; axes of a tensor
MOST_FIELDS, MOST_DEEP, MOST_AXES = 1_000_000, 16, 64


@dataclass(frozen=True)
class Tensor:
    """A weight or a constant, without its numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class Value:
    """An input or output; a side is a number, a symbol's name, or None where the file gives none."""

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
        """All nodes, also those inside If and Loop."""
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
    """Read the content of an ONNX file.

    Raises:
        ModelError: no such file, not an ONNX file, damaged, or weights beside it are missing.
    """
    file = header.read(path)
    with file.path.open("rb") as opened:
        # closed by whoever drops the last view: an error on its way out still holds some
        view = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _Reader().content(file, view)
    except Damaged as error:
        raise ModelError(f"{path}: its graph is damaged: it {error}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: its graph is damaged: a name is not text ({error.reason})") from error


class _Reader:
    """Reader of messages into objects, up to a count of fields that no model exceeds: an object takes a hundred times its field's bytes."""

    def __init__(self) -> None:
        self.left = MOST_FIELDS
        self.depth = 0

    def fields(self, view: memoryview) -> Fields:
        """(number, value) of each field: an int, or the bytes as a view. Four and eight byte numbers come as bytes."""
        found: Fields = []
        for number, wire, begin, end in protobuf.inner(view, 0, len(view)):
            self.left -= 1
            if self.left < 0:
                raise Damaged(f"has more than {MOST_FIELDS:,} fields")
            if number < 1:
                raise Damaged("is no protobuf")
            found.append((number, signed(varint(view, begin)[0]) if wire == VARINT else view[begin:end]))
        return found

    def content(self, file: Header, view: memoryview) -> Content:
        fields = self.fields(view)
        opsets = [self.fields(each) for each in _parts(fields, 8)]
        return Content(
            file=file,
            bytes=len(view),
            ir=_number(fields, 1),
            producer=" ".join((*_texts(fields, 2), *_texts(fields, 3))),
            opsets={_domain(each, 1): _number(each, 2) for each in opsets},
            graph=self.graph(_part(fields, 7)),
            functions=tuple("".join(_texts(self.fields(each), 1)) for each in _parts(fields, 25)),
        )

    def graph(self, view: memoryview) -> Graph:
        self.depth += 1
        if self.depth > MOST_DEEP:
            raise Damaged(f"has more than {MOST_DEEP} graphs inside one another")
        fields = self.fields(view)
        found = Graph(
            nodes=tuple(self.node(each) for each in _parts(fields, 1)),
            tensors=tuple(self.tensor(each) for each in _parts(fields, 5)),
            inputs=tuple(self.value(each) for each in _parts(fields, 11)),
            outputs=tuple(self.value(each) for each in _parts(fields, 12)),
            values=tuple(self.value(each) for each in _parts(fields, 13)),
        )
        self.depth -= 1
        return found

    def node(self, view: memoryview) -> Node:
        fields = self.fields(view)
        attributes: dict[str, int | str | Tensor] = {}
        graphs: list[Graph] = []
        for each in _parts(fields, 5):
            part = self.fields(each)
            graphs += [self.graph(graph) for graph in (*_parts(part, 6), *_parts(part, 11))]
            if (value := self.attribute(part)) is not None:
                attributes[_text(part, 1)] = value
        if not _parts(fields, 4):
            raise Damaged("has a node without an operator")
        return Node(_text(fields, 4), _domain(fields, 7), _text(fields, 3), _texts(fields, 1), _texts(fields, 2), attributes, tuple(graphs))

    def attribute(self, fields: Fields) -> int | str | Tensor | None:
        kind = _number(fields, 20)
        if kind == _INT:
            # a zero may be left out
            return _number(fields, 3)
        if kind == _STRING:
            return bytes(_part(fields, 4)).decode("utf-8", "replace")
        return self.tensor(_part(fields, 5)) if kind == _TENSOR else None

    def tensor(self, view: memoryview) -> Tensor:
        fields = self.fields(view)
        shape = tuple(islice(_numbers(fields, 1), MOST_AXES + 1))
        dtype, bits = DTYPES.get(_number(fields, 2), _UNKNOWN)
        if len(shape) > MOST_AXES or any(side < 0 for side in shape) or math.prod(shape) >= 1 << 63:
            raise Damaged(f"has a tensor of shape {shown(shape)}")
        return Tensor(_text(fields, 8), shape, dtype, -(-math.prod(shape) * bits // 8))

    def value(self, view: memoryview) -> Value:
        fields = self.fields(view)
        tensor = self.fields(_part(self.fields(_part(fields, 2)), 1))
        dtype, _ = DTYPES.get(_number(tensor, 1), _UNKNOWN)
        sides = (self.fields(each) for each in _parts(self.fields(_part(tensor, 2)), 1))
        return Value(_text(fields, 1), dtype, tuple(_side(each) for each in sides))


# a field of another wire type than it has in onnx.proto is one that is not known, and is stepped over


def _parts(fields: Fields, number: int) -> list[memoryview]:
    """Every value of a repeated field of bytes."""
    return [value for each, value in fields if each == number and not isinstance(value, int)]


def _part(fields: Fields, number: int) -> memoryview:
    """The value of a field by protobuf's rule, the last one; empty where the field is missing."""
    return next((value for each, value in reversed(fields) if each == number and not isinstance(value, int)), memoryview(b""))


def _number(fields: Fields, number: int) -> int:
    """The value of a number's field, 0 where the field is missing."""
    return next((value for each, value in reversed(fields) if each == number and isinstance(value, int)), 0)


def _text(fields: Fields, number: int) -> str:
    return bytes(_part(fields, number)).decode()


def _texts(fields: Fields, number: int) -> tuple[str, ...]:
    return tuple(bytes(each).decode() for each in _parts(fields, number))


def _domain(fields: Fields, number: int) -> str:
    name = _text(fields, number)
    return "" if name == "ai.onnx" else name


def _numbers(fields: Fields, number: int) -> Iterator[int]:
    """A repeated int, packed or not."""
    for each, value in fields:
        if each != number:
            continue
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            one, at = varint(value, at)
            yield signed(one)


def _side(fields: Fields) -> int | str | None:
    """The side of a shape: a symbol, a number, or None where the file gives none."""
    if _parts(fields, 2):
        return _text(fields, 2)
    return _number(fields, 1) if any(each == 1 and isinstance(value, int) for each, value in fields) else None
