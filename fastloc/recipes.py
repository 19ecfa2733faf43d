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
SCORES = ("cosine", "feature-surgery", "relevance")
# what a map is read from besides patch features: the rows of `fastloc.relevance.RELEVANCES`
RELEVANCES = ("grad-cam", "grad-cam-input", "bi-modal", "legrad", "grad-eclip", "rollout", "anchor")
# what is differentiated: of the image embedding with each text, or (CLIP-ES) of the mean patch feature in its place
TARGETS = ("cosine", "logit", "softmax", "softmax-of-mean")

# [blocks, heads, streams, passes] as nested tuples; an axis of length 1 stands for all
Table = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]


@dataclass(frozen=True)
class ReadOut:
    """From patch features and text embeddings to maps.

    score: "cosine", or "feature-surgery" (CLIP Surgery: removes what all texts share; with one text, the empty text's
        score is subtracted instead, as the official demo does), or "relevance": the scores are what the recipe reads as they are.
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
        ||LN1(x)|| times head_width^-0.5, per image and block. "matched": per image, block, head, stream and pass, solved for `rho`
        (`fastloc.matched`). A number, or a Table per block, head, stream and pass.
    rho: the share of all tokens over which a row of unit self-self attention spreads: its mean entropy is log(rho N). Where inv_temp is
        not "matched", it was solved beforehand (`fastloc calibrate`): a Localizer then puts the model's own table in its place.
    bias_std: adds NACLIP's Gaussian of the distance between patches, of this deviation in patches, to the logits.
    cross: a share of the depth (from, to), such as (5/12, 9/12), whose blocks' own q-k attention joins the last block's (ResCLIP); those of
        the encoder's last block never do.
    cross_weight, gain: then the map is gain ((1 - cross_weight) terms + cross_weight mean of those).
    residual: the local path starts from the first changed block's input, else from nothing.
    mlp: keep the block's MLP in the local path (one-block methods only).
    position: how the position embedding is resized to another grid.
    reads: "patches" (features, which are compared with the texts), or one of RELEVANCES: gradients, rollout, the attention of one patch.
    start: the first block that is read, counted from 0, or from the end where negative ("legrad", "bi-modal", "rollout"; "anchor" reads
        this one alone).
    target: what is differentiated, see TARGETS; a logit is target_scale times the cosine, and a softmax goes over the texts of the call.
        One text alone, whose share is always 1, has its logit differentiated instead.
    target_scale: CLIP's logit scale as trained; LeGrad's target is always the cosine of its own pooled feature.
    one_head: the last block attends with one head as wide as the model, which is another forward pass (Grad-ECLIP).
    head: of "anchor", the one head that is shown; None for the mean.
    trained: needs projections trained for the model (`fastloc.projections`), which other recipes can have too.
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
    rho: float | None = None
    bias_std: float | None = None
    cross: tuple[float, float] | None = None
    cross_weight: float = 0.0
    gain: float = 1.0
    residual: bool = False
    mlp: bool = False
    position: str = "bicubic-scale"
    reads: str = "patches"
    start: int = 0
    target: str = "cosine"
    target_scale: float = 100.0
    one_head: bool = False
    head: int | None = None
    trained: bool = False
    readout: ReadOut = ReadOut()
    template: str = "openai80"
    fit: str = "stretch"

    def __post_init__(self) -> None:
        # lists are welcome, a frozen row holds tuples
        object.__setattr__(self, "terms", tuple(self.terms))
        object.__setattr__(self, "inv_temp", checks.frozen(self.inv_temp))
        object.__setattr__(self, "cross", checks.frozen(self.cross))
        for term in self.terms:
            checks.known("attention term", term, TERMS)
        checks.check_count(self.name, "blocks", self.blocks)
        checks.check_count(self.name, "iterations", self.iterations)
        checks.known("position mode", self.position, POSITION_MODES)
        checks.known("combine", self.combine, ("mean", "sum"))
        checks.known("thing to read", self.reads, ("patches", *RELEVANCES))
        checks.known("target", self.target, TARGETS)
        checks.known("fit", self.fit, tuple(FITS))
        for wrong, message in checks.contradictions(self):
            if wrong:
                raise RecipeError(f"recipe {self.name!r}: {message}")
        checks.check_temperature(self)

    @property
    def depth(self) -> str:
        """How many of the last blocks are changed, or read in another way than forwards, in words: "6", "all", "1 at 9"."""
        if self.reads == "patches":
            return str(self.blocks)
        if self.reads == "anchor":
            return "1" if self.start == -1 else f"1 at {self.start}"
        if self.reads in ("bi-modal", "legrad", "rollout"):
            return str(-self.start) if self.start < 0 else f"from {self.start}" if self.start else "all"
        return "1"

    @property
    def streams(self) -> tuple[str, ...]:
        """The local path's terms that attend, in the order of a table's axis: all but the identity."""
        if self.reads != "patches":
            return ()
        return tuple(term for term in self.terms if term != "identity")


_SURGERY = "CLIP Surgery (Li et al., arXiv 2304.05653), xmed-lab/CLIP_Surgery"
_SEGMENT = ReadOut(order="softmax", logit_scale=40.0)
# CLIP's own scale
_CLASSIFY = ReadOut(order="softmax", logit_scale=100.0)

_RELEVANCE = ReadOut(score="relevance", order="picture")
_ON_GRID = replace(_RELEVANCE, order="grid")
_GRAD_ECLIP = "Grad-ECLIP (Zhao et al., ICML 2024), Cyang-Zhao/Grad-Eclip"
_BI_MODAL = "Bi-Modal (Chefer et al., ICCV 2021), hila-chefer/Transformer-MM-Explainability"
_ANCHOR = "attention of the patch most similar to the text (CLIP Surgery's analysis, Li et al., arXiv 2304.05653), xmed-lab/CLIP_Surgery"

_ROWS = (
    Recipe("itsm", "raw patch-text similarity of the untouched encoder", "image-text similarity map (Li et al., arXiv 2209.07046)",
           readout=ReadOut(order="grid"), template="surgery85", position="bilinear"),
    Recipe("rclip", "the raw map reversed, |1 - M|", "RCLIP, training-free form (Li et al., arXiv 2209.07046)",
           readout=ReadOut(order="grid", reverse=True), template="surgery85", position="bilinear"),
    Recipe("eclip", "the raw map behind two trained linear projections", "ECLIP (Li et al., arXiv 2209.07046)",
           trained=True, readout=ReadOut(order="grid"), template="surgery85", position="bilinear"),
    # gem_depth=7 of the official package changes six blocks; its ss_attn_temp is an inverse temperature
    Recipe("gem", "mean of iterated q-q, k-k and v-v attention over six blocks", "GEM (Bousselham et al., CVPR 2024), WalBouss/GEM",
           blocks=6, terms=("vv", "kk", "qq"), unit=True, iterations=1, inv_temp="adaptive", residual=True,
           position="bicubic-antialias", readout=ReadOut(order="picture"), template="gem"),
    # the number stands in where there is no model to measure, only weights
    Recipe("gem_calibrated", "GEM's attention, not iterated, at temperatures measured on the model", "fastloc, benchmarks/temperature.md",
           blocks=6, terms=("vv", "kk", "qq"), unit=True, inv_temp=10.0, rho=0.7, position="bicubic-antialias", template="gem"),
    Recipe("gem_matched", "the same with temperatures solved for every picture", "fastloc, benchmarks/temperature.md",
           blocks=6, terms=("vv", "kk", "qq"), unit=True, inv_temp="matched", rho=0.7, position="bicubic-antialias", template="gem"),
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
    # features alone: the official code clusters patches by DBSCAN after them
    Recipe("cliptrase", "q-q plus k-k plus v-v attention in the last block", "CLIPtrase (Shao et al., ECCV 2024), leaves162/CLIPtrase",
           blocks=1, terms=("qq", "kk", "vv"), combine="sum", residual=True, mlp=True, readout=_CLASSIFY, fit="crop"),
    # features alone: its off-diagonal logits are lowered by 100, which leaves each patch to itself
    Recipe("tagclip", "each patch attends to itself in the last block", "TagCLIP (Lin et al., AAAI 2024), linyq2117/TagCLIP",
           blocks=1, terms=("identity",), residual=True, mlp=True, position="bilinear", readout=_CLASSIFY, template="surgery85"),
    # without its second pass, which feeds a segmentation back
    Recipe("resclip", "NACLIP's attention with that of the middle blocks", "ResCLIP (Yang et al., CVPR 2025), yvhangyang/ResCLIP",
           blocks=1, terms=("kk",), bias_std=5.0, cross=(5 / 12, 9 / 12), cross_weight=0.3, gain=2.0, readout=_SEGMENT, fit="aspect"),
    # its CLIP example: the activation is the last block's first LayerNorm, the class token is dropped
    Recipe("grad_cam", "Grad-CAM on the last block's LayerNorm, of the softmax over the texts",
           "Grad-CAM (Selvaraju et al., ICCV 2017), jacobgil/pytorch-grad-cam",
           reads="grad-cam", target="softmax", position="bicubic-antialias", readout=_RELEVANCE, template="plain"),
    # the map before its refinement by attention
    Recipe("grad_cam_clip_es", "Grad-CAM of the mean patch feature's softmax over the texts",
           "CLIP-ES (Lin et al., CVPR 2023), linyq2117/CLIP-ES",
           reads="grad-cam", target="softmax-of-mean", position="bilinear", readout=_ON_GRID, template="a clean origami {}."),
    Recipe("grad_cam_input", "Grad-CAM on the last block's input, that block with one head (Grad-ECLIP's baseline)", _GRAD_ECLIP,
           reads="grad-cam-input", one_head=True, position="bicubic", readout=_ON_GRID),
    # the repository's example reads all blocks, its notebook the last
    Recipe("bi_modal", "attention times its gradient, multiplied through all blocks", _BI_MODAL,
           reads="bi-modal", target="logit", position="bicubic-antialias", readout=_RELEVANCE, template="plain"),
    Recipe("bi_modal_last", "attention times its gradient in the last block", _BI_MODAL,
           reads="bi-modal", start=-1, target="logit", position="bicubic-antialias", readout=_RELEVANCE, template="plain"),
    # layer_index=-2 is the code's default; the paper adds up all blocks, start=0
    Recipe("legrad", "positive gradients of the last two blocks' attention",
           "LeGrad (Bousselham et al., arXiv 2404.03214), WalBouss/LeGrad",
           reads="legrad", start=-2, position="bicubic-antialias", readout=_RELEVANCE, template="gem"),
    Recipe("grad_eclip", "the class token's gradient on values, weighted by q-k similarity", _GRAD_ECLIP,
           reads="grad-eclip", one_head=True, position="bicubic", readout=_ON_GRID),
    Recipe("rollout", "mean attention with the residual, multiplied through all blocks; the same for every text",
           "attention rollout (Abnar and Zuidema, ACL 2020), samiraabnar/attention_flow",
           reads="rollout", position="bicubic-antialias", readout=_RELEVANCE, template="plain"),
    *(Recipe(f"anchor_{term}", f"{term[0]}-{term[1]} attention of the patch most similar to the text, last block", _ANCHOR,
             reads="anchor", terms=(term,), start=-1, position="bilinear", readout=_ON_GRID, template="surgery85")
      for term in ("qk", "vv", "qq", "kk")),
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
