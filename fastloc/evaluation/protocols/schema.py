"""The protocol of one paper on one data set, as fields."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Protocol"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How one paper evaluates on one data set.

    paper, data: what it is a row of; source: file and commit in the authors' repository.
    task: "labels", one label a pixel by argmax over texts; "questions", one map a text.
    resize: "mmcv", factor min(2048 / long, short_side / short), OpenCV's bilinear on bytes; "fit", the localizer's own size and fit.
    short_side, long_side: in pixels, for "mmcv".
    crop, stride: of windows in pixels; crop 0: no windows.
    odd: sides that the patch does not divide, "floor" (what is left over is not seen, maps are stretched over it) or "pad" (zeros).
    names: key of the class names, see `fastloc.evaluation.protocols.names`; template: see `fastloc.text.templates`.
    logit_scale: what similarities are multiplied by before the softmax over names; None: the subject's own.
    probability: below it the most probable class gives way to class 0. area: share of the pixels outside class 0 below which a class is
        dropped; None: off.
    refinement: "" or a row of `fastloc.results.result.Result.refined`'s steps, with settings.
    rule: how maps become labels: "softmax" (the mmseg family) or "cliper".
    closing: side in pixels of the square of a morphological closing of labels; 0: none (ITACLIP).
    views: other views of a window that are averaged, or none: "" or "itaclip".
    cut: "squares": the picture is cut into squares of its short side, each judged alone (CLIPer on Cityscapes); "": not.
    thresholds: (score, background, attention) of the rule "cliper", by kind of model in `by_model`.
    absent: classes that are neither true nor predicted "left out"; "truth": those that are not true are left out too (CLIPer's metric).
    questions: for that task: "present" classes or "all" are given as texts; maps' threshold; normalisation "minmax", threshold "mean".
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
    rule: str = "softmax"
    closing: int = 0
    views: str = ""
    cut: str = ""
    thresholds: tuple[float, ...] = ()
    absent: str = "left out"
    asked: str = "all"
    threshold: float | str = 0.5
    note: str = ""
