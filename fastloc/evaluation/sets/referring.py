"""Phrases that refer to one object of a picture, and the object's box: RefCOCO, RefCOCO+, RefCOCOg and your own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fastloc.errors import FastlocError
from fastloc.evaluation.samples import Item, Question, Sample, SampleError
from fastloc.evaluation.sets import files, phrases
from fastloc.evaluation.sets.coco_file import Box
from fastloc.imaging.picture_formats import EXTENSIONS
from fastloc.utils import schema

__all__ = ["LAYOUT", "OPTIONS", "Referring"]

PHRASES = ("phrases.json", "phrases.jsonl", "finetune_refcoco_val.json", "refcoco_val.jsonl", "refs(unc).json")
PICTURES = ("pictures", "train2014", "images/train2014", "images")
LAYOUT = (
    f"{', '.join(PHRASES)}   one of four forms:",
    "    your own, a JSON list of {\"picture\": \"a.jpg\", \"phrase\": \"red cup\", \"box\": [x0, y0, x1, y1]}",
    "    MDETR's finetune_refcoco_val.json, a COCO file with an image a phrase, its caption",
    "    Qwen-VL's refcoco_val.jsonl, a line a phrase with image, sent and bbox (x0, y0, x1, y1)",
    "    refs(unc).p saved as JSON, with instances.json beside it; pickles are never read",
    f"{', '.join(PICTURES)}   folder of the pictures",
)  # fmt: skip
OPTIONS = {
    "phrases": f"file of the phrases (default: the first of {', '.join(PHRASES)})",
    "pictures": f"folder of the pictures (default: the first of {', '.join(PICTURES)})",
    "instances": "COCO file that refs(...).json refers to (default: instances.json beside it)",
    "split": "of refs(...).json: val, testA, testB, test or train (default: val)",
}


class Referring:
    """Data set of questions: the phrases of a picture, each with the box of its object; see LAYOUT and OPTIONS.

    Phrases are asked as they are written. A picture that is not in the folder under the file's path is searched for by its name.
    """

    task = "questions"
    background = False
    classes: tuple[str, ...] = ()

    def __init__(
        self, name: str, root: Path, *, phrases: str = "", pictures: str = "", instances: str = "", split: str = "val"
    ) -> None:  # fmt: skip
        """Raises FastlocError: a file is missing, of none of the forms, or a pickle."""
        self.name = name
        self.phrases = root / phrases if phrases else files.existing(root, PHRASES)
        self.pictures = root / pictures if pictures else files.existing(root, PICTURES)
        if not phrases and not self.phrases.exists():
            _refuse_pickles(root)
        files.require((self.phrases, "the phrases and their boxes"), (self.pictures, "the folder of the pictures"))
        self._phrases = self._read(root / instances if instances else self.phrases.parent / "instances.json", split)

    def items(self) -> Sequence[Item]:
        """The pictures in the order of their first phrases."""
        return [Item(name, name, asked) for name, asked in self._phrases.items()]

    def read(self, item: Item) -> Sample:
        """One picture with its phrases, in the file's order. Raises SampleError."""
        picture = files.picture(files.within(self.pictures, item.picture))
        asked = []
        for each in item.truth:
            boxes = tuple(cut for box in each.boxes if (cut := _within(box, picture.size)))
            if not boxes:
                raise SampleError(f"{self.phrases}: the box of {schema.shown(each.phrase)} must lie in {item.key}, got {each.boxes[0]}")
            asked.append(Question(each.phrase, boxes=boxes))
        return Sample(item.key, picture, questions=tuple(asked))

    def missing(self) -> list[str]:
        """A line for pictures that the phrases name and the folder does not have."""
        return files.missing_pictures(self.pictures, list(self._phrases))

    def _read(self, instances: Path, split: str) -> dict[str, list[phrases.Phrase]]:
        there = set(files.relative_files(self.pictures, EXTENSIONS))
        found: dict[str, list[phrases.Phrase]] = {}
        for each in phrases.read(self.phrases, instances, split):
            schema.one_line(f"a phrase in {self.phrases}", each.phrase)
            if not each.phrase.strip():
                raise FastlocError(f"{self.phrases} must have a phrase for each box of {each.picture}, got an empty one")
            name = each.picture if each.picture in there else PurePosixPath(each.picture).name
            found.setdefault(name, []).append(each)
        if not found:
            raise FastlocError(f"{self.phrases} must hold phrases, got none")
        return found


def _refuse_pickles(root: Path) -> None:
    if root.is_dir():
        for path in sorted(root.iterdir()):
            if path.suffix.lower() in phrases.PICKLES:
                phrases.refuse_pickle(path)


def _within(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box in a picture of (width, height)."""
    x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(size[0])), min(box[3], float(size[1]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
