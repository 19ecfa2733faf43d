"""Renaming of tensors: each row of a table maps tensors of a file to one of open_clip's, with a change if needed."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastloc.errors import ModelError

__all__ = ["Layout", "Row", "one", "pair", "renamed"]

# the changes of a tensor, or of several that are joined on their first axis
_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.T,
    "with a batch": lambda tensor: tensor[None],
    "without a batch": lambda tensor: tensor[0],
    "without two batches": lambda tensor: tensor[0, 0],
    "as a token": lambda tensor: tensor[None, None],
    "as a convolution": lambda tensor: _convolution(tensor),
    # the parts of a joint projection: queries, keys and values
    "queries": lambda tensor: tensor[: len(tensor) // 3],
    "keys and values": lambda tensor: tensor[len(tensor) // 3 :],
    "as a logarithm": lambda tensor: -tensor.float().log(),
}
# the channels of a picture
_COLOURS = 3
# a name that stands for several tensors: queries, keys and values
_EACH = re.compile(r"\{(\w+(?:,\w+)+)\}")


@dataclass(frozen=True)
class Row:
    """The origin of one of open_clip's tensors.

    Attributes:
        to: its name; "{i}" is the index of a block.
        of: the name in the file, or "{a,b,c}" for several that are joined on the first axis.
        shape: of each tensor in the file, in letters: a letter stands for the same size throughout a file, and a figure for itself.
        change: its change, a key of `_CHANGES`.
        needed: True if the tensor must exist.
    """

    to: str
    of: str
    shape: str
    change: str = ""
    needed: bool = True

    def sources(self) -> list[str]:
        """The names of its tensors in the file."""
        found = _EACH.search(self.of)
        return [self.of] if found is None else [self.of.replace(found[0], name) for name in found[1].split(",")]


@dataclass(frozen=True)
class Layout:
    """A naming scheme for the tensors of a model.

    Attributes:
        name: of a class or a program, as in error messages.
        mark: a tensor name in every file of this layout, and in none of another layout.
        rows: every tensor.
        unused: patterns of names that are ignored.
    """

    name: str
    mark: str
    rows: tuple[Row, ...]
    unused: tuple[str, ...] = ()


def one(to: str, of: str, shape: str, change: str = "", needed: bool = True) -> tuple[Row, ...]:
    """The row of one tensor, as a tuple for tables built from tuples of rows."""
    return (Row(to, of, shape, change, needed),)


def pair(to: str, of: str, shape: str) -> tuple[Row, ...]:
    """The rows of a weight and of its bias, whose shape is the weight's first letter."""
    return Row(f"{to}.weight", f"{of}.weight", shape), Row(f"{to}.bias", f"{of}.bias", shape[0])


def renamed(state: Mapping[str, Tensor], layout: Layout, sizes: Mapping[str, int], layers: Mapping[str, int]) -> dict[str, Tensor]:
    """The tensors under open_clip's names; unchanged ones share memory with the file's.

    Args:
        sizes: known sizes by letter; the file sets the others, the same throughout.
        layers: the number of blocks by the prefix of their tensors' names; other prefixes are counted in the file.

    Raises:
        ModelError: a tensor is missing, has another shape, or does not belong to the layout.
    """
    letters, made, used = dict(sizes), {}, set()
    for row in _every(layout.rows, state, layers):
        sources = row.sources()
        if not row.needed and not any(name in state for name in sources):
            continue
        parts = [_taken(state, name, row.shape, letters, layout) for name in sources]
        made[row.to] = _CHANGES[row.change](parts[0] if len(parts) == 1 else torch.cat(parts))
        used.update(sources)
    unused = [re.compile(pattern) for pattern in layout.unused]
    other = next((name for name in state if name not in used and not any(each.fullmatch(name) for each in unused)), None)
    if other is not None:
        raise ModelError(f"weights of another architecture: {other[:80]!r} is there, and {layout.name} of this size has no such part")
    return made


def _every(rows: Sequence[Row], state: Mapping[str, Tensor], layers: Mapping[str, int]) -> Iterator[Row]:
    """Yield the rows of a table, those of blocks once for each block."""
    for row in rows:
        if "{i}" not in row.of:
            yield row
            continue
        known = next((count for start, count in layers.items() if row.to.startswith(start)), None)
        for index in range(_counted(row, state) if known is None else known):
            yield Row(row.to.replace("{i}", str(index)), row.of.replace("{i}", str(index)), row.shape, row.change, row.needed)


def _counted(row: Row, state: Mapping[str, Tensor]) -> int:
    """The number of blocks that have this tensor in a file, so that a missing block in between is noticed."""
    start, _, end = row.sources()[0].partition("{i}")
    return sum(name.startswith(start) and name.endswith(end) and name[len(start) : len(name) - len(end)].isdecimal() for name in state)


def _taken(state: Mapping[str, Tensor], name: str, shape: str, letters: dict[str, int], layout: Layout) -> Tensor:
    tensor = state.get(name)
    if tensor is None:
        raise ModelError(f"weights of another architecture: {name!r} is missing, which {layout.name} has")
    sizes = [int(letter) if letter.isdigit() else letters.get(letter) for letter in shape.split()]
    found = tuple(tensor.shape)
    if len(found) != len(sizes) or any(size not in (None, got) for size, got in zip(sizes, found, strict=True)):
        expected = tuple("any" if size is None else size for size in sizes)
        raise ModelError(
            f"weights of another architecture: {name!r} must have shape ({', '.join(map(str, expected))}"
            f"{',' if len(expected) == 1 else ''}), got {found}"
        )
    letters.update(zip((letter for letter in shape.split() if not letter.isdigit()), _lettered(found, shape), strict=True))
    return tensor


def _convolution(linear: Tensor) -> Tensor:
    """The kernel [C, 3, p, p] of a linear layer on the pixels of a square patch: rows, columns, channels."""
    side = math.isqrt(linear.shape[1] // _COLOURS)
    if _COLOURS * side**2 != linear.shape[1]:
        raise ModelError(f"weights of another architecture: the patch embedding has {linear.shape[1]} inputs, which are no square patch's")
    return linear.reshape(-1, side, side, _COLOURS).permute(0, 3, 1, 2).contiguous()


def _lettered(found: tuple[int, ...], shape: str) -> list[int]:
    return [size for size, letter in zip(found, shape.split(), strict=True) if not letter.isdigit()]
