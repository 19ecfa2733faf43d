"""Every training-free method as a row of data: what the image tower computes, how scores and maps are read out.

The unified shape: a main path (the untouched encoder) runs always; a local path adds, for each of the last `blocks` blocks,

    local += O( attention of the terms, applied to v )        (LayerScale and out-projection included)

where q, k and v always come from the main path. One more method of this family is one more row of RECIPES.
"""

from dataclasses import dataclass, replace
from typing import Any

from fastloc import recipe_checks as checks
from fastloc.errors import RecipeError, unknown
from fastloc.geometry import FITS
from fastloc.maps import ORDERS

# streams of a term: which projection meets which
TERMS = ("qk", "qq", "kk", "vv", "identity")
POSITION_MODES = ("bicubic-antialias", "bicubic", "bicubic-scale", "bilinear")
SCORES = ("cosine", "feature-surgery")

# [blocks, heads, streams, passes] as nested tuples; an axis of length 1 stands for all
Table = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]


@dataclass(frozen=True)
class ReadOut:
    """From patch features and text embeddings to maps.

    score: "cosine", or "feature-surgery" (CLIP Surgery: removes what all texts share; with one text, the empty text's
        score is subtracted instead, as the official demo does).
    order: "grid" min-maxes on the patch grid, then upsamples (CLIP Surgery); "picture" upsamples, then min-maxes (GEM);
        "softmax" upsamples logit_scale * score, then softmax over the texts (SCLIP and its kin); "none" only upsamples.
    reverse: RCLIP's |1 - M| of the min-maxed map.
    """

    score: str = "cosine"
    order: str = "picture"
    logit_scale: float = 40.0
    reverse: bool = False

    def __post_init__(self) -> None:
        checks.known("score", self.score, SCORES)
        checks.known("order", self.order, tuple(ORDERS))
        if not checks.positive(self.logit_scale):
            raise RecipeError(f"logit_scale is {self.logit_scale!r}; it is a number above 0")
        if self.reverse and self.order not in ("grid", "picture"):
            raise RecipeError(f"reverse needs a min-maxed map, order 'grid' or 'picture', not {self.order!r}")


@dataclass(frozen=True)
class Recipe:
    """One method.

    blocks: how many of the last blocks feed the local path (a count; 0 is the encoder's own patch tokens).
    terms: the attentions of the local path, their outputs averaged ("mean") or added ("sum").
    unit: L2-normalise each head's projections before they attend to themselves.
    iterations: passes p <- softmax(inv_temp p p^T) p before the last one (GEM; needs `unit`).
    inv_temp: multiplier of the attention logits. None: head_width^-0.5. "adaptive": GEM's, mean over tokens of
        ||LN1(x)|| times head_width^-0.5, per image and block. A number, or a Table per block, head, stream and pass.
    bias_std: adds NACLIP's Gaussian of the distance between patches, of this deviation in patches, to the logits.
    residual: the local path starts from the first changed block's input, else from nothing.
    mlp: keep the block's MLP in the local path (one-block methods only).
    position: how the position embedding is resized to another grid.
    fit: how the authors bring a picture to the input size, see `fastloc.geometry.fit`.
    """

    name: str
    summary: str
    source: str
    blocks: int = 0
    terms: tuple[str, ...] = ()
    combine: str = "mean"
    unit: bool = False
    iterations: int = 0
    inv_temp: str | float | Table | None = None
    bias_std: float | None = None
    residual: bool = False
    mlp: bool = False
    position: str = "bicubic-scale"
    readout: ReadOut = ReadOut()
    template: str = "openai80"
    fit: str = "stretch"

    def __post_init__(self) -> None:
        # lists are welcome, a frozen row holds tuples
        object.__setattr__(self, "terms", tuple(self.terms))
        object.__setattr__(self, "inv_temp", checks.frozen(self.inv_temp))
        for term in self.terms:
            checks.known("attention term", term, TERMS)
        checks.check_count(self.name, "blocks", self.blocks)
        checks.check_count(self.name, "iterations", self.iterations)
        checks.known("position mode", self.position, POSITION_MODES)
        checks.known("combine", self.combine, ("mean", "sum"))
        checks.known("fit", self.fit, tuple(FITS))
        for wrong, message in checks.contradictions(self):
            if wrong:
                raise RecipeError(f"recipe {self.name!r}: {message}")
        checks.check_temperature(self)

    @property
    def streams(self) -> tuple[str, ...]:
        """The terms that attend, in the order of a table's axis: all but the identity."""
        return tuple(term for term in self.terms if term != "identity")


_SURGERY = "CLIP Surgery (Li et al., arXiv 2304.05653), xmed-lab/CLIP_Surgery"
_SEGMENT = ReadOut(order="softmax", logit_scale=40.0)

_ROWS = (
    Recipe("itsm", "raw patch-text similarity of the untouched encoder", "image-text similarity map (Li et al., arXiv 2209.07046)",
           readout=ReadOut(order="grid"), template="surgery85", position="bilinear"),
    Recipe("rclip", "the raw map reversed, |1 - M|", "RCLIP, training-free form (Li et al., arXiv 2209.07046)",
           readout=ReadOut(order="grid", reverse=True), template="surgery85", position="bilinear"),
    # gem_depth=7 of the official package changes six blocks; its ss_attn_temp is an inverse temperature
    Recipe("gem", "mean of iterated q-q, k-k and v-v attention over six blocks", "GEM (Bousselham et al., CVPR 2024), WalBouss/GEM",
           blocks=6, terms=("vv", "kk", "qq"), unit=True, iterations=1, inv_temp="adaptive", residual=True,
           position="bicubic-antialias", readout=ReadOut(order="picture"), template="gem"),
    Recipe("clip_surgery", "v-v attention over six blocks, then feature surgery", _SURGERY,
           blocks=6, terms=("vv",), residual=True, position="bilinear",
           readout=ReadOut(score="feature-surgery", order="grid"), template="surgery85"),
    Recipe("maskclip", "the last block's values in place of its attention", "MaskCLIP (Zhou et al., ECCV 2022), chongzhou96/MaskCLIP",
           blocks=1, terms=("identity",), residual=True, mlp=True, position="bicubic", readout=_SEGMENT, template="surgery85"),
    Recipe("sclip", "q-q plus k-k attention in the last block", "SCLIP (Wang et al., ECCV 2024), wangf3014/SCLIP",
           blocks=1, terms=("qq", "kk"), combine="sum", residual=True, mlp=True, readout=_SEGMENT, fit="aspect"),
    Recipe("clearclip", "q-q attention in the last block, without residual and MLP", "ClearCLIP (Lan et al., ECCV 2024), mc-lan/ClearCLIP",
           blocks=1, terms=("qq",), readout=replace(_SEGMENT, logit_scale=50.0), fit="aspect"),
    Recipe("naclip", "k-k attention with a neighbourhood bias in the last block", "NACLIP (Hajimiri et al., WACV 2025), sinahmr/NACLIP",
           blocks=1, terms=("kk",), bias_std=5.0, readout=_SEGMENT, fit="aspect"),
)
RECIPES: dict[str, Recipe] = {row.name: row for row in _ROWS}

_READOUT_FIELDS = ("score", "order", "logit_scale", "reverse")


def recipe(name: str, /, **changes: Any) -> Recipe:
    """The named method, with fields of its Recipe or ReadOut changed: `recipe("gem", inv_temp=20.0, order="grid")`.

    Raises:
        RecipeError: an unknown name or field, or values that contradict one another.
    """
    if name not in RECIPES:
        raise RecipeError(unknown("method", name, sorted(RECIPES)))
    row = RECIPES[name]
    known = [field for field in row.__dataclass_fields__ if field not in ("name", "summary", "source", "readout")]
    for field in changes:
        if field not in (*known, *_READOUT_FIELDS):
            raise RecipeError(unknown("recipe field", field, (*known, *_READOUT_FIELDS)))
    readout = replace(row.readout, **{field: value for field, value in changes.items() if field in _READOUT_FIELDS})
    return replace(row, readout=readout, **{field: value for field, value in changes.items() if field not in _READOUT_FIELDS})
