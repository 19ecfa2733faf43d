"""A folder of your own: pictures, an index mask of each, and the names of the numbers in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.evaluation.samples import IGNORE, Item, Labels, Sample, SampleError
from fastloc.evaluation.sets import class_names, files
from fastloc.imaging.picture_formats import EXTENSIONS
from fastloc.utils import schema

__all__ = ["LAYOUT", "OPTIONS", "Folder"]

LAYOUT = (
    "pictures/                    any picture format, folders in it too",
    "masks/                       an index mask of each, of the same relative name: .png, .tif or .bmp, one number a pixel",
    "names.txt or names.json      a class a line from 0 on, names of one class split at commas; or {\"number in masks\": \"name\"}",
)  # fmt: skip
OPTIONS = {
    "pictures": "folder of the pictures (default: pictures)",
    "masks": "folder of the masks (default: masks)",
    "names": "file of the names (default: names.txt, or else names.json)",
    "only": "file of the pictures to read, a relative path or stem a line (default: all)",
    "ignore": "numbers in masks that no metric counts, split at commas (default: 255, unless it is named)",
    "background": "yes: the first class is what no other class is (default: yes if it is named background)",
}
_HIGHEST, _UNLABELLED = 0xFFFF, 255
# in the table of a mask's numbers: no class has this one
_UNKNOWN = -2


class Folder:
    """Data set of a folder; see LAYOUT and OPTIONS."""

    task = "labels"

    def __init__(
        self, name: str, root: Path, *, pictures: str = "pictures", masks: str = "masks", names: str = "", only: str = "",
        ignore: str = "", background: str = "",
    ) -> None:  # fmt: skip
        """Raises FastlocError: an option or the names are wrong, or a part of the layout is missing."""
        self.name, self.pictures, self.masks = name, root / pictures, root / masks
        self.names_file = root / names if names else files.existing(root, ("names.txt", "names.json"))
        self.only = root / only if only else None
        needed = [(self.pictures, "the folder of the pictures"), (self.masks, "the folder of their masks")]
        needed.append((self.names_file, "the names of the classes, one a line"))
        files.require(*needed, *([(self.only, "the list of the pictures")] if self.only else []))
        found = class_names.read(self.names_file)
        self.classes, self.names = found.plain, found.names
        self.background = files.yes_or_no("background", background) if background else self.classes[0].lower() == "background"
        self._table = _table(found.values, _ignored(ignore, found.values))

    def items(self) -> Sequence[Item]:
        """All pictures by name, or in the order of the list. Raises FastlocError: there is none, or one has no mask."""
        pictures = self._listed(files.relative_files(self.pictures, EXTENSIONS))
        masks: dict[str, str] = {}
        for mask in files.relative_files(self.masks, files.MASKS):
            stem = _stem(mask)
            # the usual format before the others
            if stem not in masks or files.MASKS.index(PurePosixPath(mask).suffix.lower()) == 0:
                masks[stem] = mask
        without = [name for name in pictures if _stem(name) not in masks]
        if without:
            raise FastlocError(
                f"{self.masks / _stem(without[0])}.png is missing, as are those of {len(without) - 1:,} more of {len(pictures):,} "
                "pictures; give a list of the others: --option only=FILE"
            )
        return [Item(name, name, masks[_stem(name)]) for name in pictures]

    def read(self, item: Item) -> Sample:
        """One picture with its labels, int16 [H, W]. Raises SampleError."""
        picture, mask = files.picture(self.pictures / item.picture), self.masks / item.truth
        return Sample(item.key, picture, self._labels(mask, files.index_mask(mask, picture.size)))

    def missing(self) -> list[str]:
        """An empty list, where every picture has its mask. Raises FastlocError as `items` does."""
        self.items()
        return []

    def _listed(self, every: list[str]) -> list[str]:
        if not every:
            raise FastlocError(f"{self.pictures} must hold pictures, got none")
        if self.only is None:
            return every
        lines = [line for line in files.text_lines(self.only) if line]
        by_name = {_stem(name): name for name in every} | {name: name for name in every}
        gone = [line for line in lines if line not in by_name]
        if gone or not lines:
            missing = f"{schema.shown(gone[0])} and {len(gone) - 1:,} more that are not there" if gone else "no line"
            raise FastlocError(f"{self.only} must list pictures of {self.pictures}, got {missing}")
        return [*dict.fromkeys(by_name[line] for line in lines)]

    def _labels(self, path: Path, numbers: NDArray[np.int32]) -> Labels:
        highest = int(numbers.max(initial=0))
        labels = self._table[np.clip(numbers, 0, _HIGHEST)]
        if highest > _HIGHEST or int(labels.min(initial=0)) == _UNKNOWN:
            value = highest if highest > _HIGHEST else int(numbers[labels == _UNKNOWN][0])
            raise SampleError(
                f"mask {path} must hold numbers that {self.names_file.name} names or ignored ones, got {value}; name it or ignore it"
            )
        return labels


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _table(values: Sequence[int], ignored: Sequence[int]) -> NDArray[np.int16]:
    """Number in a mask -> label, int16 [65536]."""
    made = np.full(_HIGHEST + 1, _UNKNOWN, np.int16)
    made[list(values)] = np.arange(len(values), dtype=np.int16)
    made[list(ignored)] = IGNORE
    return made


def _ignored(option: str, values: Sequence[int]) -> list[int]:
    """The numbers of the option `ignore`. Raises FastlocError."""
    if not option:
        return [] if _UNLABELLED in values else [_UNLABELLED]
    parts = [part.strip() for part in option.split(",")]
    for part in parts:
        if not (part.isdecimal() and part.isascii() and len(part) <= 5 and int(part) <= _HIGHEST):
            raise FastlocError(f"ignore must be numbers from 0 to {_HIGHEST}, split at commas, got {schema.shown(option)}")
        if int(part) in values:
            raise FastlocError(f"ignore must not hold the number of a class, got {part}; leave it out of the names")
    return [int(part) for part in parts]
