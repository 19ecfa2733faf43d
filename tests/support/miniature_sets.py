"""The eight label sets in miniature: their true layout, with the embedded scenes as pictures and exact masks.

`write` lays a set out as its publisher and mmsegmentation's converters do: folders, lists, suffixes, palettes, borders that are ignored,
and files beside them that no evaluation reads. Things of the scenes stand for classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.evaluation.samples import IGNORE
from fastloc.evaluation.sets.classes import CLASSES
from gpu_parts.scenes import Scene, quality_set

# PASCAL VOC's, of the background and its 20 classes, and of what is ignored
VOC_PALETTE = {
    0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128), 6: (0, 128, 128), 7: (128, 128, 128),
    8: (64, 0, 0), 9: (192, 0, 0), 10: (64, 128, 0), 11: (192, 128, 0), 12: (64, 0, 128), 13: (192, 0, 128), 14: (64, 128, 128),
    15: (192, 128, 128), 16: (0, 64, 0), 17: (128, 64, 0), 18: (0, 192, 0), 19: (128, 192, 0), 20: (0, 64, 128), 255: (224, 224, 192),
}  # fmt: skip
# ids of COCO's 80 categories and of COCO-Stuff's 91, which masks hold less one
COCO_IDS = [*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)]
STUFF_IDS = [*COCO_IDS, *range(92, 183)]
CITYSCAPES_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
# sets whose masks hold 0 for what is ignored, and label 0 as 1
_REDUCED = ("voc20", "context59", "ade20k")
# folder of pictures, their suffix, folder of masks, their suffix, folder of lists
_VOC = ("JPEGImages", ".jpg", "SegmentationClass", ".png", "ImageSets/Segmentation")
_CONTEXT = ("JPEGImages", ".jpg", "SegmentationClassContext", ".png", "ImageSets/SegmentationContext")
_COCO = ("images/val2017", ".jpg", "annotations/val2017")
_LAYOUTS = {
    "voc21": _VOC, "voc20": _VOC, "context60": _CONTEXT, "context59": _CONTEXT,
    "coco-object": (*_COCO, "_instanceTrainIds.png", ""), "coco-stuff": (*_COCO, "_labelTrainIds.png", ""),
    "ade20k": ("images/validation", ".jpg", "annotations/validation", ".png", ""),
    "cityscapes": ("leftImg8bit/val", "_leftImg8bit.png", "gtFine/val", "_gtFine_labelTrainIds.png", ""),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Miniature:
    """A set that was written.

    things: label -> the thing of the scenes that stands for it.
    labels: key -> the truth, int16 [H, W], in the order of the set.
    """

    name: str
    root: Path
    things: dict[int, str]
    labels: dict[str, NDArray[np.int16]]

    @property
    def names(self) -> tuple[str, ...]:
        """A name a class: the thing that stands for it, or else the set's own."""
        return tuple(self.things.get(label, name) for label, name in enumerate(CLASSES[self.name]))

    def picture(self, key: str) -> Path:
        folder, suffix, *_ = _LAYOUTS[self.name]
        return self.root / folder / f"{key}{suffix}"

    def mask(self, key: str) -> Path:
        _, _, folder, suffix, _ = _LAYOUTS[self.name]
        return self.root / folder / f"{key}{suffix}"

    @property
    def list(self) -> Path:
        """The list of the pictures, of a set that has one."""
        return self.root / _LAYOUTS[self.name][-1] / "val.txt"


def write(name: str, root: Path, pictures: int = 3, *, raw: bool = False) -> Miniature:
    """Write a set of so many pictures. raw: COCO's and Cityscapes' masks as their publishers ship them alone, not converted."""
    things: dict[str, int] = {}
    labels: dict[str, NDArray[np.int16]] = {}
    made = Miniature(name, root, {}, labels)
    keys = _keys(name)
    for scene in _scenes(name, pictures, things):
        key = next(keys)
        numbers = _numbers(name, scene, things)
        ignored = (numbers == 255) | ((numbers == 0) & (name in _REDUCED))
        labels[key] = np.where(ignored, IGNORE, numbers.astype(np.int16) - (name in _REDUCED))
        _write_picture(made.picture(key), scene.picture)
        for ending, mask in _masks(name, numbers, raw).items():
            path = made.mask(key).with_name(f"{Path(key).name}{ending}")
            path.parent.mkdir(parents=True, exist_ok=True)
            mask.save(path)
    made.things.update({label: thing for thing, label in things.items()})
    if _LAYOUTS[name][-1]:
        extra = next(keys)
        _write_picture(made.picture(extra), quality_set()[0].picture)
        made.list.parent.mkdir(parents=True)
        made.list.write_text("".join(f"{key}\n" for key in labels), encoding="utf-8")
        made.list.with_name("train.txt").write_text(f"{extra}\n", encoding="utf-8")
    return made


def _keys(name: str) -> Iterator[str]:
    """Names of pictures, as the set has them, ascending."""
    for number in range(33, 10**6, 9):
        if name.startswith("voc"):
            yield f"2007_{number:06d}"
        elif name.startswith("context"):
            yield f"2008_{number:06d}"
        elif name.startswith("coco"):
            yield f"{number:012d}"
        elif name == "ade20k":
            yield f"ADE_val_{number:08d}"
        else:
            city = "frankfurt" if number < 50 else "lindau"
            yield f"{city}/{city}_000000_{number:06d}"


def _scenes(name: str, pictures: int, things: dict[str, int]) -> Iterator[Scene]:
    """The first scenes whose things find classes of their own, which are put into things: the last class, the first, the last but one …"""
    every = len(CLASSES[name])
    least = int(CLASSES[name][0] == "background")
    ends = [label for pair in zip(range(every - 1, -1, -1), range(least, every), strict=False) for label in pair]
    free = [*dict.fromkeys(label for label in ends if label >= least)]
    count = 0
    for scene in quality_set():
        fresh = [thing for thing in scene.things if thing not in things]
        if count == pictures:
            return
        if len(things) + len(fresh) <= len(free):
            for thing in fresh:
                things[thing] = free[len(things)]
            count += 1
            yield scene
    if count < pictures:
        raise ValueError(f"{name} has classes for {count} scenes, not for {pictures}")


def _numbers(name: str, scene: Scene, things: dict[str, int]) -> NDArray[np.uint8]:
    """A mask as evaluations read it."""
    nothing = 255 if name in ("coco-stuff", "cityscapes") else 0
    numbers = np.full(scene.masks.shape[1:], nothing, np.uint8)
    for thing, mask in zip(scene.things, scene.masks, strict=True):
        numbers[mask] = things[thing] + (name in _REDUCED)
    if name.startswith("voc"):
        numbers[_borders(numbers)] = 255
    return numbers


def _borders(numbers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels beside one of another number."""
    found = np.zeros(numbers.shape, np.bool_)
    for axis in (0, 1):
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(1, None), slice(None, -1)
        change = numbers[tuple(first)] != numbers[tuple(second)]
        found[tuple(first)] |= change
        found[tuple(second)] |= change
    return found


def _write_picture(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def _masks(name: str, numbers: NDArray[np.uint8], raw: bool) -> dict[str, Image.Image]:
    """The masks of a picture, by the end of their file names behind the picture's name."""
    found = {}
    if not (raw and name in ("coco-object", "coco-stuff", "cityscapes")):
        found[_LAYOUTS[name][3]] = Image.fromarray(numbers)
    if name == "coco-stuff":
        found[".png"] = Image.fromarray(_table([each - 1 for each in STUFF_IDS])[numbers])
    elif name == "coco-object":
        ids = _table([255, *(each - 1 for each in COCO_IDS)])[numbers]
        # what is no thing is stuff, and at the left has no label at all
        ids[:, 5:][numbers[:, 5:] == 0] = 123
        found[".png"] = Image.fromarray(ids)
    elif name == "cityscapes":
        # 4 is static, no label of the evaluation
        found["_gtFine_labelIds.png"] = Image.fromarray(np.where(numbers == 255, 4, _table(CITYSCAPES_IDS)[numbers]).astype(np.uint8))
        found["_gtFine_color.png"] = Image.new("RGBA", numbers.shape[::-1])
    elif name.startswith("voc"):
        found[".png"].putpalette([part for number in range(256) for part in VOC_PALETTE.get(number, (number, number, 1))])
    return found


def _table(numbers: list[int]) -> NDArray[np.uint8]:
    return np.array(numbers + [255] * (256 - len(numbers)), np.uint8)
