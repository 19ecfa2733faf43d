"""The protocol of one paper on one data set, as fields."""

from __future__ import annotations

from dataclasses import dataclass

from fastloc.errors import FastlocError
from fastloc.imaging import refined_heatmaps
from fastloc.utils.schema import count, number, one_line, one_of

__all__ = ["ABSENT", "ASKED", "CUTS", "ODD", "REFINEMENTS", "RESIZES", "RULES", "TASKS", "VIEWS", "Protocol"]

TASKS = ("labels", "questions")
RESIZES = ("mmcv", "fit", "whole-patches", "square", "centre")
ODD = ("floor", "pad")
REFINEMENTS = ("", *refined_heatmaps.REFINEMENTS)
RULES = ("softmax", "cliper")
VIEWS = ("", "itaclip")
CUTS = ("", "squares")
ABSENT = ("left out", "truth")
ASKED = ("all", "present")
# pixels of a side, and cosines are within [-1, 1] times this
_SIDE, _SCALE = 1 << 14, 1e4


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The evaluation of one paper on one data set.

    paper, data: the names of the row; source: file and commit in the authors' repository, "" where there is none.
    task: "labels", one label a pixel by argmax over texts; "questions", one map a text.
    resize: the resize of a picture for the model. "mmcv", factor min(long_side / long, short_side / short), OpenCV's bilinear on bytes;
        "fit", the localizer's own size and fit; "whole-patches", the short side to short_side and both sides to the nearest multiple of
        the patch, halves up, Pillow's bicubic (CLIPer); "square", short_side x short_side, the shape not kept, Pillow's bicubic;
        "centre", the short side to short_side and its middle square, Pillow's bicubic, and the truth likewise by its nearest pixels
        (CLIPtrase).
    short_side, long_side: in pixels, for all but "fit"; long_side for "mmcv" alone.
    crop, stride: of windows in pixels; crop 0: no windows.
    odd: sides that the patch does not divide, "floor" (the remainder is not seen, maps are stretched over it) or "pad" (zeros).
    names: key of the class names, see `fastloc.evaluation.protocols.names`; "plain": the set's own.
    template: see `fastloc.text.templates`; "": the method's own.
    logit_scale: the factor of similarities before the softmax over names; None: the subject's own.
    probability: below it the most probable class gives way to class 0. area: of the pixels outside class 0 the share that a class must
        exceed, or it is dropped; None: off.
    refinement: "" or a row of `fastloc.results.result.Result.refined`'s steps, with settings.
    method_settings: fields of `fastloc.recipes.Recipe` that the paper sets on this data set, for its own method alone.
    rule: the step from maps to labels: "softmax" (the mmseg family) or "cliper".
    closing: side in pixels of the square of a morphological closing of labels; 0: none (ITACLIP).
    views: other views of a window that are averaged, or none: "" or "itaclip". view_weight: the share of the window and its views in gray
        and blurred; the rest is that of its two mirror images.
    cut: "squares": the resized picture is cut into squares of its short side, each judged alone (CLIPer on Cityscapes); "": not.
    thresholds: (score, background, attention) of the rule "cliper". normalized: its maps are min-maxed before the background's.
    absent: classes that are neither true nor predicted "left out"; "truth": those that are not true are left out too (CLIPer's metric).
    asked: for "questions": texts of the "present" classes or of "all" are given together.
    threshold: of a min-maxed map, from which on a pixel is inside; "mean": the map's own mean, which it must exceed.
    truth_side: side of the square that maps and masks are measured at, masks by their nearest pixels; 0: the picture's own size.
    note: omissions of the row, or its source where the paper has no code.

    Raises FastlocError for a value that is none of these, in one line.
    """

    paper: str
    data: str
    source: str
    task: str = "labels"
    resize: str = "mmcv"
    short_side: int = 336
    long_side: int = 2048
    crop: int = 224
    stride: int = 112
    odd: str = "floor"
    names: str = "sclip"
    template: str = "openai80"
    logit_scale: float | None = 40.0
    probability: float = 0.0
    area: float | None = None
    refinement: str = ""
    refinement_settings: tuple[tuple[str, object], ...] = ()
    method_settings: tuple[tuple[str, object], ...] = ()
    rule: str = "softmax"
    closing: int = 0
    views: str = ""
    view_weight: float = 0.75
    cut: str = ""
    thresholds: tuple[float, ...] = ()
    normalized: bool = False
    absent: str = "left out"
    asked: str = "all"
    threshold: float | str = 0.5
    truth_side: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        # JSON has lists
        settings = ((name, tuple(value) if isinstance(value, list) else value) for name, value in self.refinement_settings)
        object.__setattr__(self, "refinement_settings", tuple(settings))
        known = {"task": TASKS, "resize": RESIZES, "odd": ODD, "refinement": REFINEMENTS, "rule": RULES, "views": VIEWS, "cut": CUTS,
                 "absent": ABSENT, "asked": ASKED}  # fmt: skip
        for name, table in known.items():
            one_of(name, getattr(self, name), table)
        for name in ("paper", "data", "names", "template"):
            one_line(name, getattr(self, name))
        count("short_side", self.short_side, _SIDE)
        count("long_side", self.long_side, _SIDE)
        count("crop", self.crop, _SIDE, 0)
        count("stride", self.stride, _SIDE)
        count("closing", self.closing, 99, 0)
        count("truth_side", self.truth_side, _SIDE, 0)
        if self.crop and self.stride > self.crop:
            raise FastlocError(f"stride must be at most the crop {self.crop}, got {self.stride}; pixels between windows would not be seen")
        if self.logit_scale is not None:
            number("logit_scale", self.logit_scale, 1e-4, _SCALE)
        number("probability", self.probability, 0, 1)
        number("view_weight", self.view_weight, 0, 1)
        if self.area is not None:
            number("area", self.area, 0, 1)
        if len(self.thresholds) != (3 if self.rule == "cliper" else 0):
            raise FastlocError(f"thresholds must be three numbers with the rule 'cliper' and none without, got {len(self.thresholds)}")
        for each in self.thresholds:
            number("thresholds", each, 0, 1)
        if isinstance(self.threshold, str):
            one_of("threshold", self.threshold, ("mean",))
        else:
            number("threshold", self.threshold, 0, 1)
