"""COCO files: objects as labels of pixels, and objects' boxes as questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastloc.errors import FastlocError
from fastloc.evaluation.samples import IGNORE, Item, Labels, Question, Sample
from fastloc.evaluation.sets import coco_file, files
from fastloc.utils import schema

__all__ = ["LAYOUT", "OPTIONS", "CocoBoxes", "CocoLabels"]

ANNOTATIONS = ("annotations.json", "annotations/instances_val2017.json")
PICTURES = ("pictures", "val2017", "images/val2017", "images")
LAYOUT = (
    f"{' or '.join(ANNOTATIONS)}   images, annotations and categories; polygons or run lengths",
    f"{', '.join(PICTURES)}   folder of the pictures, by their file_name",
)
OPTIONS = {
    "annotations": f"COCO's JSON file (default: the first of {', '.join(ANNOTATIONS)})",
    "pictures": f"folder of the pictures (default: the first of {', '.join(PICTURES)})",
}


class _Coco:
    """Base of both sets: the file, the folder and the classes."""

    def __init__(self, name: str, root: Path, annotations: str, pictures: str) -> None:
        self.name = name
        self.file = root / annotations if annotations else files.existing(root, ANNOTATIONS)
        self.pictures = root / pictures if pictures else files.existing(root, PICTURES)
        files.require((self.file, "COCO's file of annotations"), (self.pictures, "the folder of the pictures"))
        self._images, annotated, categories = coco_file.opened(self.file)
        self._annotations = coco_file.by_picture(self.file, self._images, annotated)
        self._label = {category.id: label for label, category in enumerate(categories)}
        self.classes = tuple(category.name.strip() for category in categories)
        if not self._images or not self.classes or "" in self.classes or len(set(self.classes)) < len(self.classes):
            raise FastlocError(f"{self.file} must have pictures, and categories of different names")
        if len({each.file_name for each in self._images}) < len(self._images):
            raise FastlocError(f"{self.file} must name each picture once, got a file_name twice")
        for name in self.classes:
            schema.one_line(f"a category in {self.file}", name)
        for each in annotated:
            if each.category_id not in self._label:
                raise FastlocError(f"{self.file}: annotation {each.id} must be of a category in the file, got {each.category_id}")

    def missing(self) -> list[str]:
        """A line for pictures that the file names and the folder does not have."""
        return files.missing_pictures(self.pictures, [each.file_name for each in self._images])

    def _item(self, entry: coco_file.Entry) -> Item:
        return Item(entry.file_name, entry, self._annotations[entry.id])


class CocoLabels(_Coco):
    """Data set of labels: each object's pixels have its category; see LAYOUT and OPTIONS.

    Pixels that objects of two categories claim are ignored, as in torchvision's reference training. Crowds are pixels of their category.
    """

    task = "labels"

    def __init__(self, name: str, root: Path, *, annotations: str = "", pictures: str = "", unlabelled: str = "background") -> None:
        """Raises FastlocError: an option or the file is wrong, or a part of the layout is missing."""
        super().__init__(name, root, annotations, pictures)
        if unlabelled not in ("background", "ignore"):
            raise FastlocError(f"unlabelled must be background or ignore, got {schema.shown(unlabelled)}")
        self.background = unlabelled == "background"
        if self.background:
            if "background" in self.classes:
                raise FastlocError(f"{self.file} must have no category background, got one; use --option unlabelled=ignore")
            self.classes = ("background", *(name for name in self.classes))

    def items(self) -> Sequence[Item]:
        """All pictures in the file's order."""
        return [self._item(entry) for entry in self._images]

    def read(self, item: Item) -> Sample:
        """One picture with its labels, int16 [H, W]. Raises SampleError."""
        entry: coco_file.Entry = item.picture
        picture = files.picture(files.within(self.pictures, entry.file_name), (entry.width, entry.height))
        return Sample(item.key, picture, self._labels(entry, item.truth))

    def _labels(self, entry: coco_file.Entry, annotations: Sequence[coco_file.Annotation]) -> Labels:
        unlabelled = 0 if self.background else IGNORE
        labels = np.full((entry.height, entry.width), unlabelled, np.int16)
        several = np.zeros(labels.shape, np.bool_)
        for each in annotations:
            name = f"{self.file}: annotation {each.id} of {entry.file_name}"
            pixels = coco_file.mask(each, entry.width, entry.height, name)
            label = self._label[each.category_id] + int(self.background)
            several |= pixels & (labels != unlabelled) & (labels != label)
            labels[pixels] = label
        labels[several] = IGNORE
        return labels


class CocoBoxes(_Coco):
    """Data set of questions: each category that a picture has is asked once, and all its boxes answer, those of crowds too; see LAYOUT and
    OPTIONS."""

    task = "questions"
    background = False

    def __init__(self, name: str, root: Path, *, annotations: str = "", pictures: str = "") -> None:
        """Raises FastlocError: an option or the file is wrong, or a part of the layout is missing."""
        super().__init__(name, root, annotations, pictures)

    def items(self) -> Sequence[Item]:
        """The pictures that have objects, in the file's order."""
        return [self._item(entry) for entry in self._images if self._annotations[entry.id]]

    def read(self, item: Item) -> Sample:
        """One picture with a question for each category in it, in the order of the classes. Raises SampleError."""
        entry: coco_file.Entry = item.picture
        boxes: dict[int, list[coco_file.Box]] = {}
        for each in item.truth:
            found = coco_file.box(each.bbox, entry.width, entry.height, f"{self.file}: annotation {each.id} of {entry.file_name}")
            if found is not None:
                boxes.setdefault(self._label[each.category_id], []).append(found)
        picture = files.picture(files.within(self.pictures, entry.file_name), (entry.width, entry.height))
        asked = (Question(self.classes[label], label, boxes=tuple(boxes[label])) for label in sorted(boxes))
        return Sample(item.key, picture, questions=tuple(asked))
