"""A row of the table of data sets: a set's reader, its check, and its description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastloc.errors import FastlocError, unknown
from fastloc.evaluation.samples import DataSet

__all__ = ["SetRow"]


@dataclass(frozen=True, kw_only=True)
class SetRow:
    """A data set that can be evaluated.

    reader: opens the set in a folder with options by name; nothing but lists is read. Raises FastlocError in one line.
    check: the missing parts of a folder, one line each; () or [] where there are none.
    task: "labels" or "questions", see `fastloc.evaluation.samples.Sample`.
    pictures, classes: of the published split; 0 where the files say so themselves.
    background: class 0 holds the pixels of no other class.
    about: the set in one line; layout: its files, one a line; options: option -> its meaning, values are text.
    """

    reader: Callable[..., DataSet]
    check: Callable[..., list[str]]
    task: str
    about: str
    layout: tuple[str, ...]
    pictures: int = 0
    classes: int = 0
    background: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    def check_options(self, name: str, options: Mapping[str, str]) -> None:
        """Raise FastlocError for an option that the set does not have."""
        for option in options:
            if option not in self.options:
                raise FastlocError(unknown(f"{name} option", option, self.options))

    def open(self, name: str, root: Path, options: Mapping[str, str]) -> DataSet:
        """Open the set in a folder. Raises FastlocError for an unknown option, and the reader's errors."""
        self.check_options(name, options)
        return self.reader(name, root, **options)

    def missing(self, name: str, root: Path, options: Mapping[str, str]) -> list[str]:
        """The missing parts of the layout, one line each. Raises FastlocError for an unknown option."""
        self.check_options(name, options)
        return self.check(name, root, **options)
