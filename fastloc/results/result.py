"""The result of one picture: the similarities, and everything that is computed from them."""

from __future__ import annotations

import io
import math
import os
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging import heat_arrays, refined_heatmaps
from fastloc.imaging import heatmaps as maps
from fastloc.imaging.readouts.labels import labels
from fastloc.imaging.readouts.outlines import outlines
from fastloc.imaging.readouts.reader import Reader
from fastloc.imaging.readouts.run_lengths import compressed
from fastloc.imaging.readouts.runs import Runs
from fastloc.results import sam_points
from fastloc.results.boxes import Box, Point, boxes_of
from fastloc.results.result_maps import ResultMaps
from fastloc.results.sam_points import SamPoints
from fastloc.utils.atomic_write import picture_format, write_whole

__all__ = ["Box", "Point", "Result", "SamPoints"]

# the share of the picture below which a patch of heat is a speck, not a box
SPECK = 0.001


class Result(ResultMaps):
    """One picture, T texts.

    Attributes:
        picture: the RGB picture as it was read, upright
        texts: the T prompts
        similarity: float32 [T, h, w], one score a patch: cosine, or the method's own score
        geometry: where the patches lie on the picture
        order, logit_scale, reverse: how heatmaps are read out of the similarity: see `fastloc.imaging.heatmaps.heatmaps`
        method, model: names, for the record
        name: the picture's path, or ""
        scores: float32 [T] within [0, 1], the presence of each text in the picture (see `fastloc.recipes.presence`; of a classifier the
            class's probability), or None; `no_scores` then says why
        image_scores: float32 [T], cosine of each text with the picture's own embedding, or None where there is none
        refinement: the refinement of heatmaps and labels by the picture's colours, or None: see `refined`
        limits: float32 [T, 2], the similarities at which heat is 0 and 1 in place of each map's own lowest and highest, or None. Maps of
            several pictures can then be compared, and a video's do not flicker; only for the orders "grid" and "picture".

    Raises TextError without texts, FastlocError where shapes disagree or the similarity holds NaN or infinite values.
    """

    @cached_property
    def _reader(self) -> Reader:
        """Reader of peaks, regions and masks; without heatmaps where there is no refinement."""
        return Reader.of_heat(self._heat) if self.refinement is None else Reader.of_maps(self.heatmaps, self.geometry)

    def points(self, threshold: float | None = None, *, score: float | None = None) -> list[Point]:
        """The peak of each text, in the texts' order; texts whose peak lies below the threshold, and those whose score lies below `score`
        (0.5: more likely there than not), are left out. Raises FastlocError for a score where there are none.

        One point is a weak prompt for SAM. `sam_points` gives points on and beside each object, which transformers' SAM takes as
        image > object > point > (x, y):

            prompt = result.sam_points()[0]
            processor = SamProcessor.from_pretrained("facebook/sam-vit-base")
            inputs = processor(
                result.picture,
                input_points=[[prompt.coordinates.tolist()]],
                input_labels=[[prompt.labels.tolist()]],
                return_tensors="pt",
            )
            outputs = SamModel.from_pretrained("facebook/sam-vit-base")(**inputs)
            sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
            # bool [1, 3, H, W]; CLIP Surgery keeps the one of the highest outputs.iou_scores
            masks = processor.image_processor.post_process_masks(outputs.pred_masks, *sizes)[0]
        """
        there = zip(self._peaks, self._there(score), strict=True)
        least = -math.inf if threshold is None else _number("threshold", threshold)
        return [peak for peak, is_there in there if is_there and peak.value >= least]

    def _there(self, score: float | None) -> list[bool]:
        """True for each text whose score reaches `score`; for every text where `score` is None."""
        if score is None:
            return [True] * len(self.texts)
        if self.scores is None:
            raise FastlocError(f"score must be left out without scores, got {score!r}; {self.no_scores or 'the method gives none'}")
        least = _number("score", score)
        return [bool(each >= least) for each in self.scores]

    def sam_points(self, threshold: float = 0.8, down_sample: int = 2, together: bool = False) -> list[SamPoints]:
        """Point prompts for SAM by CLIP Surgery's rule, one for each text in the texts' order; see `fastloc.results.sam_points`.

        Read off the similarity, whatever the order of the read-out; of a reversed method off its opposite. together: one prompt for all
        texts as parts of one object, the official demo's "person+bench". Raises FastlocError for values out of range.
        """
        scores = -self.similarity if self.reverse else self.similarity
        if together:
            return [sam_points.together(self.texts, scores, self.geometry, threshold, down_sample)]
        pairs = zip(self.texts, scores, strict=True)
        return [sam_points.sam_points(text, score, self.geometry, threshold, down_sample) for text, score in pairs]

    @cached_property
    def _peaks(self) -> tuple[Point, ...]:
        found = []
        surface = maps.surface(self.similarity.astype(np.float64), self.geometry, self.order)
        for index, (y, x, value) in enumerate(self._reader.peaks()):
            similarity = surface.at(index, y, x)
            found.append(Point(self.texts[index], x, y, value, similarity))
        return tuple(found)

    def masks(self, threshold: float = 0.5) -> NDArray[np.bool_]:
        """bool [T, H, W]: where the heatmap reaches the threshold. Never true where a crop hid the picture from the model."""
        return self._reader.masks(_number("threshold", threshold))

    def rle(self, threshold: float = 0.5) -> list[dict[str, Any]]:
        """The masks in COCO's compressed run lengths, one for each text: {"size": [H, W], "counts": str}, which
        `pycocotools.mask.decode` takes. Ready for JSON."""
        size = list(self.geometry.picture)
        return [{"size": size, "counts": compressed(runs)} for runs in self._runs(threshold)]

    def polygons(self, threshold: float = 0.5) -> list[list[NDArray[np.int32]]]:
        """The outlines of the masks, for each text its polygons, int32 [n, 2] of (x, y).

        Corners are corners of pixels: one pixel at (0, 0) is (0, 0), (1, 0), (1, 1), (0, 1). Clockwise around a region and the other way
        around a hole, which is a polygon of its own. COCO's "segmentation" is `[each.ravel().tolist() for each in polygons]`, and has no
        holes.
        """
        return [outlines(runs) for runs in self._runs(threshold)]

    def _runs(self, threshold: float) -> list[Runs]:
        found = self._reader.runs(_number("threshold", threshold))
        return [found[place] for place in self._reader.index]

    def boxes(self, threshold: float = 0.5, min_area: int | None = None, *, score: float | None = None) -> list[Box]:
        """Boxes around the connected regions of each text's mask: texts in order, of each the region with the peak first, then by value.

        Regions of fewer than min_area pixels (default: a thousandth of the picture) are left out, except the one that holds the peak.
        A text whose peak does not reach the threshold has no box, and neither has one whose score does not reach `score`, if that is
        given: every map has a hottest place, and a text that is not in the picture has one too. Raises FastlocError for a score where
        there are none.
        """
        return [box for boxes in self._boxes_by_text(threshold, min_area, score) for box in boxes]

    def _boxes_by_text(self, threshold: float, min_area: int | None = None, score: float | None = None) -> list[list[Box]]:
        least = SPECK * math.prod(self.geometry.picture) if min_area is None else _number("min_area", min_area)
        least_heat = _number("threshold", threshold)
        peaks, there = self._peaks, self._there(score)
        found: list[list[Box]] = [[] for _ in self.texts]
        for place, runs in enumerate(self._reader.runs(least_heat)):
            for index, each in enumerate(self._reader.index):
                if each == place and there[index]:
                    found[index] = boxes_of(peaks[index], runs, least)
        return found

    def labels(self, threshold: float | None = None) -> NDArray[np.int32]:
        """int32 [H, W]: the index of the most similar text, -1 where a crop hid the picture.

        With a threshold also -1 where the heatmap of that text is below it.
        """
        refined = self._refined
        least = None if threshold is None else _number("threshold", threshold)
        # through the model's input labels are read pixel by pixel, and so is their heat
        turning = None if least is None or maps.through_input(self.order) else self._reader.turning(least)
        if refined is None:
            chosen = labels(-self.similarity if self.reverse else self.similarity, self.geometry, self.order, turning)
        else:
            chosen = refined_heatmaps.labels(refined, self.geometry, self.reverse)
        if least is not None and turning is None:
            self._reader.cool(chosen, least)
        return chosen

    def overlay(self, alpha: float = 0.5, colormap: str = "turbo") -> Image.Image:
        """A sheet of tiles to look at: the picture, then each text's heat over it with its peak ringed. See
        `fastloc.imaging.overlay.render`.
        """
        from fastloc.imaging.overlay import render, tile_size

        # raw similarities have no common 0 and 1: each map is stretched, which the legend names
        raw = self.order == "none"
        shown = self._looked_at(tile_size(self.geometry.picture, len(self.texts)))
        peaks = [(peak.x, peak.y) if heat.any() else None for peak, heat in zip(self._peaks, shown, strict=True)]
        note = " on ".join(filter(None, (self.method, self.model))) + (", refined" if self.refinement else "")
        return render(self.picture, self.texts, shown, peaks, alpha, colormap, ends=("low", "high") if raw else ("0", "1"), note=note)

    def _looked_at(self, size: tuple[int, int]) -> NDArray[Any]:
        """Heat [T, h, w] for eyes, at this size where it need not be made at the picture's; raw similarities are stretched."""
        if self.refinement is not None:
            return maps.minmax(self.heatmaps) if self.order == "none" else self.heatmaps
        heat = heat_arrays.stretched(self._heat) if self.order == "none" else self._heat
        return heat_arrays.array_of(heat_arrays.heat_at(heat, size), np.dtype(np.uint8), slice(0, size[0]), slice(0, size[1]))

    def save(self, path: str | os.PathLike[str], alpha: float = 0.5, colormap: str = "turbo") -> Path:
        """Write the overlay atomically, in the format of the path's extension. Returns the path.

        Raises FastlocError for an extension that Pillow cannot write and for a folder that is not there.
        """
        from fastloc.imaging.overlay import write

        target, kind = Path(path), picture_format(Path(path))
        sheet = self.overlay(alpha, colormap)
        return write_whole(target, lambda file: write(sheet, file, kind))

    def _repr_png_(self) -> bytes:
        """The overlay as a PNG file, for notebooks that show no HTML."""
        from fastloc.imaging.overlay import write

        file = io.BytesIO()
        write(self.overlay(), file, "PNG")
        return file.getvalue()

    def _repr_html_(self) -> str:
        """The overlay, and a table of each text's score and peak, for notebooks."""
        from fastloc.imaging.html_page import picture_bytes, picture_element, table

        sheet = self.overlay()
        scores = [""] * len(self.texts) if self.scores is None else [f"{score:.2f}" for score in self.scores]
        pairs = zip(self._peaks, scores, strict=True)
        rows = [(peak.text, score, str(peak.x), str(peak.y), f"{peak.similarity:.3f}") for peak, score in pairs]
        picture = picture_element(picture_bytes(sheet, "WEBP"), sheet.size, repr(self), "WEBP")
        return picture + table(("text", "score", "x", "y", "similarity"), rows)

    def to_npz(self, path: str | os.PathLike[str]) -> Path:
        """Write similarity, heatmaps, texts, scores and image_scores (where there are any) and the geometry as a compressed .npz,
        atomically."""
        target = Path(path)
        if target.suffix.lower() != ".npz":
            raise FastlocError(f"{target}: the extension must be .npz, got {target.suffix or 'none'!r}")
        arrays: dict[str, Any] = {
            "similarity": self.similarity,
            "heatmaps": self.heatmaps,
            "texts": np.array(self.texts),
            **{key: np.array(value) for key, value in asdict(self.geometry).items()},
        }
        arrays |= {name: values for name in ("scores", "image_scores") if (values := getattr(self, name)) is not None}
        return write_whole(target, lambda file: np.savez_compressed(file, **arrays))

    def to_dict(self, threshold: float = 0.5, *, score: float | None = None) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for JSON: sizes, method, model, and of each text its score, peak and boxes, which are
        those of `boxes(threshold, score=score)`."""
        (height, width), (h, w) = self.geometry.picture, self.geometry.input
        boxes = self._boxes_by_text(threshold, score=score)
        return {
            "name": self.name,
            "picture": {"height": height, "width": width},
            "input": {"height": h, "width": w, "fit": self.geometry.fit},
            "grid": {"height": self.similarity.shape[1], "width": self.similarity.shape[2]},
            "method": self.method,
            "model": self.model,
            "readout": {"order": self.order, "logit_scale": self.logit_scale, "reverse": self.reverse},
            "limits": None if self.limits is None else self.limits.tolist(),
            "refinement": None if self.refinement is None else {"method": self.refinement.method, **asdict(self.refinement)},
            "threshold": float(threshold),
            "min_score": None if score is None else float(score),
            "no_scores": self.no_scores or None,
            "texts": [
                {
                    "text": peak.text,
                    "flat": self.flat[index],
                    "score": None if self.scores is None else float(self.scores[index]),
                    "image_score": None if self.image_scores is None else float(self.image_scores[index]),
                    "peak": _without_text(peak),
                    "boxes": [_without_text(box) for box in boxes[index]],
                }
                for index, peak in enumerate(self._peaks)
            ],
        }


def _without_text(item: Point | Box) -> dict[str, Any]:
    return {key: value for key, value in asdict(item).items() if key != "text"}


def _number(name: str, value: float) -> float:
    """The value as a finite float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise FastlocError(f"{name} must be a finite number, got {value!r}")
    return number
