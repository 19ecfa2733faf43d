"""Whole evaluations by authors' own segmentors, as benchmarks/official_goldens/from_checkouts/evaluations.py stores them, and what they are
of: the picture, the protocol, the names of the classes, and a subject with the seed's weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import checkout_goldens as goldens
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.functional.similarity import grids
from fastloc.recipes import Recipe, recipe

NAMES = goldens.names("evaluation")
# what ProxyCLIP runs without another network's features
_METHODS = {"proxyclip": "itsm"}


def case(name: str) -> dict[str, Any]:
    """The case of a file."""
    return goldens.golden(name)[0]


def array(name: str, key: str) -> goldens.Floats:
    """One array of a file."""
    return goldens.golden(name)[1][key]


def picture(name: str) -> Image.Image:
    return Image.fromarray(array(name, "picture"))


def names(name: str) -> tuple[tuple[str, ...], ...]:
    """The names of each class: numbers, by which the subject finds their texts. CLIPer's background is the first class."""
    meta = case(name)
    counts = (meta["background"], *[1] * meta["texts"]) if meta["method"] == "cliper" else meta["names"]
    numbers = iter(range(sum(counts)))
    return tuple(tuple(str(next(numbers)) for _ in range(count)) for count in counts)


def protocol(name: str) -> Protocol:
    """The settings of a file's segmentor as fields."""
    meta = case(name)
    method, shared = meta["method"], {"data": "golden", "source": meta["source"]["repository"], "short_side": meta["short"]}
    if method == "cliper":
        return Protocol(
            paper=method, resize="whole-patches", crop=0, rule="cliper", thresholds=(meta["score"], meta["below"], meta["attention"]),
            logit_scale=float(meta["scale"]), normalized=meta["normalized"], cut="squares" if meta["squares"] else "", absent="truth",
            **shared,
        )
    options = meta["settings"]
    refinement: dict[str, Any] = {}
    if options.get("pamr_steps"):
        settings = (("iterations", options["pamr_steps"]), ("dilations", (8, 16)))
        refinement = {"refinement": "pamr", "refinement_settings": settings}
    elif "grid" in options:
        refinement = {"refinement": "propagate", "refinement_settings": (("iterations", 25), ("grid", options["grid"]))}
    views = {"views": "itaclip", "view_weight": options.get("img_eng_coefficient", 0.75)} if "img_engineering" in options else {}
    return Protocol(
        paper=method, crop=options["slide_crop"], stride=options.get("slide_stride", 1), logit_scale=float(options.get("logit_scale", 40)),
        odd="pad" if method in ("clearclip", "proxyclip") else "floor",
        probability=options.get("prob_thd", 0.0), area=options.get("area_thd"),
        closing=3 if method == "itaclip" else 0, **refinement, **views, **shared,
    )


@cache
def _row(name: str) -> Recipe:
    meta = case(name)
    if meta["method"] == "cliper":
        return recipe("cliper", target_scale=float(meta["scale"]), cutoff=meta["attention"])
    settings, changes = meta["settings"], {}
    if "attn_rcs_weights" in settings:
        changes["cross_weight"] = settings["attn_rcs_weights"][1]
    if "alpha_kk" in settings:
        changes["procrustes_weight"] = settings["alpha_kk"]
    return recipe(_METHODS.get(meta["method"], meta["method"]), official=True, **changes)


@dataclass
class Subject:
    """The tower of a file with the seed's weights, float64, and its texts under their numbers."""

    name: str
    method: str = field(init=False)
    model: str = "golden"
    digest: str = "sha256:0"
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    logit_scale: float = 100.0
    size: tuple[int, int] | None = None
    shares: bool = field(init=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self.method = case(self.name)["method"]
        self.shares = self.method == "cliper"
        self.patch = goldens.tower(self.name).spec.patch

    def similarity(self, pixels: Tensor, texts: Sequence[str], words: Sequence[str] = ()) -> Tensor:
        background = torch.from_numpy(self.embeddings(words)) if words else None
        vectors = torch.from_numpy(self.embeddings(texts))
        return grids(goldens.tower(self.name), pixels.double(), vectors, _row(self.name), background)[0]

    def embeddings(self, texts: Sequence[str]) -> goldens.Floats:
        found = array(self.name, "texts")
        if self.method == "cliper":
            found = np.concatenate([array(self.name, "background"), found])
        return found[[int(text) for text in texts]]


@dataclass(frozen=True)
class Set:
    """A set of one picture, as far as a judge reads it."""

    classes: tuple[str, ...]
    background: bool
    name: str = "golden"
    task: str = "labels"


def dataset(name: str) -> Set:
    """The classes of a file; where CLIPer's metric ignores the background's label, they are one less than its names."""
    background = 0 not in case(name).get("ignored", ())
    texts = names(name) if background else names(name)[1:]
    return Set(tuple(each[0] for each in texts), background)
