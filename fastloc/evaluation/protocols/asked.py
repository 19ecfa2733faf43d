"""Protocols of questions: one map a text, measured against a mask, points or boxes."""

from __future__ import annotations

from fastloc.evaluation.protocols.papers import SEGMENTATION_SETS, Fields, Paper

__all__ = ["PAPERS"]

_QUESTIONS: Fields = {"task": "questions", "resize": "fit", "crop": 0, "names": "plain", "template": "", "logit_scale": None,
                      "asked": "present"}  # fmt: skip

CHEFER = Paper(
    "chefer", "ImageNet-Segmentation as Chefer et al. (CVPR 2021) measure it: foreground above the map's own mean",
    "hila-chefer/Transformer-Explainability@c3e578f baselines/ViT/imagenet_seg_eval.py, utils/metrices.py",
    {**_QUESTIONS, "resize": "square", "short_side": 224, "threshold": "mean", "truth_side": 224,
     "note": "maps of a classifier's own class there, here of the picture's class as a text; Pillow's bilinear there, here its bicubic"},
    sets=("imagenet-segmentation",),
)  # fmt: skip
POINT_MIOU = Paper(
    "point_miou", "p-mIoU on OpenImages-V7's points (GEM, LeGrad)", "WalBouss/GEM@5fa677c gem/gem.py",
    {**_QUESTIONS, "resize": "square", "short_side": 448,
     "note": "unreleased in GEM's and LeGrad's code, and which average they print is open: classes with points in the picture are asked, a "
     "point is inside from half of the min-maxed map on, and three averages are reported"},
    sets=("open-images",),
)  # fmt: skip
EXPLANATION = Paper(
    "explanation", "each present class alone, as CLIP Surgery and ECLIP score explanations: IoU at a threshold, mSC", "",
    {**_QUESTIONS,
     "note": "both papers' evaluation is unreleased: mIoU is there at the best threshold of a search, here at the one given; mSC is our "
     "reading of its definition"},
    sets=SEGMENTATION_SETS,
)  # fmt: skip
POINTING = Paper(
    "pointing", "pointing game (Zhang et al., ECCV 2016): the map's peak in a box, exactly and within 15 pixels", "",
    _QUESTIONS, sets=("coco-boxes", "refcoco"),
)  # fmt: skip
PAPERS = (CHEFER, POINT_MIOU, EXPLANATION, POINTING)
