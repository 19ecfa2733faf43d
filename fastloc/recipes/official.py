"""Methods to the letter of their authors' code, where rows differ from it: what `official=True` runs.

A form changes fields of the row and brings the input size and the fit of the authors' own demo or evaluation. What you give yourself wins
over it. Sliding windows, background words and clustering are no part of a method here, and of no form. docs/methods/surprises.md says for
each method which form is the default, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OFFICIAL", "OfficialForm", "official_form"]


@dataclass(frozen=True)
class OfficialForm:
    """How the authors run one method.

    changes: fields of the Recipe or its ReadOut, in place of the row's.
    size: the model's input in pixels, the short side where the fit is "aspect"; of another patch the multiple below it. None: as without
        the form.
    fit: see `fastloc.imaging.geometry.fit`, in place of the model's and the row's. None: as without the form.
    note: what differs from the row, in one line.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    fit: str | None = None
    note: str = ""


_SAME = OfficialForm()
OFFICIAL: dict[str, OfficialForm] = {
    # demo.py; every second picture of it, and all that SAM is prompted with, is of 512 x 512
    "clip_surgery": OfficialForm(size=512, fit="stretch", note="512 x 512 pixels; size=224 is the demo's first picture"),
    # configs/*.py; Cityscapes has 560, and 448 for COCO-Stuff in SCLIP
    "sclip": OfficialForm(size=336, fit="aspect", note="short side 336"),
    "clearclip": OfficialForm(size=448, fit="aspect", note="short side 448"),
    "naclip": OfficialForm(size=336, fit="aspect", note="short side 336"),
    "resclip": OfficialForm(size=336, fit="aspect", note="short side 336"),
}


def official_form(method: str, official: bool = True) -> OfficialForm:
    """The form of a method; one that changes nothing where there is none, or where none is asked for."""
    return OFFICIAL.get(method, _SAME) if official else _SAME
