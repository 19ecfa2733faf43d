"""Tables from numbers in the masks of label sets to labels: one for each form in which masks are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastloc.evaluation.samples import IGNORE, Labels, SampleError
from fastloc.evaluation.sets import files

__all__ = ["cityscapes_ids", "counted", "objects_of_labels", "objects_of_stuff_ids", "read", "reduced", "stuff_ids", "voc_colours"]

# ids of COCO-Stuff from 0 on, in the order of its 171 labels; the others were taken out of COCO (nightrome/cocostuff labels.txt, less one)
_STUFF_IDS = tuple(sorted(set(range(182)) - {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}))
# ids of Cityscapes in the order of its 19 labels (mcordts/cityscapesScripts helpers/labels.py)
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITYSCAPES_MOST = 33
# things have ids below it, stuff above
_THINGS = 91
_IGNORED, _VALUES = 255, 256
# in a table: no mask of the set holds this number; what stands behind the numbers of 8 bits is for all others
_UNKNOWN = -2


def counted(classes: int) -> Labels:
    """Numbers are labels; 255 is ignored. Like every table: int16 [257]."""
    return _ranked(range(classes))


def reduced(classes: int) -> Labels:
    """Number 1 is label 0; 0 and 255 are ignored (mmsegmentation's reduce_zero_label)."""
    return _ranked(range(1, classes + 1), ignored=(0,))


def stuff_ids() -> Labels:
    """COCO-Stuff's ids, 0 to 181, of which 171 are labels; 255 is ignored."""
    return _ranked(_STUFF_IDS)


def cityscapes_ids() -> Labels:
    """Cityscapes' ids, 0 to 33; those that are none of the 19 labels are ignored."""
    return _ranked(_CITYSCAPES_IDS, ignored=range(_CITYSCAPES_MOST + 1))


def objects_of_stuff_ids() -> Labels:
    """COCO-Object's labels of COCO-Stuff's ids: a thing is 1 and more, all else is 0; pixels without a label are 0 too, and thus counted
    (wangf3014/SCLIP@b56bd30 datasets/cvt_coco_object.py)."""
    return _objects(_STUFF_IDS)


def objects_of_labels() -> Labels:
    """COCO-Object's labels of COCO-Stuff's labels, 0 to 170."""
    return _objects(range(len(_STUFF_IDS)))


def _ranked(ids: Sequence[int], ignored: Iterable[int] = ()) -> Labels:
    """Label i is stored as ids[i]; 255 and `ignored` are ignored."""
    table = np.full(_VALUES + 1, _UNKNOWN, np.int16)
    table[[*ignored, _IGNORED]] = IGNORE
    table[list(ids)] = np.arange(len(ids))
    return table


def _objects(stored: Sequence[int]) -> Labels:
    table = np.full(_VALUES + 1, _UNKNOWN, np.int16)
    table[_IGNORED] = 0
    table[list(stored)] = [label + 1 if number < _THINGS else 0 for label, number in enumerate(_STUFF_IDS)]
    return table


def read(path: Path, size: tuple[int, int], table: Labels, colours: Mapping[files.Colour, int] | None = None) -> Labels:
    """Labels, int16 [H, W], of a mask: a palette's indices, or grey levels of 8 or 16 bits.

    Args:
        size: the picture's (width, height).
        table: number -> label, int16 [257].
        colours: of a palette, see `fastloc.evaluation.sets.files.index_mask`.

    Raises SampleError: the file cannot be read, has colours or lossy pixels, another size, a renumbered palette, or a number that no mask
    of the set holds.
    """
    numbers = files.index_mask(path, size, colours)
    # what is out of the table's range falls upon its last place, as -1 does
    labels = table[np.clip(numbers, -1, _VALUES)]
    if (unknown := labels == _UNKNOWN).any():
        value = int(numbers[unknown][0])
        raise SampleError(
            f"mask {path} must hold {_listed(np.flatnonzero(table != _UNKNOWN))}, got {value} in {np.count_nonzero(numbers == value):,} of "
            f"{numbers.size:,} pixels; take the set's own mask"
        )
    return labels


def voc_colours() -> dict[files.Colour, int]:
    """The colours of PASCAL VOC's palette: bits of the number, from the lowest on, are the highest bits of red, green and blue in turn."""
    return {_voc_colour(number): number for number in (*range(21), _IGNORED)}


def _voc_colour(number: int) -> files.Colour:
    red, green, blue = (sum((number >> 3 * place + channel & 1) << 7 - place for place in range(3)) for channel in range(3))
    return red, green, blue


def _listed(numbers: NDArray[np.intp]) -> str:
    """Numbers as text, "0 to 20 or 255"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
