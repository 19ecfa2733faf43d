"""Objects that pickle as their constructor arguments: a few hundred bytes; unpickling loads their files and weights again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from fastloc import embedded

__all__ = ["Described"]

LOCAL = "local-dir:"

Self = TypeVar("Self", bound="Described")


class Described:
    """A base class. Its `__init__` begins with `self._describe(locals())`, named arguments alone; `more` is the name of its `**more`.

    Copies by `copy.copy` share everything; pickles and `copy.deepcopy` call the class again. Relative paths keep the meaning that they had
    in the folder of the first call.
    """

    _arguments: dict[str, Any]

    def _describe(self, arguments: Mapping[str, Any], more: str = "") -> None:
        """Keep the arguments of `__init__`."""
        named = {name: value for name, value in arguments.items() if name not in ("self", "__class__", more)}
        self._arguments = {name: _absolute(value) for name, value in (named | arguments.get(more, {})).items()}

    def _description(self) -> dict[str, Any]:
        """The arguments from which an equal object can be made."""
        return self._arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), self._description())

    def __copy__(self: Self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other


def _made(kind: type[Described], arguments: dict[str, Any]) -> Described:
    return kind(**arguments)


def _absolute(value: Any) -> Any:
    """A path that means the same in every folder. A string is one if there is such a folder, or a file with an extension."""
    if isinstance(value, os.PathLike):
        return type(value)(os.path.abspath(value))  # type: ignore[call-arg]
    if not isinstance(value, str):
        return value
    prefix = LOCAL if value.startswith(LOCAL) else ""
    path, at, pin = value.removeprefix(prefix).partition("@sha256:")
    there = os.path.isdir(path) or (os.path.splitext(path)[1] and os.path.isfile(path))
    return prefix + os.path.abspath(path) + at + pin if there and value not in embedded.FOLDERS else value
