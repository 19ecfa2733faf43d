"""The tensors of a TorchScript archive, read without its code: nothing in it is run, compiled or instantiated.

An archive is a zip file. `data.pkl` describes the module: a pickle whose classes are the archive's own code. A small interpreter of the few
operations that torch writes reads it here. It knows no classes and calls no functions: a callable of the pickle is only a name, and tensors
are the only names that it interprets. `torch.jit.load` compiles the code instead, and `torch.load` refuses such files.
"""

import pickletools
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["PICKLE_BYTES", "is_archive", "names", "tensors"]

# the most bytes of data.pkl, the most names of a module, and their greatest depth
PICKLE_BYTES, NAMES, DEPTH = 1 << 26, 100_000, 64
_STORAGES = {
    "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16, "FloatStorage": torch.float32, "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8, "CharStorage": torch.int8, "ShortStorage": torch.int16, "IntStorage": torch.int32,
    "LongStorage": torch.int64, "BoolStorage": torch.bool,
}  # fmt: skip
# the function names that build a tensor
_TENSOR, _PARAMETER = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
# the prefix of the names of modules' classes
_CLASSES = "__torch__"
# operations that put their own argument on the stack
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "BINFLOAT",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MARK = object()


class _Damaged(ValueError):
    """An archive that torch did not write."""


@dataclass(frozen=True)
class _Word:
    """A name that a pickle would import."""

    name: str


@dataclass
class _Object:
    """An object that a pickle would make: its class, its arguments and its attributes."""

    name: str
    arguments: Any = ()
    attributes: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Stored:
    """The storage that a tensor is a view of."""

    described: Any


def is_archive(path: Path) -> bool:
    """True if a file is a zip with the parts of a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        parts = {name.partition("/")[2] for name in archive.namelist()}
    return {"data.pkl", "constants.pkl"} <= parts and any(part.startswith("code/") for part in parts)


def names(path: Path) -> set[str]:
    """The names of all attributes of the module and its parts, tensors or not. Raises ValueError as `tensors` does."""
    with zipfile.ZipFile(path) as archive:
        return {name for name, _ in _attributes(_module(archive, path)[0])}


def tensors(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by name, on the CPU, whatever device they were on.

    Raises:
        ValueError, or what `zipfile` raises: an archive that torch did not write.
    """
    with zipfile.ZipFile(path) as archive:
        module, start = _module(archive, path)
        read = _Storages(archive, start, path.stat().st_size)
        return {name: read.view(value.arguments) for name, value in _attributes(module) if _is_tensor(value)}


def _module(archive: zipfile.ZipFile, path: Path) -> tuple[_Object, str]:
    """The object that data.pkl describes, and the folder of the archive."""
    # zipfile asks for as much memory as a part that is not compressed says that it takes of the file
    if any(each.compress_size > path.stat().st_size for each in archive.infolist()):
        raise _Damaged("a part says that it is larger than the file")
    found = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1 or archive.getinfo(found[0]).file_size > PICKLE_BYTES:
        raise _Damaged(f"it must have one data.pkl of at most {PICKLE_BYTES:,} bytes")
    start = found[0].removesuffix("data.pkl")
    if f"{start}byteorder" in archive.namelist() and archive.read(f"{start}byteorder") != b"little":
        raise _Damaged("its numbers are big-endian")
    module = _described(archive.read(found[0]))
    if not isinstance(module, _Object) or not module.name.startswith(_CLASSES):
        raise _Damaged("its data.pkl describes no module")
    return module, start


def _described(pickle: bytes) -> Any:
    """The structure that a pickle describes: words, objects, dicts, lists, tuples, numbers and strings."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for operation, argument, _ in pickletools.genops(pickle):
        name = operation.name
        if name == "STOP":
            return stack[-1]
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "GLOBAL":
            stack.append(_Word(argument))
        elif name != "PROTO":
            _combine(name, stack)
    raise _Damaged("its data.pkl has no end")


def _combine(name: str, stack: list[Any]) -> None:
    """Apply one operation to the stack."""
    if name == "MARK":
        stack.append(_MARK)
    elif name == "EMPTY_TUPLE":
        stack.append(())
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name == "TUPLE":
        stack.append(tuple(_marked(stack)))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name == "APPENDS":
        items = _marked(stack)
        _of(list, stack[-1]).extend(items)
    elif name == "APPEND":
        item = stack.pop()
        _of(list, stack[-1]).append(item)
    elif name in ("SETITEMS", "SETITEM"):
        pairs = _marked(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
        _of(dict, stack[-1]).update((_of((str, int), key), value) for key, value in zip(pairs[::2], pairs[1::2], strict=True))
    elif name == "BINPERSID":
        stack.append(_Stored(stack.pop()))
    elif name in ("NEWOBJ", "REDUCE"):
        arguments, word = _of(tuple, stack.pop()), _of(_Word, stack.pop())
        # an annotated value and a parameter stand for their content
        inside = word.name in ("torch.jit._pickle restore_type_tag", _PARAMETER) and arguments
        stack.append(arguments[0] if inside else _Object(word.name, arguments))
    elif name == "BUILD":
        attributes = _of(dict, stack.pop())
        _of(_Object, stack[-1]).attributes.update(attributes)
    else:
        raise _Damaged(f"torch writes no {name}")


def _marked(stack: list[Any]) -> list[Any]:
    """Pop everything above the last mark."""
    at = next(index for index in range(len(stack) - 1, -1, -1) if stack[index] is _MARK)
    found = stack[at + 1 :]
    del stack[at:]
    return found


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise _Damaged(f"its data.pkl has a {type(value).__name__} where torch writes another thing")
    return value


def _is_tensor(value: Any) -> bool:
    return isinstance(value, _Object) and value.name == _TENSOR


def _attributes(module: _Object) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every attribute that is no module. Raises ValueError beyond the bounds of size and depth."""
    waiting: list[tuple[str, int, _Object]] = [("", 0, module)]
    seen = 0
    while waiting:
        start, depth, part = waiting.pop()
        for key, value in part.attributes.items():
            seen += 1
            if seen > NAMES or depth > DEPTH or not isinstance(key, str) or len(key) > 1000:
                raise _Damaged(f"a module has at most {NAMES:,} names, {DEPTH} deep")
            if isinstance(value, _Object) and value.name.startswith(_CLASSES):
                waiting.append((f"{start}{key}.", depth + 1, value))
            else:
                yield f"{start}{key}", value


class _Storages:
    """The storages of an archive; no more bytes are read than the file has."""

    def __init__(self, archive: zipfile.ZipFile, start: str, left: int) -> None:
        self.archive, self.start, self.left = archive, start, left
        self.read: dict[str, Tensor] = {}

    def view(self, arguments: Any) -> Tensor:
        """The tensor of `_rebuild_tensor_v2`'s arguments: storage, first number, shape and steps."""
        stored, first, shape, steps = _of(tuple, arguments)[:4]
        for numbers in ((first,), shape, steps):
            if any(type(number) is not int or not 0 <= number < 1 << 48 for number in _of(tuple, numbers)):
                raise _Damaged("a tensor has a shape that is none")
        whole = self._storage(_of(_Stored, stored).described)
        last = first + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))
        if 0 not in shape and last >= len(whole):
            raise _Damaged("a tensor is larger than its numbers")
        return whole.new_empty(shape) if 0 in shape else whole.as_strided(shape, steps, first)

    def _storage(self, described: Sequence[Any]) -> Tensor:
        kind, word, key = _of(tuple, described)[:3]
        dtype = _STORAGES.get(_of(_Word, word).name.removeprefix("torch "))
        if kind != "storage" or dtype is None or not isinstance(key, str):
            raise _Damaged("its numbers are of a kind that torch does not write")
        if key not in self.read:
            part = self.archive.getinfo(f"{self.start}data/{key}")
            self.left -= part.file_size
            if part.compress_type != zipfile.ZIP_STORED or self.left < 0:
                raise _Damaged("its numbers are compressed, or lie on each other")
            content = bytearray(self.archive.read(part))
            whole = len(content) // dtype.itemsize * dtype.itemsize
            self.read[key] = torch.frombuffer(content, dtype=dtype, count=whole // dtype.itemsize) if whole else torch.empty(0, dtype=dtype)
        if self.read[key].dtype != dtype:
            raise _Damaged("one storage has two kinds of numbers")
        return self.read[key]
