"""ImageNet-Segmentation: `gtsegs_ijcv.mat`, pictures of ImageNet with the pixels of their class, as one MATLAB 7.3 file (HDF5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.evaluation.samples import Item, Question, Sample, SampleError
from fastloc.evaluation.sets import files
from fastloc.imaging.picture_files import MAX_PIXELS
from fastloc.utils import schema
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["LAYOUT", "OPTIONS", "ImageNetSegmentation"]

FILE, NAMES = "gtsegs_ijcv.mat", "names.txt"
LAYOUT = (
    f"{FILE}    /value/img, /value/gt, /value/id and /value/target, [N, 1] references; 4276 pictures of 445 classes",
    "names.txt          not needed: a line \"n01440764 tench, Tinca tinca\" a class; without it WordNet's first name of each, of timm",
)  # fmt: skip
OPTIONS = {
    "file": f"the MATLAB file (default: {FILE})",
    "names": "file of the classes' names (default: names.txt, where it is)",
}  # fmt: skip
_SYNSET = re.compile(r"n\d{8}")
# characters of an id such as n02114367_12345
_ID = 256


class ImageNetSegmentation:
    """Data set of one question a picture: its class, with the pixels of the object, as in Guillaumin, Kuettel and Ferrari (IJCV 2014).

    Fields are read as in hila-chefer/Transformer-Explainability@c3e578f data/Imagenet.py:55-66: img transposed (2, 1, 0), the first of gt's
    masks transposed (1, 0). The class is the synset in /value/target, or where that is none the one that /value/id begins with, such as
    n02114367_12345. A picture's key is its id.
    """

    task = "questions"
    background = False

    def __init__(self, name: str, root: Path, *, file: str = FILE, names: str = "") -> None:
        """Raises FastlocError: the file is missing or of another form, or a class has no name."""
        self.name, self.file = name, root / file
        self.names_file = root / (names or NAMES)
        needed = [(self.names_file, "the names of the classes")] if names else []
        files.require((self.file, "the MATLAB file of pictures and masks"), *needed)
        with _opened(self.file) as content:
            self._rows = _rows(content, self.file)
        synsets = sorted({synset for _, synset in self._rows})
        self._label = {synset: label for label, synset in enumerate(synsets)}
        self.classes = self._named(synsets)

    def items(self) -> Sequence[Item]:
        """All pictures in the file's order."""
        return [Item(key, index, self._label[synset]) for index, (key, synset) in enumerate(self._rows)]

    def read(self, item: Item) -> Sample:
        """One picture and its question. Raises SampleError."""
        name = f"{self.file}: picture {item.key}"
        try:
            with _opened(self.file) as content:
                pixels = _array(content, content["/value/img"][item.picture, 0], 3, name).transpose(2, 1, 0)
                masks = content[content["/value/gt"][item.picture, 0]]
                mask = _array(content, masks[0, 0], 2, name).T
        except SampleError:
            raise
        # h5py raises whatever a damaged file makes it raise
        except Exception as error:
            pass_on(error)
            raise SampleError(f"{name} cannot be read: {schema.first_line(error)}") from error
        if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
            raise SampleError(f"{name} must have pixels of three bytes, got {pixels.shape[2]} of {pixels.dtype}")
        if mask.shape != pixels.shape[:2]:
            height, width = pixels.shape[:2]
            raise SampleError(f"{name} must have a mask of its {height} x {width}, got {mask.shape[0]} x {mask.shape[1]}")
        if wrong := np.setdiff1d(mask, (0, 1)).tolist():
            raise SampleError(f"{name} must have a mask of 0 and 1, got {schema.shown(wrong[0])}")
        question = Question(self.classes[item.truth], item.truth, np.ascontiguousarray(mask).astype(np.bool_))
        return Sample(item.key, Image.fromarray(np.ascontiguousarray(pixels)), questions=(question,))

    def missing(self) -> list[str]:
        """An empty list: the one file holds everything."""
        return []

    def _named(self, synsets: Sequence[str]) -> tuple[str, ...]:
        source, found = (self.names_file, _listed_names(self.names_file)) if self.names_file.exists() else ("timm", _wordnet_names())
        if without := [synset for synset in synsets if synset not in found]:
            raise FastlocError(
                f"{source} must have names of all {len(synsets)} classes, got none of {without[0]} and {len(without) - 1} more; "
                f"put a line for each in {NAMES}"
            )
        return tuple(found[synset] for synset in synsets)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open file. Raises FastlocError."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FastlocError(f"{path} must be a MATLAB 7.3 file, got another or a damaged one; download it again") from error
    with file:
        yield file


def _rows(content: Any, path: Path) -> list[tuple[str, str]]:
    """(id, synset) of each picture. Raises FastlocError."""
    try:
        fields = {field: content[f"/value/{field}"] for field in ("img", "gt", "id")}
        shapes = {field: found.shape for field, found in fields.items()}
        count = shapes["img"][0]
        if len(set(shapes.values())) > 1 or shapes["img"] != (count, 1) or not count:
            raise FastlocError(f"{path} must have as many of img, gt and id, each [N, 1], got {shapes}")
        ids = [_text(content, reference) for reference in fields["id"][:, 0]]
        targets = [_text(content, reference) for reference in content["/value/target"][:, 0]] if "/value/target" in content else ids
    except FastlocError:
        raise
    # h5py raises whatever a damaged file makes it raise
    except Exception as error:
        pass_on(error)
        reason = schema.first_line(error)
        raise FastlocError(f"{path} must have /value/img, /value/gt and /value/id ({reason}); download it again") from error
    if len(targets) != count or len(set(ids)) < count:
        raise FastlocError(f"{path} must have one target and an id of its own for each of {count} pictures, got {len(targets)} targets")
    return [(key, _synset(path, key, target)) for key, target in zip(ids, targets, strict=True)]


def _synset(path: Path, key: str, target: str) -> str:
    schema.one_line(f"an id in {path}", key)
    found = _SYNSET.match(target) or _SYNSET.match(key)
    if found is None:
        raise FastlocError(f"{path}: picture {schema.shown(key)} must be of a class such as n01440764, got {schema.shown(target)}")
    return found[0]


def _text(content: Any, reference: Any) -> str:
    """A MATLAB text: numbers of UTF-16."""
    characters = content[reference]
    if characters.size > _ID:
        raise ValueError(f"a text of {characters.size} characters")
    return np.asarray(characters).astype("<u2").tobytes().decode("utf-16-le").strip()


def _array(content: Any, reference: Any, dimensions: int, name: str) -> NDArray[Any]:
    """An array of bounded size. Raises SampleError."""
    found = content[reference]
    if len(found.shape) != dimensions or not 0 < found.size <= 3 * MAX_PIXELS:
        raise SampleError(f"{name} must have {dimensions} dimensions and at most {MAX_PIXELS:,} pixels, got {found.shape}")
    return np.asarray(found)


def _listed_names(path: Path) -> dict[str, str]:
    """Synset -> the first name of its line. Raises FastlocError."""
    found = {}
    for number, line in enumerate(files.text_lines(path), 1):
        synset, _, names = line.replace("\t", " ").partition(" ")
        name = names.partition(",")[0].strip()
        if not _SYNSET.fullmatch(synset) or not name:
            raise FastlocError(f"{path}: line {number} must be such as \"n01440764 tench, Tinca tinca\", got {schema.shown(line)}")
        schema.one_line(f"{path}: name of {synset}", name)
        found[synset] = name
    return found


def _wordnet_names() -> dict[str, str]:
    """Synset -> WordNet's first name, of timm's list of ImageNet's 21,843 classes."""
    from timm.data.imagenet_info import ImageNetInfo

    described: Any = ImageNetInfo("imagenet-21k-goog").label_descriptions(as_dict=True)
    return {synset: names.partition(",")[0].strip() for synset, names in described.items()}
