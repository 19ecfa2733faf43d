"""Masks of single objects, cut out of a text's mask, and the polygons around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mask", "counts", "of_boxes", "polygon"]

Mask = NDArray[np.bool_]
Sides = tuple[int, int, int, int]
# pixels that a polygon may lie beside the mask's edge
TOLERANCE = 0.75
# right, down, left and up: the step from a corner to the next, and from the corner to the pixels ahead of it, on the left and on the right
_STEPS = (
    ((1, 0), (0, -1), (0, 0)), ((0, 1), (0, 0), (-1, 0)), ((-1, 0), (-1, 0), (-1, -1)), ((0, -1), (-1, -1), (0, -1)),
)  # fmt: skip


def of_boxes(rle: str, height: int, width: int, boxes: Sequence[Sides]) -> list[Mask]:
    """The region of each box (x0, y0, x1, y1), bool [y1 - y0, x1 - x0].

    A box that is no connected region's has all of the mask within it.

    Args:
        rle: `counts` of COCO's compressed RLE of the mask of [height, width].
        boxes: within the picture.

    Raises:
        ValueError: the mask cannot be decoded, or has no pixel in a box.
    """
    from pycocotools import mask as coco
    from scipy import ndimage

    pixels = coco.decode({"size": [height, width], "counts": rle})
    # where run lengths end early, pixels hold whatever the memory did
    if coco.encode(pixels)["counts"] != rle.encode():
        raise ValueError(f"its run lengths do not fill {width} x {height}")
    whole = pixels.astype(np.bool_)
    # corners touch, as in fastloc.imaging.readouts.regions
    numbered, _ = ndimage.label(whole, np.ones((3, 3), np.int8))
    regions: dict[Sides, list[int]] = {}
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), 1):
        regions.setdefault((columns.start, rows.start, columns.stop, rows.stop), []).append(number)
    made = []
    for x0, y0, x1, y1 in boxes:
        part, numbers = (slice(y0, y1), slice(x0, x1)), regions.get((x0, y0, x1, y1))
        mask = numbered[part] == numbers.pop(0) if numbers else whole[part]
        if not mask.any():
            raise ValueError("it is empty within a box")
        made.append(mask)
    return made


def counts(mask: Mask, x0: int, y0: int, height: int, width: int) -> str:
    """`counts` of COCO's compressed RLE of a mask whose first pixel lies at (x0, y0) of a picture."""
    from pycocotools import mask as coco

    whole = np.zeros((height, width), np.uint8, order="F")
    whole[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] = mask
    written: bytes = coco.encode(whole)["counts"]
    return written.decode()


def polygon(mask: Mask) -> NDArray[np.int64]:
    """The outer edge of a connected mask, int64 [n, 2], n >= 3: corners (x, y) of pixels, clockwise, at most TOLERANCE beside the edge.

    Holes are filled: formats of one polygon an object have no place for them. Of several regions the one of the first pixel is taken.
    """
    ring = _corners(np.pad(mask, 1))
    kept = _simplified(ring)
    return kept if len(kept) > 2 else ring


def _corners(padded: Mask) -> NDArray[np.int64]:
    """The corners of the region of the first pixel, in the mask's pixels without its border."""
    rows: list[list[bool]] = padded.tolist()
    y, x = divmod(int(padded.argmax()), padded.shape[1])
    start, way, found = (x, y), 0, []
    while True:
        # the region lies to the right of the way; a pixel ahead on the left turns it left, also where it touches with a corner alone
        ahead, left, right = _STEPS[way]
        x, y = x + ahead[0], y + ahead[1]
        if rows[y + left[1]][x + left[0]]:
            way = (way - 1) % 4
        elif rows[y + right[1]][x + right[0]]:
            continue
        else:
            way = (way + 1) % 4
        found.append((x - 1, y - 1))
        if (x, y) == start and way == 0:
            return np.array(found, np.int64)


def _simplified(ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ring without the corners that lie close to the line of those kept (Ramer, Douglas and Peucker)."""
    line = np.concatenate([ring, ring[:1]])
    middle = int(np.square(ring - ring[0]).sum(1).argmax())
    kept, open_parts = {0, middle}, [(0, middle), (middle, len(ring))]
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        chord, between = line[last] - line[first], line[first + 1 : last] - line[first]
        share = np.clip(between @ chord / max(int(chord @ chord), 1), 0, 1)
        far = np.hypot(*(between - share[:, None] * chord).T)
        if far.max() > TOLERANCE:
            index = first + 1 + int(far.argmax())
            kept.add(index)
            open_parts += [(first, index), (index, last)]
    return ring[sorted(kept)]
