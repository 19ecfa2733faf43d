"""An ONNX file without weights of its own: it reads those of a .safetensors file beside it.

ONNX lets a tensor's bytes lie in another file from an offset on, and .safetensors is a header and raw little-endian tensors. So every large
weight of an exported model that is a tensor of that file (unchanged, transposed, or several concatenated) becomes a reference to it, and
the runtime computes the Cast, Transpose and Concat after it once, when it loads the file.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from fastloc.errors import ModelError
from fastloc.export.initializers import LEAST, prepend
from fastloc.utils.schema import convert, count, plain

__all__ = ["Shared", "share"]

Array = NDArray[Any]
# .safetensors' name of a dtype -> numpy's and ONNX's
_DTYPES = {
    "F32": ("<f4", TensorProto.FLOAT), "F16": ("<f2", TensorProto.FLOAT16), "I32": ("<i4", TensorProto.INT32),
    "I64": ("<i8", TensorProto.INT64),
}  # fmt: skip


@dataclass(frozen=True)
class Shared:
    """The result: the number of weights that are now references, and the names and bytes of the large ones that stayed."""

    count: int
    kept: dict[str, int]


@dataclass(frozen=True)
class _Row:
    """A tensor's entry in the file's header; offsets count from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    def __post_init__(self) -> None:
        for number in (*self.shape, *self.data_offsets):
            count("shape and data_offsets", number, 1 << 48, 0)


@dataclass(frozen=True)
class _Piece:
    """A tensor of the .safetensors file, unchanged or transposed."""

    name: str
    onnx_type: int
    shape: tuple[int, ...]  # in the file
    offset: int  # from the file's beginning
    length: int
    turned: bool
    array: Array  # transposed, if the piece is


def share(model: Any, weights: Path) -> Shared:
    """Make large weights of an ONNX model references to `weights`, in place. The model must then lie in that file's folder.

    Raises:
        ModelError: `weights` is not a .safetensors file.
    """
    index = {_key(piece.array): piece for piece in _pieces(weights)}
    nodes: list[Any] = []
    added: dict[str, Any] = {}
    kept: dict[str, int] = {}
    own = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in own:
        array = numpy_helper.to_array(tensor)
        found = _found(array, index) if array.size >= LEAST else None
        if found is not None:
            nodes += _made(found, tensor, array.shape, weights.name, added)
            continue
        model.graph.initializer.append(tensor)
        if array.size >= LEAST:
            kept[tensor.name] = array.nbytes
    count = len(own) - len(model.graph.initializer)
    model.graph.initializer.extend(added.values())
    prepend(model.graph, nodes)
    return Shared(count, kept)


def _pieces(path: Path) -> Iterator[_Piece]:
    """The tensors of a .safetensors file: eight bytes of header length, a header in JSON, and raw tensors at offsets from its end."""
    content = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", content[:8])
        rows = plain(content[8 : 8 + length], f"{path}: is not a .safetensors file, or is damaged", len(content))
        for name, entry in rows.items():
            if name == "__metadata__":
                continue
            row = convert(entry, _Row, f"{path}: is not a .safetensors file, or is damaged: {name[:60]!r}")
            if row.dtype not in _DTYPES:
                continue
            numpy_type, onnx_type = _DTYPES[row.dtype]
            start, stop = (8 + length + each for each in row.data_offsets)
            array = np.frombuffer(content[start:stop], numpy_type).reshape(row.shape)
            for turned in (False, True) if array.ndim == 2 else (False,):
                yield _Piece(name, onnx_type, array.shape, start, stop - start, turned, array.T if turned else array)
    except ModelError:
        raise
    except (struct.error, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: is not a .safetensors file, or is damaged ({type(error).__name__})") from error


def _key(array: Array) -> bytes:
    """A key that is equal for equal numbers in the same order, for any shape and any width of the numbers."""
    kind = "f" if array.dtype.kind == "f" else "i"
    return hashlib.sha256(kind.encode() + np.ascontiguousarray(array, "<f8" if kind == "f" else "<i8").tobytes()).digest()


def _found(array: Array, index: dict[bytes, _Piece]) -> list[_Piece] | None:
    """The pieces whose concatenation is this array, or None if there are none."""
    whole = index.get(_key(array))
    if whole is not None or array.ndim != 2:
        return None if whole is None else [whole]
    heights = sorted({len(each.array) for each in index.values() if each.array.shape[1:] == array.shape[1:]})
    pieces: list[_Piece] = []
    row = 0
    while row < len(array):
        candidates = (index.get(_key(array[row : row + high])) for high in heights)
        piece = next((each for each in candidates if each is not None), None)
        if piece is None:
            return None
        pieces.append(piece)
        row += len(piece.array)
    return pieces


def _made(pieces: list[_Piece], tensor: Any, shape: tuple[int, ...], location: str, added: dict[str, Any]) -> list[Any]:
    """The nodes that compute the value of `tensor` from the pieces; the references that they read go to `added`."""
    if len(pieces) == 1:
        return _chain(pieces[0], tensor.name, tensor.data_type, shape, location, added)
    names = [f"{tensor.name}.{i}" for i in range(len(pieces))]
    chains = [_chain(piece, name, tensor.data_type, piece.shape, location, added) for piece, name in zip(pieces, names, strict=True)]
    return [*(node for chain in chains for node in chain), onnx.helper.make_node("Concat", names, [tensor.name], axis=0)]


def _chain(piece: _Piece, output: str, onnx_type: int, shape: tuple[int, ...], location: str, added: dict[str, Any]) -> list[Any]:
    """A reference to the piece, cast to the target dtype and then transposed."""
    # the same bytes may be read in another shape, but a transposed piece is first read in the file's shape
    reference = _reference(piece, piece.shape if piece.turned else shape, location)
    added[reference.name] = reference
    cast = f"{output}.cast" if piece.turned else output
    nodes = [onnx.helper.make_node("Cast", [reference.name], [cast], to=onnx_type)]
    if piece.turned:
        nodes.append(onnx.helper.make_node("Transpose", [cast], [output], perm=[1, 0]))
    return nodes


def _reference(piece: _Piece, shape: tuple[int, ...], location: str) -> Any:
    name = f"{location}:{piece.name}" + ("" if shape == piece.shape else f"{list(shape)}")
    tensor = TensorProto(name=name, data_type=piece.onnx_type, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", piece.offset), ("length", piece.length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
