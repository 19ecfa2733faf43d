"""Trees of dataclasses and tuples of tensors: change every part of a kind, name every tensor."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

Tree = TypeVar("Tree")


def mapped(part: Tree, kind: type | tuple[type, ...], change: Callable[[Any], Any]) -> Tree:
    """The tree with every part of type `kind` changed."""
    if isinstance(part, kind):
        return change(part)  # type: ignore[no-any-return]
    if isinstance(part, tuple):
        return tuple(mapped(each, kind, change) for each in part)  # type: ignore[return-value]
    if not is_dataclass(part) or isinstance(part, type):
        return part
    return replace(part, **{each.name: mapped(getattr(part, each.name), kind, change) for each in fields(part) if each.init})


def named_tensors(part: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor with the path of its fields, such as "stages.3.0.kernel"."""
    if isinstance(part, Tensor):
        yield path, part
    elif isinstance(part, tuple):
        for i, each in enumerate(part):
            yield from named_tensors(each, f"{path}.{i}" if path else str(i))
    elif is_dataclass(part) and not isinstance(part, type):
        for each in fields(part):
            yield from named_tensors(getattr(part, each.name), f"{path}.{each.name}" if path else each.name)
