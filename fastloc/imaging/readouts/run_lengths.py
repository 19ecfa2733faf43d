"""COCO's run lengths of a mask, in its compressed form: pycocotools decodes them, and encodes the mask to the same text."""

from __future__ import annotations

import numpy as np

from fastloc.imaging.readouts.runs import Ints, Runs

__all__ = ["compressed"]


def compressed(runs: Runs) -> str:
    """The `counts` of a mask: how many pixels are off, on, off, ... down its columns, one after the other."""
    height, width = runs.size
    columns = runs.columns()
    starts, ends = columns.line * height + columns.start, columns.line * height + columns.end
    # a run at a column's foot goes on at the head of the next
    apart = starts[1:] != ends[:-1]
    edges = np.stack([starts[np.concatenate((np.ones(min(len(starts), 1), np.bool_), apart))],
                      ends[np.concatenate((apart, np.ones(min(len(ends), 1), np.bool_)))]], 1).ravel()  # fmt: skip
    counts = np.diff(edges, prepend=0, append=height * width)
    return _text(counts if counts[-1] else counts[:-1])


def _text(counts: Ints) -> str:
    """Counts from the fourth on less the one before the last, in groups of five bits, the lowest first."""
    left = counts.copy()
    left[3:] -= counts[1:-2]
    going, groups, used = np.ones(len(left), np.bool_), [], []
    while going.any():
        group = left & 31
        left >>= 5
        # the sign is the last group's highest bit
        more = going & np.where(group & 16, left != -1, left != 0)
        groups.append(group + np.where(more, 80, 48))
        used.append(going)
        going = more
    characters: bytes = np.stack(groups, 1)[np.stack(used, 1)].astype(np.uint8).tobytes()
    return characters.decode("ascii")
