"""The eight label sets of the published tables, read from the folders that mmsegmentation's configurations name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastloc.errors import FastlocError
from fastloc.evaluation.samples import Item, Labels, Sample
from fastloc.evaluation.sets import files, masks
from fastloc.evaluation.sets.classes import CLASSES
from fastloc.utils import schema

__all__ = ["LAYOUTS", "OPTIONS", "LabelSet", "Layout", "Stored", "described"]

OPTIONS = {
    "only": "list of the pictures to read, a name a line, in its order (default: the set's own list, or all)",
    "masks": "folder of the masks, such as SegmentationClassAug; numbers mean the same (default: the set's own)",
}
# lines of a check about files of one kind that are missing
_LINES = 10


@dataclass(frozen=True, eq=False)
class Stored:
    """One form of masks: the ending behind a picture's name in their names, and the label of each number, a table of `masks`."""

    suffix: str
    table: Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """Files of a set, below the folder that is given or one of homes in it, as mmsegmentation's folder data has them.

    pictures, masks: folders. suffix: of a picture's file, upper case or lower. inner: the folders in both, as a description names them.
    names: list of the pictures, one a line; "": every picture, by path.
    stored: forms of masks, the usual one first; a mask is read in the first form in which it is there.
    colours: of a palette, see `fastloc.evaluation.sets.files.index_mask`.
    """

    pictures: str
    masks: str
    stored: tuple[Stored, ...]
    homes: tuple[str, ...]
    suffix: str = ".jpg"
    inner: str = ""
    names: str = ""
    colours: Mapping[files.Colour, int] = field(default_factory=dict)


def _voc(year: int, names: str, truth: str, table: Labels, colours: Mapping[files.Colour, int]) -> Layout:
    return Layout(
        pictures="JPEGImages", masks=truth, names=f"ImageSets/{names}/val.txt", stored=(Stored(".png", table),), colours=colours,
        homes=(f"VOC{year}", f"VOCdevkit/VOC{year}"),
    )  # fmt: skip


def _coco(homes: tuple[str, ...], *stored: Stored) -> Layout:
    return Layout(pictures="images/val2017", masks="annotations/val2017", stored=stored, homes=homes)


_COLOURS = masks.voc_colours()
# SCLIP's configurations (wangf3014/SCLIP@b56bd30 configs/cfg_*.py) over mmsegmentation's data sets (mmseg/datasets of 1.2.2); raw forms
# beside those that its converters write
LAYOUTS: dict[str, Layout] = {
    "voc21": _voc(2012, "Segmentation", "SegmentationClass", masks.counted(21), _COLOURS),
    "voc20": _voc(2012, "Segmentation", "SegmentationClass", masks.reduced(20), _COLOURS),
    "context60": _voc(2010, "SegmentationContext", "SegmentationClassContext", masks.counted(60), {}),
    "context59": _voc(2010, "SegmentationContext", "SegmentationClassContext", masks.reduced(59), {}),
    "coco-object": _coco(
        ("coco_object", "coco_stuff164k"), Stored("_instanceTrainIds.png", masks.counted(81)),
        Stored(".png", masks.objects_of_stuff_ids()), Stored("_labelTrainIds.png", masks.objects_of_labels()),
    ),
    "coco-stuff": _coco(("coco_stuff164k",), Stored("_labelTrainIds.png", masks.counted(171)), Stored(".png", masks.stuff_ids())),
    "ade20k": Layout(
        pictures="images/validation", masks="annotations/validation", stored=(Stored(".png", masks.reduced(150)),),
        homes=("ADEChallengeData2016", "ade/ADEChallengeData2016"),
    ),
    "cityscapes": Layout(
        pictures="leftImg8bit/val", masks="gtFine/val", homes=("cityscapes",), suffix="_leftImg8bit.png", inner="CITY/",
        stored=(Stored("_gtFine_labelTrainIds.png", masks.counted(19)), Stored("_gtFine_labelIds.png", masks.cityscapes_ids())),
    ),
}  # fmt: skip


class LabelSet:
    """A label set in a folder: one picture, one mask of its size.

    Labels are those of mmsegmentation's loader, 255 as IGNORE; pictures are read as `fastloc.evaluation.sets.files.picture`
    reads them. See OPTIONS for the options.
    """

    task = "labels"

    def __init__(self, name: str, root: Path, *, only: str = "", masks: str = "") -> None:
        """Raises FastlocError: a folder or the list is missing, with a line for each."""
        self.name, self.layout, self.classes = name, LAYOUTS[name], CLASSES[name]
        self.background = self.classes[0] == "background"
        pictures = files.existing(root, [str(Path(each) / self.layout.pictures) for each in ("", *self.layout.homes)])
        home = pictures.parents[len(Path(self.layout.pictures).parts) - 1]
        self.pictures, self.masks = pictures, home / (masks or self.layout.masks)
        names = only or self.layout.names
        self.list_file = home / names if names else None
        needed = [(self.pictures, "the folder of the pictures"), (self.masks, "the folder of their masks")]
        files.require(*needed, *([(self.list_file, "the list of the pictures, a name a line")] if self.list_file else []))

    def items(self) -> Sequence[Item]:
        """All pictures, in the order of the list, or else by path. Raises FastlocError: the list is wrong, or a file of it is missing."""
        pictures = _by_name(_paths(self.pictures, self.layout.suffix), self.layout.suffix)
        truths = _paths(self.masks, *(stored.suffix for stored in self.layout.stored))
        forms = [(stored, _by_name(truths, stored.suffix)) for stored in self.layout.stored]
        found, gone, bare = [], [], []
        for name in self._listed(pictures):
            truth = next(((by_name[name], stored) for stored, by_name in forms if name in by_name), None)
            if name not in pictures:
                gone.append(self.pictures / f"{name}{self.layout.suffix}")
            if truth is None:
                bare.append(self.masks / f"{name}{self.layout.stored[0].suffix}")
            if name in pictures and truth is not None:
                found.append(Item(name, pictures[name], truth))
        if lines := [*_lines("picture", gone), *_lines("mask", bare)]:
            raise files.Missing(lines)
        return found

    def read(self, item: Item) -> Sample:
        """One picture with its labels, int16 [H, W]. Raises SampleError."""
        mask, stored = item.truth
        picture = files.picture(self.pictures / item.picture)
        return Sample(item.key, picture, masks.read(self.masks / mask, picture.size, stored.table, self.layout.colours))

    def missing(self) -> list[str]:
        """An empty list, where every picture has its mask. Raises FastlocError as `items` does."""
        self.items()
        return []

    def _listed(self, pictures: Mapping[str, str]) -> list[str]:
        """The names of the pictures. Raises FastlocError: there is none, one twice, or one that is no line."""
        suffix, place, names = self.layout.suffix, self.list_file, [*pictures]
        if place is not None:
            names = [line[: -len(suffix)] if line.lower().endswith(suffix.lower()) else line for line in files.text_lines(place) if line]
        if not names:
            rule = f"{place} must list pictures, a name a line" if place else f"{self.pictures} must hold pictures *{suffix}"
            raise FastlocError(f"{rule}, got none")
        for name in names:
            schema.one_line(f"a name in {place or self.pictures}", name)
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise FastlocError(f"{place} must list each picture once, got {schema.shown(name)} {count} times; remove the others")
        return names


def described(name: str) -> tuple[str, ...]:
    """The files of a set, one a line."""
    layout = LAYOUTS[name]
    lines = [(f"{layout.pictures}/{layout.inner}*{layout.suffix}", "pictures")]
    if layout.names:
        lines.append((layout.names, "their names, one a line"))
    usual, *others = [f"*{stored.suffix}" for stored in layout.stored]
    lines.append((f"{layout.masks}/{layout.inner}{usual}", "masks" + "".join(f", or else {each}" for each in others)))
    width = max(len(path) for path, _ in lines)
    return (*(f"{path:{width}}   {content}" for path, content in lines), f"or all of it in {' or in '.join(layout.homes)}")


def _paths(folder: Path, *suffixes: str) -> list[str]:
    """Relative paths of the files of a folder that may end in one of the suffixes, sorted. Raises FastlocError."""
    return files.relative_files(folder, {f".{suffix.rpartition('.')[2]}" for suffix in suffixes})


def _by_name(paths: Sequence[str], suffix: str) -> dict[str, str]:
    """Name -> path, of the paths that end in a suffix, upper case or lower."""
    ending = suffix.lower()
    return {path[: -len(suffix)]: path for path in paths if path.lower().endswith(ending)}


def _lines(kind: str, paths: Iterable[Path]) -> list[str]:
    """A line for each of the first files that are missing, and one with the number of the others."""
    every = [*paths]
    rest = len(every) - _LINES
    return [f"{path} is missing: a {kind}" for path in every[:_LINES]] + ([f"{rest:,} more {kind}s are missing"] if rest > 0 else [])
