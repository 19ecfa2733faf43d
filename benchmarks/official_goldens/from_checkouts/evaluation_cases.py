"""Shared by evaluations.py: the segmentors of SCLIP and its kin, their models, and the cases of each."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from seeded_checkout import config, exact, openai_clip, state

__all__ = ["METHODS", "Case", "Method"]

LAYERS = 12
SMALL, FINE = config(64, 16, 4), config(56, 8, LAYERS)


@dataclass(frozen=True)
class Case:
    """One golden.

    picture: its (height, width). short: the short side of the resized one. names: how many names each class has.
    settings: of the segmentor's __init__, besides the model and the names.
    """

    name: str
    settings: dict[str, Any]
    seed: int
    model: dict[str, Any] = field(default_factory=lambda: SMALL)
    picture: tuple[int, int] = (75, 110)
    short: int = 80
    names: tuple[int, ...] = (2, 1, 3, 1, 1)
    step: int = 5


@dataclass(frozen=True)
class Method:
    """A checkout's segmentor: folder, GitHub name, module and class, and what makes its model."""

    folder: str
    repository: str
    module: str
    kind: str
    cases: tuple[Case, ...]
    model: Callable[[Case], Any]
    names: str = ", "
    stubs: tuple[str, ...] = ()


def openai(case: Case) -> Any:
    """The CLIP class that SCLIP's kin change."""
    models = importlib.import_module("clip.model")
    exact(models)
    return openai_clip(models.CLIP, case.model, case.seed)


def open_clip(case: Case) -> Any:
    """The copy of open_clip that ClearCLIP and ProxyCLIP change."""
    net = importlib.import_module("open_clip.model").CLIP(**case.model).double().eval()
    net.load_state_dict(state(case.model, case.seed))
    return net


def without_second_pass(case: Case) -> Any:
    """ResCLIP's model, whose segmentor cannot leave out the pass that feeds its segmentation back."""
    net = openai(case)
    encode = net.encode_image
    net.encode_image = lambda image, **options: encode(image, **{**options, "use_sfr": False})
    return net


WINDOWS = {"slide_crop": 64, "slide_stride": 32, "logit_scale": 40}
FINE_WINDOWS = {**WINDOWS, "slide_crop": 56, "slide_stride": 28}
METHODS = {
    "sclip": Method(
        "SCLIP", "wangf3014/SCLIP", "clip_segmentor", "CLIPForSegmentation",
        (
            Case("windows", {**WINDOWS, "logit_scale": 50, "prob_thd": 0.45, "area_thd": 0.1}, 390),
            # one name a class, and no class 0
            Case("plain", {**WINDOWS, "slide_stride": 16}, 231, picture=(97, 64), names=(1,) * 5),
        ),
        openai,
    ),
    "naclip": Method(
        "NACLIP", "sinahmr/NACLIP", "naclip", "NACLIP",
        (
            Case("windows", {**WINDOWS, "prob_thd": 0.4, "pamr_steps": 10}, 192),
            # 72 x 106 pixels, of which the patches see 64 x 96
            Case("whole", {"slide_crop": 0, "prob_thd": 0.4, "pamr_steps": 10}, 13, short=72),
        ),
        openai,
    ),
    "clearclip": Method(
        "ClearCLIP", "mc-lan/ClearCLIP", "clearclip_segmentor", "ClearCLIPSegmentation",
        (
            Case("padded", {**WINDOWS, "logit_scale": 50, "slide_crop": 75, "slide_stride": 40, "prob_thd": 0.45}, 114, short=83),
        ),
        open_clip, ",", ("BLIP", "BLIP.models", "BLIP.models.blip_retrieval", "gem"),
    ),
    "resclip": Method(
        "ResCLIP", "yvhangyang/ResCLIP", "resclip_segmentor", "ResCLIPSegmentation",
        (
            Case("windows", {**WINDOWS, "prob_thd": 0.4, "attn_rcs_weights": [2.0, 0.3]}, 55, config(64, 16, LAYERS)),
        ),
        without_second_pass,
    ),
    "sc_clip": Method(
        "SC-CLIP", "SuleBai/SC-CLIP", "scclip_segmentor", "SCCLIPForSegmentation",
        (
            Case("windows", {**FINE_WINDOWS, "prob_thd": 0.4, "area_thd": 0.1}, 156, FINE, short=70),
        ),
        openai, stubs=("matplotlib.pyplot",),
    ),
    "sfp": Method(
        "SFP/SFP_ICCV", "Kimsure/SFP", "SFP_segmentor", "SFPForSegmentation",
        (
            Case("windows", {**FINE_WINDOWS, "prob_thd": 0.4, "area_thd": 0.1}, 137, FINE, short=70),
        ),
        openai, stubs=("matplotlib.pyplot",),
    ),
    "pearl": Method(
        "PEARL", "PGSmall/PEARL", "pearl_ovss", "PEARL",
        (
            Case("windows", {**WINDOWS, "prob_thd": 0.4, "use_prop": "off"}, 198),
            Case("propagated", {"slide_crop": 0, "prob_thd": 0.4, "grid": 34, "alpha_kk": 0.3}, 59, short=72),
        ),
        openai,
    ),
    "itaclip": Method(
        "ITACLIP", "m-arda-aydn/ITACLIP", "itaclip_segmentor", "ITACLIP_Segmentor",
        (
            Case("views", {**WINDOWS, "logit_scale": 60, "prob_thd": 0.4, "area_thd": 0.1, "pamr_steps": 10, "img_engineering": True,
                           "img_eng_coefficient": 0.7, "dataset_name": "voc21"}, 40, config(64, 16, LAYERS)),
            # windows of 72 x 72 pixels, of which the patches see 64 x 64: the mirror images see others
            Case("odd", {**WINDOWS, "slide_crop": 72, "slide_stride": 36, "img_engineering": True, "dataset_name": "coco_stuff"}, 81,
                 config(64, 16, LAYERS), names=(1,) * 5),
        ),
        openai,
    ),
    "proxyclip": Method(
        "ProxyCLIP", "mc-lan/ProxyCLIP", "proxyclip_segmentor", "ProxyCLIPSegmentation",
        (
            # without features of another model, which leaves the untouched encoder
            Case("plain", {**WINDOWS, "slide_crop": 56, "slide_stride": 28, "prob_thd": 0.4}, 22, config(56, 8, 4), short=63),
        ),
        open_clip, "; ", ("openpyxl", "segment_anything", "mae", "mae.models_vit", "mae.pos_embed"),
    ),
}  # fmt: skip
