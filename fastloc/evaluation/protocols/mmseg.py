"""The mmsegmentation family: windows, a softmax over names, thresholds. Fields are those of the authors' configurations and segmentors.

Logits of windows are cosines brought to the window by bilinear interpolation, then averaged, then brought to the picture's own size.
"""

from __future__ import annotations

from fastloc.evaluation.protocols.papers import Fields, Paper

__all__ = ["PAPERS"]

_WHOLE: Fields = {"crop": 0}
_PAMR: Fields = {"refinement": "pamr", "refinement_settings": (("iterations", 10), ("dilations", (8, 16)))}
# what NACLIP, ResCLIP and PEARL do otherwise on single sets
_NACLIP: dict[str, Fields] = {
    "voc21": {"probability": 0.1, **_WHOLE},
    "voc20": _WHOLE,
    "context60": {"probability": 0.1},
    "coco-object": {"probability": 0.1},
    "cityscapes": {"short_side": 560},
}
# PEARL's weight of the keys' own product on two sets
_ALPHA: Fields = {"method_settings": (("procrustes_weight", 0.3),)}
_SC_CLIP: dict[str, Fields] = {
    "voc21": {"logit_scale": 50.0, "probability": 0.15, "area": 0.1},
    "context60": {"probability": 0.15},
    "coco-object": {"logit_scale": 55.0, "probability": 0.35},
    "cityscapes": {"short_side": 560},
}


def _propagated(grid: int) -> Fields:
    return {"refinement": "propagate", "refinement_settings": (("iterations", 25), ("grid", grid))}

def _cross_weights(weights: dict[str, float]) -> dict[str, Fields]:
    """ResCLIP's weight of the middle blocks' attention on each set."""
    return {data: {**_NACLIP.get(data, {}), "method_settings": (("cross_weight", weight),)} for data, weight in weights.items()}


SCLIP = Paper(
    "sclip", "SCLIP (Wang et al., ECCV 2024)", "wangf3014/SCLIP@b56bd30 configs/cfg_*.py, clip_segmentor.py", method="sclip",
    own={
        "voc21": {"logit_scale": 65.0, "probability": 0.1, "area": 0.1},
        "context60": {"logit_scale": 50.0, "probability": 0.1},
        "coco-object": {"logit_scale": 50.0, "probability": 0.1},
        "coco-stuff": {"short_side": 448},
        "cityscapes": {"short_side": 560},
    },
)  # fmt: skip
CLEARCLIP = Paper(
    "clearclip", "ClearCLIP (Lan et al., ECCV 2024)", method="clearclip",
    source="mc-lan/ClearCLIP@ad68a40 configs/cfg_*.py, clearclip_segmentor.py",
    usual={"short_side": 448, "crop": 448, "stride": 224, "odd": "pad", "names": "clearclip", "logit_scale": 50.0,
           "note": "the authors run half precision; their configurations ship with model_type='vanilla'"},
    own={
        "voc21": {"probability": 0.5},
        "context60": {"probability": 0.15},
        "coco-object": {"probability": 0.4},
        "cityscapes": {"crop": 224},
    },
)  # fmt: skip
NACLIP = Paper(
    "naclip", "NACLIP (Hajimiri et al., WACV 2025), with PAMR; refinement=none is its row without", method="naclip",
    source="sinahmr/NACLIP@0cac3a6 configs/cfg_*.py, naclip.py", usual=_PAMR, own=_NACLIP,
)  # fmt: skip
RESCLIP = Paper(
    "resclip", "ResCLIP (Yang et al., CVPR 2025)", "yvhangyang/ResCLIP@0e085f7 configs/cfg_*.py, resclip_segmentor.py", method="resclip",
    usual={"note": "without the paper's second pass over its own segmentation"},
    own=_cross_weights({"voc21": 0.3, "context60": 0.3, "coco-object": 0.4, "voc20": 0.6, "context59": 0.4, "coco-stuff": 0.4,
                        "cityscapes": 0.2, "ade20k": 0.3}),
)  # fmt: skip
SC_CLIP = Paper(
    "sc_clip", "SC-CLIP (Bai et al., arXiv 2411.15869)", "SuleBai/SC-CLIP@0417ba9 configs/cfg_*.py, scclip_segmentor.py", method="sc_clip",
    own=_SC_CLIP,
)  # fmt: skip
SFP = Paper(
    "sfp", "SFP (Jin et al., ICCV 2025)", "Kimsure/SFP@2804f5b SFP_ICCV/configs/cfg_*.py, SFP_ICCV/SFP_segmentor.py", method="sfp",
    usual={"names": "sfp"}, own={**_SC_CLIP, "ade20k": {"short_side": 384}},
)  # fmt: skip
SFP_LARGE = Paper(
    "sfp-large", "SFP with a ViT-L/14", "Kimsure/SFP@2804f5b SFP_ICCV/configs/cfg_*.py, comments for ViT-L/14", method="sfp",
    usual={"names": "sfp"},
    own={
        "voc21": {**_SC_CLIP["voc21"], "probability": 0.2},
        "coco-object": {**_SC_CLIP["coco-object"], "probability": 0.25},
    },
    sets=("voc21", "coco-object"),
)  # fmt: skip
PEARL = Paper(
    "pearl", "PEARL (Pei et al., arXiv 2603.21528), with its propagation", "PGSmall/PEARL@c26062b configs/cfg_*.py, pearl_ovss.py, run.sh",
    usual={**_propagated(80), "note": "run.sh turns the propagation on, eval.py alone leaves it off"},
    own={**_NACLIP, "cityscapes": {"short_side": 560, **_propagated(224), **_ALPHA}, "ade20k": _ALPHA}, method="pearl",
)  # fmt: skip
ITACLIP = Paper(
    "itaclip", "ITACLIP (Aydin et al., CVPR Workshops 2025), without generated texts", method="itaclip",
    source="m-arda-aydn/ITACLIP@521a33c configs/cfg_*.py, itaclip_segmentor.py",
    usual={**_PAMR, "stride": 28, "names": "itaclip", "views": "itaclip", "closing": 3,
           "note": "without the texts of a language model that the authors add to the names with a weight of .05 to .2"},
    own={
        "voc21": {"logit_scale": 60.0, "probability": 0.1, "area": 0.1, "view_weight": 0.7},
        "context60": {"logit_scale": 55.0, "probability": 0.1},
        "coco-object": {"logit_scale": 50.0, "probability": 0.1},
        "coco-stuff": {"short_side": 448},
        "cityscapes": {"short_side": 560, "view_weight": 0.7},
    },
    sets=("voc21", "context60", "coco-object", "coco-stuff", "cityscapes"),
)  # fmt: skip
PROXYCLIP = Paper(
    "proxyclip", "ProxyCLIP (Lan et al., ECCV 2024); a protocol for other methods", method="",
    source="mc-lan/ProxyCLIP@e7b767f configs/cfg_*.py, proxyclip_segmentor.py",
    usual={"crop": 336, "odd": "pad", "names": "proxyclip",
           "note": "the method needs a second network, which fastloc does not have; sides are padded to its 56 pixels, here to the patch"},
    own={
        "voc21": {"probability": 0.2},
        "context60": {"probability": 0.15},
        "coco-object": {"probability": 0.25},
        "ade20k": {"short_side": 448},
        "cityscapes": {"short_side": 448, "crop": 224},
    },
)  # fmt: skip
PAPERS = (SCLIP, CLEARCLIP, NACLIP, RESCLIP, SC_CLIP, SFP, SFP_LARGE, PEARL, ITACLIP, PROXYCLIP)
