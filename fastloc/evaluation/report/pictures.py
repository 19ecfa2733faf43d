"""Panels of best and worst pictures: label maps in colours of classes, and masks, boxes, points and heat of questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fastloc.evaluation.report.content import Colour, Panel, Shown
from fastloc.evaluation.samples import IGNORE, Labels, Question, Sample
from fastloc.imaging.html_page import picture_bytes
from fastloc.imaging.overlay import colour_table, heat_tile

__all__ = ["class_colours", "fitting", "shown_labels", "shown_question"]

# long sides of a panel in pixels, tried in turn until all files together have at most so many bytes: as base64, 2 MB
SIDES, BYTES = (420, 320, 240, 160, 96, 48), 1_500_000
# distinct beside one another, and of similar strength
PALETTE: tuple[Colour, ...] = (
    (230, 97, 43), (42, 123, 201), (64, 160, 86), (240, 190, 50), (148, 92, 190), (60, 190, 196), (214, 72, 120), (150, 112, 78),
    (146, 186, 48), (108, 108, 224), (238, 146, 122), (30, 132, 128), (196, 130, 214), (186, 48, 48), (126, 188, 240), (122, 122, 46),
    (244, 132, 182), (96, 72, 140), (168, 214, 160), (208, 160, 96),
)  # fmt: skip
# of the picture under a label: grey, so that the colours speak
COVER, EDGE = 0.62, 0.45
_MASK, _MISS = (230, 97, 43), (42, 123, 201)


def class_colours(groups: Iterable[Iterable[int]], background: int | None = None) -> dict[int, Colour]:
    """A colour for every class, so that classes of one picture differ while there are colours for it; the background has none.

    groups: the classes of each picture.
    """
    sets = [{label for label in group if label not in (IGNORE, background)} for group in groups]
    found: dict[int, int] = {}
    for label in dict.fromkeys(label for group in sets for label in sorted(group)):
        beside = [found[other] for group in sets if label in group for other in group if other in found]
        used = list(found.values())
        found[label] = min(range(len(PALETTE)), key=lambda index: (beside.count(index), used.count(index), index))
    return {label: PALETTE[index] for label, index in found.items()}


def shown_labels(
    sample: Sample, predicted: Labels, value: float, best: bool, colours: Mapping[int, Colour], names: Sequence[str],
    notes: Sequence[str] = (),
) -> Shown:  # fmt: skip
    """The picture, its true labels and the predicted ones, int16 [H, W], in colours; classes without a colour stay grey."""
    assert sample.labels is not None
    picture = _smaller(sample.picture)
    panels = (
        Panel("picture", picture),
        Panel("truth", _coloured(picture, sample.labels, colours)),
        Panel("prediction", _coloured(picture, predicted, colours)),
    )
    present = np.union1d(np.unique(sample.labels), np.unique(predicted))
    legend = tuple((names[label], colours[label]) for label in present.tolist() if label in colours)
    return Shown(sample.key, value, best, panels, tuple(notes), legend)


def shown_question(
    sample: Sample, question: Question, heat: NDArray[np.float32], peak: tuple[int, int] | None, value: float, best: bool
) -> Shown:
    """The picture, the question's truth and its heatmap [H, W] of values in [0, 1]; the peak (x, y), a pixel, is ringed."""
    picture = _smaller(sample.picture)
    panels = (
        Panel("picture", picture),
        Panel("truth", _truth(picture, sample.picture.size, question)),
        Panel("prediction", heat_tile(picture, heat, peak, colour_table("turbo"))),
    )
    return Shown(sample.key, value, best, panels, (f"“{question.text}”",))


def fitting(pictures: Sequence[Image.Image]) -> list[tuple[bytes, tuple[int, int]]]:
    """Each picture's WebP and size (width, height), smaller where all together have more than BYTES."""
    files: list[tuple[bytes, tuple[int, int]]] = []
    for side in SIDES:
        sized = [_smaller(each, side) for each in pictures]
        files = [(picture_bytes(each, "WEBP"), each.size) for each in sized]
        if sum(len(content) for content, _ in files) <= BYTES:
            break
    return files


def _smaller(picture: Image.Image, side: int = SIDES[0]) -> Image.Image:
    scale = min(side / max(picture.size), 1)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _grey(picture: Image.Image) -> NDArray[np.float32]:
    return np.asarray(picture.convert("L").convert("RGB"), np.float32)


def _coloured(picture: Image.Image, labels: Labels, colours: Mapping[int, Colour]) -> Image.Image:
    """Labels over the picture: labels with a colour are tinted and bordered, the rest is grey; IGNORE keeps the picture's own colours."""
    # rows and columns nearest to the centres of the panel's pixels
    rows = (np.arange(picture.height) + 0.5) * labels.shape[0] // picture.height
    columns = (np.arange(picture.width) + 0.5) * labels.shape[1] // picture.width
    small = labels[rows.astype(int)[:, None], columns.astype(int)]
    made = _grey(picture)
    for label in np.unique(small).tolist():
        here = small == label
        if label == IGNORE:
            made[here] = np.asarray(picture, np.float32)[here]
        elif label in colours:
            made[here] = made[here] * (1 - COVER) + np.asarray(colours[label], np.float32) * COVER
    border = np.zeros(small.shape, bool)
    border[:, 1:] |= small[:, 1:] != small[:, :-1]
    border[1:] |= small[1:] != small[:-1]
    made[border] *= EDGE
    return Image.fromarray(np.rint(made).astype(np.uint8))


def _truth(picture: Image.Image, size: tuple[int, int], question: Question) -> Image.Image:
    """A question's mask, boxes and points over the grey picture; points that lie outside it are blue."""
    made = Image.fromarray(_grey(picture).astype(np.uint8))
    if question.mask is not None:
        labels = question.mask.astype(np.int16)
        if question.ignored is not None:
            labels[question.ignored] = IGNORE
        made = _coloured(picture, labels, {1: _MASK})
    draw, scale = ImageDraw.Draw(made), (picture.width / size[0], picture.height / size[1])
    for box in question.boxes:
        corners = [value * scale[index % 2] for index, value in enumerate(box)]
        draw.rectangle(corners, outline=_MASK, width=3)
    for x, y, inside in question.points:
        draw.circle((x * scale[0], y * scale[1]), 4, fill=_MASK if inside else _MISS, outline=(255, 255, 255), width=1)
    return made
