"""Protocols on whole pictures: CLIPer by a rule of its own, and those that take the argmax over texts."""

from __future__ import annotations

from typing import Any

from fastloc.evaluation.protocols.papers import SEGMENTATION_SETS, Fields, Paper

__all__ = ["PAPERS"]

_CLIPER_NOTE = "without Stable Diffusion's attention and without windows"
_VOC_NOTE = f"{_CLIPER_NOTE}; the truth there is read from SegmentationClassAug"
_OBJECT_NOTE = f"{_CLIPER_NOTE}; 5000 pictures of COCO 2014's validation there (val_5k.txt), here those of 2017's"
_NO_CODE = "the paper's evaluation is unreleased: the input and the template of its demo, argmax without a threshold for the background"


def _cliper(template: str, scale: float, score: float, background: float, attention: float, **more: Any) -> Fields:
    return {"template": template, "logit_scale": scale, "thresholds": (score, background, attention), **more}


_CLIPER: Fields = {"resize": "whole-patches", "crop": 0, "names": "cliper", "rule": "cliper", "absent": "truth", "note": _CLIPER_NOTE,
                   **_cliper("cliper15", 100.0, 0.3, 0.3, 0.2)}  # fmt: skip
CLIPER = Paper(
    "cliper", "CLIPer (Sun et al., ICCV 2025) with a ViT-B/16", "linsun449/cliper.code@c05fa41 scripts/config/vit-b-16, util/miou.py",
    _CLIPER, method="cliper",
    own={
        "voc21": _cliper("cliper15", 100.0, 0.7, 0.6, 0.1, normalized=True, note=_VOC_NOTE),
        "context60": _cliper("cliper15", 100.0, 0.45, 0.45, 0.2),
        "coco-object": _cliper("openai80", 50.0, 0.3, 0.3, 0.2, note=_OBJECT_NOTE),
        "voc20": _cliper("cliper15", 100.0, 0.0, 0.001, 0.1, note=_VOC_NOTE),
        "context59": _cliper("cliper15", 100.0, 0.3, 0.3, 0.2),
        "coco-stuff": _cliper("cliper15", 50.0, 0.1, 0.1, 0.2),
        "cityscapes": _cliper("openai80", 100.0, 0.0, 0.0001, 0.35, short_side=560, cut="squares"),
        "ade20k": _cliper("cliper15", 100.0, 0.3, 0.3, 0.2),
    },
)  # fmt: skip
# the level that is refined: the last but one
_REFINED: Fields = {"method_settings": (("start", -2),)}
CLIPER_LARGE = Paper(
    "cliper-large", "CLIPer with a ViT-L/14", "linsun449/cliper.code@c05fa41 scripts/config/vit-l-14, util/miou.py",
    _CLIPER, method="cliper",
    own={
        "voc21": _cliper("cliper15", 50.0, 0.5, 0.4, 0.1, normalized=True, note=_VOC_NOTE, **_REFINED),
        "context60": _cliper("openai80", 50.0, 0.3, 0.3, 0.2, **_REFINED),
        "coco-object": _cliper("openai80", 50.0, 0.5, 0.5, 0.1, note=_OBJECT_NOTE, **_REFINED),
        "voc20": _cliper("cliper15", 70.0, 0.1, 0.0001, 0.2, note=_VOC_NOTE),
        "context59": _cliper("cliper15", 100.0, 0.45, 0.45, 0.2, **_REFINED),
        "coco-stuff": _cliper("openai80", 50.0, 0.2, 0.2, 0.2, **_REFINED),
        "cityscapes": _cliper("cliper15", 100.0, 0.0, 0.0001, 0.35, short_side=448, cut="squares"),
        "ade20k": _cliper("openai80", 50.0, 0.2, 0.2, 0.2),
    },
)  # fmt: skip
MASKCLIP = Paper(
    "maskclip", "MaskCLIP (Zhou et al., ECCV 2022)", "chongzhou96/MaskCLIP@245d31f configs/maskclip/maskclip_vit16_*.py", method="maskclip",
    usual={"short_side": 512, "crop": 0, "names": "maskclip", "template": "surgery85", "logit_scale": 1.0,
           "note": "pictures are normalised as ImageNet's there, here as the model asks"},
    own={"context59": {"short_side": 520, "long_side": 520}, "cityscapes": {"long_side": 1024}},
    sets=("voc20", "context59", "coco-stuff", "cityscapes"),
)  # fmt: skip


def _cliptrase(name: str, side: int) -> Paper:
    note = "without the paper's clusters of patches, its median filter and their vote"
    return Paper(
        name, f"CLIPtrase (Shao et al., ECCV 2024) at {side} pixels, features alone", method="cliptrase",
        source="leaves162/CLIPtrase@2b7de61 clip_self_correlation.py, configs/dataset_cfg.py, configs/metric.py",
        usual={"resize": "centre", "short_side": side, "crop": 0, "names": "cliptrase", "logit_scale": None, "absent": "truth",
               "note": note},
        own={"voc20": {"note": f"{note}, and without the class token's logits that multiply the patches'"}},
        sets=tuple(each for each in SEGMENTATION_SETS if each != "cityscapes"),
    )  # fmt: skip


TAGCLIP = Paper(
    "tagclip", "TagCLIP (Lin et al., AAAI 2024), features alone", method="tagclip",
    source="linyq2117/TagCLIP@c32b640 classify.py, clip_text.py, CLIP-ES/eval_cam.py",
    usual={"resize": "fit", "crop": 0, "names": "tagclip", "template": "surgery85", "logit_scale": None, "absent": "truth",
           "note": "the paper classifies pictures, then segments their classes with CLIP-ES; here argmax over all names, at the own fit"},
    sets=("voc21", "coco-object"),
)  # fmt: skip
GEM = Paper(
    "gem", "GEM (Bousselham et al., CVPR 2024)", "WalBouss/GEM@5fa677c gem/gem.py, gem/gem_utils.py", method="gem",
    usual={"resize": "square", "short_side": 448, "crop": 0, "names": "plain", "template": "gem", "logit_scale": None, "note": _NO_CODE},
    sets=("voc21", "context60", "ade20k"),
)  # fmt: skip
CLIP_SURGERY = Paper(
    "clip_surgery", "CLIP Surgery's open-vocabulary segmentation (Li et al., arXiv 2304.05653)", "xmed-lab/CLIP_Surgery@d4696d4 demo.py",
    usual={"resize": "square", "short_side": 512, "crop": 0, "names": "plain", "template": "surgery85", "logit_scale": None,
           "note": _NO_CODE},
    sets=("context59", "coco-stuff", "cityscapes"), method="clip_surgery",
)  # fmt: skip
PAPERS = (CLIPER, CLIPER_LARGE, MASKCLIP, _cliptrase("cliptrase", 224), _cliptrase("cliptrase-336", 336), TAGCLIP, GEM, CLIP_SURGERY)
