"""Measurements on one model, kept in a file of JSON: made once by a command, refused by another model's image tower."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from fastloc import embedded
from fastloc._version import __version__
from fastloc.errors import ModelError
from fastloc.recipes.validation import frozen
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.hashing import short
from fastloc.utils.schema import count, one_line, read_file, shown
from fastloc.utils.versioned_json import read

__all__ = ["Measured", "OfModel", "shipped_file"]

Kind = TypeVar("Kind", bound="Measured")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The model and the pictures of a measurement.

    Attributes:
        sizes: the model's inputs while measuring, (height, width) in pixels, each once
        pictures: the number of pictures that were read
        source: a description of these pictures
        model: the model's name
        tower: digest of its image tower, see `fastloc.utils.hashing`
    """

    # what such a thing is called in a sentence, the option and file that it is given as, and the command that makes it
    WHAT: ClassVar[str]
    NAME: ClassVar[str]
    COMMAND: ClassVar[str]
    # raised when a reader of an older version would misread a file
    FORMAT: ClassVar[int] = 1

    sizes: tuple[tuple[int, int], ...]
    pictures: int
    source: str
    model: str
    tower: str

    def __post_init__(self) -> None:
        for name in ("source", "model", "tower"):
            one_line(name, getattr(self, name))
        for side in (side for size in self.sizes for side in size):
            count("sizes", side, 1 << 14)
        count("pictures", self.pictures, 1 << 40)

    def check_tower(self, name: str, digest: str) -> None:
        """Raise ModelError for another image tower than the measured one."""
        if digest != self.tower:
            raise ModelError(
                f"{self.WHAT} were measured on {self.model} (image tower {short(self.tower)}), and the model is {name} ({short(digest)}): "
                f"run `fastloc {self.COMMAND}` on it"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, atomically. Raises FastlocError where the file cannot be written."""
        content = {"format": self.FORMAT, "version": __version__, **asdict(self)}
        text = json.dumps(content) + "\n"
        write_whole(Path(path), lambda file: file.write(text.encode()))

    @classmethod
    def load(cls: type[Kind], path: str | os.PathLike[str]) -> Kind:
        """Read a file.

        Raises:
            ModelError: it cannot be read, is damaged, is of a newer format, or holds something else.
        """
        name = str(path)
        text = read_file(Path(path), f"{cls.WHAT} file {name!r}")
        if not embedded.holds(path):
            return read(text, cls.NAME, cls.FORMAT, name, cls)
        # fastloc's own, without the schema, which needs msgspec
        content = json.loads(text)
        return cls(**{field.name: frozen(content[field.name]) for field in fields(cls)})


def shipped_file(model: str, kind: type[Measured]) -> Path | None:
    """The measurement file shipped with a model: with fastloc, or in the model's own folder. None where there is none."""
    folder = embedded.FOLDERS.get(model) or Path(model.removeprefix("local-dir:"))
    path = folder / f"{kind.NAME}.json"
    return path if os.path.isfile(path) else None


class OfModel(Generic[Kind]):
    """A measurement on one model: given by you, or shipped with the model and read on first use.

    Args:
        model: as `fastloc.checkpoints.loading.load` takes it; a file may lie in its folder.
        given: a measurement or its file, in place of the shipped one.

    Raises:
        ModelError: `given` is neither, or a file that is none.
    """

    def __init__(self, kind: type[Kind], model: str, given: str | os.PathLike[str] | Kind | None) -> None:
        self.kind, self.model, self.is_given = kind, model, given is not None
        self.table: Kind | None = None if given is None else _loaded(kind, given)
        self.checked = False

    def get(self, name: str, digest: Callable[[], str]) -> Kind | None:
        """The measurement for the model of this name, whose image tower has this digest; None where there is none.

        Raises:
            ModelError: it is another model's.
        """
        if self.table is None and (path := shipped_file(self.model, self.kind)):
            self.table = self.kind.load(path)
        if self.table is not None and not self.checked:
            self.table.check_tower(name, digest())
            self.checked = True
        return self.table


def _loaded(kind: type[Kind], given: object) -> Kind:
    if isinstance(given, kind):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise ModelError(f"{kind.NAME} must be a file or {kind.__name__}, got {shown(given)}; `fastloc {kind.COMMAND}` writes such files")
    return kind.load(given)
