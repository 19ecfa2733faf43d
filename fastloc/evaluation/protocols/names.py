"""The class names that papers evaluate with: lists of their repositories, as facts in `class_names/`.

A class may have several names; its score is that of its best one. A name that occurs twice counts twice in a softmax over names, and is
kept: in SCLIP's list for COCO-Object "bed" is a word of the background and a class, which ties with it and so never wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastloc.errors import FastlocError, unknown
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.samples import DataSet
from fastloc.utils import schema

__all__ = ["NAMES", "Names", "class_names", "names_of", "source"]

Names = tuple[tuple[str, ...], ...]

_FOLDER = Path(__file__).with_name("class_names")
# what separates the names of a class in a set's own list
_SEPARATOR = ", "
_BACKGROUND = ("background",)
# key -> whose lists they are; "plain" are those of the set itself
NAMES = {
    "plain": "the set's own names",
    "sclip": "SCLIP's, which NACLIP, ResCLIP, SC-CLIP and PEARL keep",
    "sfp": "SCLIP's with person for people",
    "clearclip": "one name a class, and the word background",
    "proxyclip": "ProxyCLIP's, with background words and few synonyms",
    "itaclip": "ITACLIP's, without its generated texts",
    "cliper": "CLIPer's: one text a class, and background words that no class of the truth stands for",
    "maskclip": "MaskCLIP's, one name a class",
    "cliptrase": "CLIPtrase's, with background words",
    "tagclip": "TagCLIP's, with CLIP-ES's background words",
}


@dataclass(frozen=True)
class _File:
    source: str
    otherwise: str
    sets: Mapping[str, Names]


def class_names(key: str, data: str) -> Names:
    """The names of each class of a set, in the order of its labels. Blanks around a name are dropped: they are no tokens.

    The lists "cliper" have one class more, the background's, ahead of the others of a set without a background: predicted, it is no class.

    Raises:
        FastlocError: an unknown key, or a paper that has no list of this set.
    """
    file = _read(key)
    if data in file.sets:
        return file.sets[data]
    if file.otherwise:
        return class_names(file.otherwise, data)
    raise FastlocError(f"names {key!r} must be of a paper with a list for the set, got {data!r}; {key} has {', '.join(sorted(file.sets))}")


def names_of(protocol: Protocol, dataset: DataSet) -> Names:
    """The names that a protocol asks for on a set: the paper's, or where names is "plain" the set's own: its `names`, or its classes split
    at ", ".

    With the rule "cliper" there is one class more, the background's, ahead of the others of a set without a background.

    Raises:
        FastlocError: as `class_names`, and names that are not those of the set's classes.
    """
    ahead = protocol.rule == "cliper" and not dataset.background
    if protocol.names == "plain":
        own: Names = getattr(dataset, "names", None) or tuple(tuple(each.split(_SEPARATOR)) for each in dataset.classes)
        return (_BACKGROUND, *own) if ahead else own
    names = class_names(protocol.names, protocol.data)
    expected = len(dataset.classes) + ahead
    if len(names) != expected:
        rule = f"have a line for each of the {expected} classes of {dataset.name}"
        raise FastlocError(f"names {protocol.names!r} must {rule}, got {len(names)}; use names=plain")
    return names


def source(key: str) -> str:
    """Repository, commit and files of a key's lists; "" of "plain". Raises FastlocError for an unknown key."""
    return "" if key == "plain" else _read(key).source


@cache
def _read(key: str) -> _File:
    if key == "plain" or key not in NAMES:
        raise FastlocError(unknown("name list", key, NAMES))
    path = _FOLDER / f"{key}.json"
    return schema.decode(path.read_bytes(), _File, f"{path.name} is damaged")
