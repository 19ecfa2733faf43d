"""Figures that papers and their repositories print, each with its source: facts to compare with, and none was measured here."""

from __future__ import annotations

from dataclasses import dataclass

from fastloc.evaluation.protocols.papers import SEGMENTATION_SETS

__all__ = ["FIGURES", "Figure", "figures"]

B, L = "ViT-B-16", "ViT-L-14"
SCLIP = "wangf3014/SCLIP@b56bd30 README.md"
NACLIP = "sinahmr/NACLIP@0cac3a6 README.md"
CLEARCLIP = "mc-lan/ClearCLIP@ad68a40 assets/results.png"
RESCLIP = "yvhangyang/ResCLIP@0e085f7 figs/main_results_w.png, main_results_wo.png"
PEARL = "PGSmall/PEARL@c26062b assets/results.png"
OV_STITCHER = "atw617/OV-Stitcher@270b85a assets/quantitative.png"
CLIPER = "linsun449/cliper.code@c05fa41 ReadMe.md"
MASKCLIP = "chongzhou96/MaskCLIP@245d31f configs/maskclip/README.md"
CLIPTRASE = "leaves162/CLIPtrase@2b7de61 README.md"
ITACLIP = "m-arda-aydn/ITACLIP@521a33c README.md"
TAGCLIP = "linyq2117/TagCLIP@c32b640 README.md"
CLIP_SURGERY = "xmed-lab/CLIP_Surgery@d4696d4 figs/fig6.jpg"


@dataclass(frozen=True)
class Figure:
    """One published figure.

    method: fastloc's name, or the paper's where fastloc does not have it. model, pretrained: as open_clip names them.
    value: in percent, as printed. protocol: the paper under whose protocol it was made; "" where the source does not say.
    changes: fields in which that protocol was changed. extra: a step of its making that no protocol holds and fastloc does not have.
    note: a remark on it.
    """

    method: str
    model: str
    data: str
    value: float
    source: str
    protocol: str = ""
    pretrained: str = "openai"
    metric: str = "mIoU"
    changes: tuple[tuple[str, str], ...] = ()
    extra: str = ""
    note: str = ""

    @property
    def percent(self) -> str:
        """The value with the decimals that were printed."""
        return f"{self.value:.1f}" if round(self.value, 1) == self.value else f"{self.value:.2f}"

    @property
    def remarks(self) -> str:
        """Changes, extras and the note in one line; "" where there is nothing."""
        changes = (f"{name}={value}" for name, value in self.changes)
        return "; ".join((*changes, *([f"with {self.extra}"] if self.extra else []), *([self.note] if self.note else [])))


def _row(
    method: str, model: str, values: str, source: str, protocol: str = "", *, pretrained: str = "openai", extra: str = "", note: str = "",
    changes: tuple[tuple[str, str], ...] = (),
) -> tuple[Figure, ...]:
    """A table's row: VOC21 Context60 COCO-Object | VOC20 Context59 COCO-Stuff Cityscapes ADE20K, "-" where it has none."""
    cells = values.replace("|", " ").split()
    return tuple(
        Figure(method, model, data, float(cell), source, protocol, pretrained, changes=changes, extra=extra, note=note)
        for data, cell in zip(SEGMENTATION_SETS, cells, strict=True)
        if cell != "-"
    )  # fmt: skip


_NO_PAMR = (("refinement", "none"),)
_SECOND = "a second pass over its own segmentation"
_DIFFUSION, _WINDOWS = "Stable Diffusion's attention", "windows beside the whole picture"
_TEXTS, _CLUSTERS, _CLS_SEG = "texts of a language model", "clusters of patches and their vote", "classes of the picture, then CLIP-ES"
_SAM, _DINO = "masks of SAM", "a second encoder, DINO"

FIGURES: tuple[Figure, ...] = (
    *_row("sclip", B, "59.63 31.74 33.52 | 81.54 34.46 22.77 32.34 16.45", SCLIP, "sclip"),
    *_row("sclip", B, "59.1 30.4 30.5 | 80.4 34.2 22.4 32.2 16.1", RESCLIP, "sclip"),
    *_row("sclip", B, "- - - | 78.2 33.0 21.1 29.1 14.6", CLEARCLIP, "clearclip"),
    *_row("sclip", L, "44.4 22.3 24.9 | - - - - -", RESCLIP),
    *_row("sclip", L, "- - - | 60.3 20.5 13.1 17.0 7.1", CLEARCLIP, "clearclip"),
    *_row("clearclip", B, "- - - | 80.9 35.9 23.9 30.0 16.7", CLEARCLIP, "clearclip"),
    *_row("clearclip", B, "51.8 32.6 33.0 | - - - - -", RESCLIP, "clearclip"),
    *_row("clearclip", L, "- - - | 80.0 29.6 19.9 27.9 15.0", CLEARCLIP, "clearclip"),
    *_row("clearclip", L, "48.7 28.3 29.7 | - - - - -", RESCLIP),
    *_row("clearclip", B, "- - - | 81.4 34.1 23.1 31.8 18.9", CLEARCLIP, "clearclip", pretrained="laion2b_s34b_b88k"),
    *_row("clearclip", L, "- - - | 65.3 27.9 19.5 26.4 16.0", CLEARCLIP, "clearclip", pretrained="laion2b_s32b_b82k"),
    *_row("clearclip", B, "- - - | 78.3 34.8 23.5 27.9 17.4", CLEARCLIP, "clearclip", pretrained="metaclip_fullcc"),
    *_row("clearclip", L, "- - - | 78.2 30.3 20.5 25.6 16.4", CLEARCLIP, "clearclip", pretrained="metaclip_fullcc"),
    *_row("naclip", B, "64.07 34.99 36.19 | 83.03 38.35 25.69 38.27 19.05", NACLIP, "naclip"),
    *_row("naclip", B, "58.9 32.2 33.2 | 79.7 35.2 23.3 35.5 17.4", RESCLIP, "naclip", changes=_NO_PAMR),
    *_row("naclip", L, "52.2 28.7 29.9 | 78.7 32.1 21.4 31.4 17.3", RESCLIP, "naclip", changes=_NO_PAMR),
    *_row("resclip", B, "61.1 33.5 35.0 | 86.0 36.8 24.7 35.9 18.0", RESCLIP, "resclip", extra=_SECOND),
    *_row("resclip", L, "54.1 30.9 32.5 | 85.5 34.5 23.4 33.7 18.2", RESCLIP, "resclip", extra=_SECOND),
    *_row("sc_clip", B, "64.6 36.8 37.7 | 84.3 40.1 26.6 41.0 20.1", OV_STITCHER, "sc_clip"),
    *_row("sc_clip", L, "65.0 36.9 40.5 | 88.3 40.6 26.9 41.3 21.7", OV_STITCHER, "sc_clip"),
    *_row("sfp", B, "62.9 37.2 37.9 | 84.5 39.9 26.4 41.1 20.8", OV_STITCHER, "sfp"),
    *_row("sfp", B, "56.8 32.3 32.1 | 83.4 36.0 24.0 34.1 18.1", PEARL, note="run again by PEARL's authors"),
    *_row("pearl", B, "64.1 35.1 37.3 | 86.9 38.6 26.3 37.6 19.4", PEARL, "pearl"),
    *_row("itaclip", B, "67.9 37.5 37.7 | - - 27.0 40.2 -", ITACLIP, "itaclip", extra=_TEXTS),
    *_row("cliper", B, "60.7 34.7 36.3 | 84.3 38.4 25.4 35.9 19.8", CLIPER, "cliper"),
    *_row("cliper", B, "62.1 35.7 37.5 | 85.0 39.6 26.4 38.3 20.6", CLIPER, "cliper", extra=_WINDOWS),
    *_row("cliper", B, "66.4 37.5 39.2 | 85.5 41.6 27.6 37.0 21.5", CLIPER, "cliper", extra=_DIFFUSION),
    *_row("cliper", L, "62.5 34.8 40.4 | 88.7 39.6 26.3 37.9 22.1", CLIPER, "cliper-large"),
    *_row("cliper", L, "64.0 35.7 41.4 | 89.0 40.9 27.1 39.4 22.9", CLIPER, "cliper-large", extra=_WINDOWS),
    *_row("cliper", L, "71.6 39.0 44.4 | 90.3 44.0 29.7 41.6 24.5", CLIPER, "cliper-large", extra=_DIFFUSION),
    *_row("maskclip", B, "- - - | 49.5 21.7 12.5 - -", MASKCLIP, "maskclip"),
    *_row("maskclip", B, "- - - | 74.9 26.4 16.4 12.6 9.8", CLEARCLIP, "clearclip"),
    *_row("maskclip", B, "38.8 23.6 20.6 | - - - - -", RESCLIP),
    *_row("maskclip", B, "43.4 23.2 20.6 | 74.9 26.4 16.7 24.9 11.9", OV_STITCHER),
    *_row("maskclip", L, "- - - | 30.1 12.6 8.9 10.1 6.9", CLEARCLIP, "clearclip"),
    *_row("cliptrase", B, "50.88 29.87 43.56 | 80.95 33.83 22.84 - 16.35", CLIPTRASE, "cliptrase", extra=_CLUSTERS),
    *_row("cliptrase", B, "53.04 30.79 44.84 | 81.2 34.92 24.06 - 17.04", CLIPTRASE, "cliptrase-336", extra=_CLUSTERS),
    *_row("tagclip", B, "64.7 - 34.0 | - - - - -", TAGCLIP, "tagclip", extra=_CLS_SEG),
    *_row("gem", B, "- - - | 79.9 35.9 23.7 30.8 15.7", CLEARCLIP, "clearclip"),
    *_row("gem", L, "- - - | 80.3 26.4 17.6 22.6 11.6", CLEARCLIP, "clearclip"),
    *_row("gem", B, "46.2 - - | - - - - -", RESCLIP, "gem"),
    *_row("gem", B, "- 32.6 - | - - - - -", RESCLIP, "gem", note="under Context59 in PEARL's table"),
    *_row("clip_surgery", B, "- - - | - - 21.9 31.4 -", CLIP_SURGERY, "clip_surgery"),
    *_row("clip_surgery", B, "- - - | - 29.3 - - -", CLIP_SURGERY, "clip_surgery", note="under Context60 in ResCLIP's table"),
    *_row("itsm", B, "- - - | 41.8 9.2 4.4 5.5 2.1", CLEARCLIP, "clearclip"),
    *_row("itsm", B, "16.2 7.7 5.5 | - - - - -", RESCLIP),
    *_row("itsm", L, "- - - | 15.8 4.5 2.4 2.9 1.2", CLEARCLIP, "clearclip"),
    *_row("proxyclip", B, "61.3 35.3 37.5 | 80.3 39.1 26.5 38.1 20.2", OV_STITCHER, "proxyclip", extra=_DINO),
    *_row("proxyclip", L, "60.6 34.5 39.2 | 83.2 37.7 25.6 40.1 22.6", OV_STITCHER, "proxyclip", extra=_DINO),
    *_row("CASS", B, "65.8 36.7 37.8 | 87.8 40.2 26.7 39.4 20.4", OV_STITCHER, extra=_DINO),
    *_row("Trident", B, "67.1 38.6 41.1 | 84.5 42.2 28.3 42.9 21.9", OV_STITCHER, extra=f"{_DINO}, and {_SAM}"),
    *_row("CorrCLIP", B, "72.2 41.6 40.7 | 88.7 47.1 30.7 44.6 23.7", OV_STITCHER, extra=_SAM),
    *_row("OV-Stitcher", B, "75.7 43.9 42.6 | 89.8 48.8 31.8 48.1 24.7", OV_STITCHER, extra=_SAM),
)  # fmt: skip


def figures(data: str = "", method: str = "") -> tuple[Figure, ...]:
    """The figures published on a set, of a method, or both, in the order of the table; "" asks for all."""
    return tuple(each for each in FIGURES if data in ("", each.data) and method in ("", each.method))
