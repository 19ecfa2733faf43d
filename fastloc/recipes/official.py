"""Official forms: methods exactly as in their authors' code, where the rows differ from it; `official=True` runs them.

A form changes fields of the row and brings the input size and the fit of the authors' own demo or evaluation. Your own options
override it. Sliding windows, background words and clustering are no part of a method here, and of no form. docs/methods/surprises.md
names each method's default form, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NATIVE", "OFFICIAL", "OfficialForm", "official_form"]

NATIVE = "native"


@dataclass(frozen=True)
class OfficialForm:
    """One method as its authors run it.

    changes: fields of the Recipe or its ReadOut, in place of the row's.
    size: the model's input in pixels, the short side where the fit is one of `fastloc.imaging.geometry.SHORT_SIDE`; of another patch the
        multiple below it. `NATIVE`: the size that the model was trained at. None: as without the form.
    fit: see `fastloc.imaging.geometry.fit`, in place of the model's and the row's. None: as without the form.
    note: the difference from the row, in one line.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    size: int | str | None = None
    fit: str | None = None
    note: str = ""


_SAME = OfficialForm()
_TABLE = "positions kept for as many patches in another shape"
_TWO_STEPS = "maps by way of the input's pixels"
_UP = "the picture's own size, rounded up to whole patches, short side 1024 at most"
_NEAREST = "the picture's own size, rounded to whole patches, short side 640 at most"
_CENTRE = "the centre, at the size that the model was trained at"
OFFICIAL: dict[str, OfficialForm] = {
    # demo.py: CLIP itself at 224; on ResNets clip_model.py keeps all of the pool's rows
    **dict.fromkeys(("itsm", "rclip"), OfficialForm(
        {"terms": ("qk",), "keep_position": True}, 224, "stretch", f"224 x 224 pixels; on ResNets the pool's own attention; {_TABLE}")),
    # demo.py: 224 in its first call of this method, 512 in all others
    "clip_surgery": OfficialForm({"keep_position": True}, 512, "stretch", f"512 x 512 pixels, or size=224; {_TABLE}"),
    # configs/*.py: SCLIP also has 448 for COCO-Stuff, and all but ClearCLIP 560 for Cityscapes
    "sclip": OfficialForm({"keep_position": True}, 336, "aspect", f"short side 336; {_TABLE}"),
    "clearclip": OfficialForm({"keep_position": True}, 448, "aspect", f"short side 448; {_TABLE}"),
    "naclip": OfficialForm({"keep_position": True, "order": "softmax-input"}, 336, "aspect", f"short side 336; {_TWO_STEPS}; {_TABLE}"),
    # clip/model.py, configs/*.py; 560 for Cityscapes
    **dict.fromkeys(("sc_clip", "sfp"), OfficialForm(
        {"keep_position": True, "path_blocks": (8, 3, 3, 9)}, 336, "aspect",
        f"blocks 8, 3 and 3 to 9 on any depth; short side 336; {_TABLE}")),
    # clip/model.py, demo.py
    "resclip": OfficialForm(
        {"keep_position": True, "order": "softmax-input", "cross": None, "cross_blocks": (5, 6, 7, 8), "cross_weight": 0.6}, 336, "aspect",
        f"blocks 5 to 8 on any depth, their weight that of its demo, 0.6; short side 336; {_TWO_STEPS}; {_TABLE}"),
    # ovs/main_ovs.py: 560 for Cityscapes with a ViT-B, 448 with a ViT-L
    "cliper": OfficialForm(size=336, fit="aspect", note="short side 336"),
    # configs/maskclip: (2048, 512) with its shape kept
    "maskclip": OfficialForm(
        {"order": "softmax-input", "logit_scale": 1.0, "keep_position": True}, 512, "aspect",
        f"a softmax of cosines that nothing scales; {_TWO_STEPS}; short side 512; {_TABLE}",
    ),
    # clip_self_correlation.py; its second setting is 336
    "cliptrase": OfficialForm({"keep_position": True}, 224, "crop", f"the centre, 224 x 224, or size=336; {_TABLE}"),
    # classify.py and generate_cams_voc12.py take a picture as it is; those of their data sets have short sides of 640 at most
    "tagclip": OfficialForm({"order": "softmax-grid"}, 1024, "own-up", f"the softmax on the grid of patches; {_UP}"),
    "grad_cam_clip_es": OfficialForm(size=1024, fit="own-up", note=_UP),
    # generate_emap.py
    "grad_cam_input": OfficialForm(size=640, fit="own", note=_NEAREST),
    "grad_eclip": OfficialForm(size=640, fit="own", note=f"{_NEAREST}; the notebook's form is compares='plain'"),
    # clip.load's own transform
    "bi_modal": OfficialForm(size=NATIVE, fit="crop", note=_CENTRE),
    "bi_modal_last": OfficialForm(size=NATIVE, fit="crop", note=_CENTRE),
    # configs/*.py: 560 for Cityscapes, and 448 for ITACLIP's COCO-Stuff
    "pearl": OfficialForm({"keep_position": True, "order": "softmax-input"}, 336, "aspect", f"short side 336; {_TWO_STEPS}; {_TABLE}"),
    "itaclip": OfficialForm(
        {"keep_position": True, "cross_blocks": (6, 7, 9)}, 336, "aspect", f"blocks 6, 7 and 9 on any depth; short side 336; {_TABLE}"),
}  # fmt: skip


def official_form(method: str, official: bool = True) -> OfficialForm:
    """The official form of a method; a form without changes where the method has none, or where you do not ask for it."""
    return OFFICIAL.get(method, _SAME) if official else _SAME
