"""Every training-free method as a row of data: the computation in the image tower, and the read-out of scores and maps.

`fastloc.recipes.schema` defines the fields. Another method of a known family is one more row here.
"""

from dataclasses import replace
from typing import Any

from fastloc.errors import RecipeError, unknown
from fastloc.recipes.official import official_form
from fastloc.recipes.readout import ReadOut
from fastloc.recipes.schema import Recipe

__all__ = ["RECIPES", "recipe"]

_SURGERY = "CLIP Surgery (Li et al., arXiv 2304.05653), xmed-lab/CLIP_Surgery"
_SEGMENT = ReadOut(order="softmax", logit_scale=40.0)
# at the model's own scale, exp(logit_scale) in the authors' code
_CLASSIFY = ReadOut(order="softmax")

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
    Recipe("gem_calibrated", "GEM's attention, not iterated, at temperatures measured on the model", "fastloc, docs/methods/temperature.md",
           blocks=6, terms=("vv", "kk", "qq"), unit=True, inv_temp=10.0, rho=0.7, position="bicubic-antialias", template="gem"),
    Recipe("gem_matched", "the same with temperatures solved for every picture", "fastloc, docs/methods/temperature.md",
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
    # features alone: the official code clusters patches by DBSCAN after them, which makes a segmentation and belongs to its evaluation
    Recipe("cliptrase", "q-q plus k-k plus v-v attention in the last block", "CLIPtrase (Shao et al., ECCV 2024), leaves162/CLIPtrase",
           blocks=1, terms=("qq", "kk", "vv"), combine="sum", residual=True, mlp=True, readout=_CLASSIFY, fit="crop"),
    # features alone: its off-diagonal logits are lowered by 100, which leaves each patch to itself; the refinement by middle blocks and the
    # class-wise re-identification behind them make labels of one picture, and belong to an evaluation
    Recipe("tagclip", "each patch attends to itself in the last block", "TagCLIP (Lin et al., AAAI 2024), linyq2117/TagCLIP",
           blocks=1, terms=("identity",), residual=True, mlp=True, position="bilinear", readout=_CLASSIFY, template="surgery85"),
    # without its second pass, which feeds a segmentation back
    Recipe("resclip", "NACLIP's attention with that of the middle blocks", "ResCLIP (Yang et al., CVPR 2025), yvhangyang/ResCLIP",
           blocks=1, terms=("kk",), bias_std=5.0, cross=(5 / 12, 9 / 12), cross_weight=0.3, gain=2.0, readout=_SEGMENT, fit="aspect"),
    # the polar factor by five steps; with the exact one (an SVD) it is another method. alpha is .3 on Cityscapes and ADE20K
    Recipe("pearl", "q-k attention of keys rotated onto the queries, plus k-k, in the last block",
           "PEARL (Pei et al., arXiv 2603.21528), PGSmall/PEARL",
           blocks=1, terms=("procrustes",), procrustes_weight=0.08, readout=_SEGMENT, fit="aspect"),
    # its attention alone; blocks 6, 7 and 9 of the twelve that its code is for
    Recipe("itaclip", "q-q plus k-k attention of the last and of middle blocks, without MLP",
           "ITACLIP (Aydin et al., CVPR Workshops 2025), m-arda-aydn/ITACLIP",
           blocks=1, terms=("qq", "kk"), combine="sum", cross_blocks=(6 / 12, 7 / 12, 9 / 12), cross_terms="own", cross_weight=0.5,
           residual=True, readout=_SEGMENT, fit="aspect"),
    # one picture's features alone: the official code reads square crops
    Recipe("sc_clip", "the last block over repaired patches, a map of middle blocks' similarity, and a second pass over their sum",
           "SC-CLIP (Bai et al., arXiv 2411.15869), SuleBai/SC-CLIP", path="sc-clip", readout=_SEGMENT, fit="aspect"),
    Recipe("sfp", "the same with outliers found by the class token's attention, and q-q attention beside k-k",
           "SFP (Jin et al., ICCV 2025), Kimsure/SFP", path="sfp", readout=_SEGMENT, fit="aspect"),
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
    # q and k behind the out-projection, as in its evaluation scripts; compares="plain" is its notebook's form
    Recipe("grad_eclip", "the class token's gradient on values, weighted by q-k similarity", _GRAD_ECLIP,
           reads="grad-eclip", one_head=True, position="bicubic", readout=_ON_GRID),
    Recipe("rollout", "mean attention with the residual, multiplied through all blocks; the same for every text",
           "attention rollout (Abnar and Zuidema, ACL 2020), samiraabnar/attention_flow",
           reads="rollout", position="bicubic-antialias", readout=_RELEVANCE, template="plain"),
    # without Stable Diffusion and crops; attention_thr is .1, .2 or .35 in its configurations
    Recipe("cliper", "every block's input through the last block, by the balanced sum of all blocks' attention",
           "CLIPer (Sun et al., ICCV 2025), linsun449/cliper.code",
           reads="cliper", start=-1, target="softmax", cutoff=0.2, position="bilinear", readout=_RELEVANCE, fit="aspect"),
    *(Recipe(f"anchor_{term}", f"{term[0]}-{term[1]} attention of the patch most similar to the text, last block", _ANCHOR,
             reads="anchor", terms=(term,), start=-1, position="bilinear", readout=_ON_GRID, template="surgery85")
      for term in ("qk", "vv", "qq", "kk")),
)
RECIPES: dict[str, Recipe] = {row.name: row for row in _ROWS}

_READOUT_FIELDS = ("score", "order", "logit_scale", "reverse")


def recipe(name: str, /, *, official: bool = False, **changes: Any) -> Recipe:
    """The named method, with fields of its Recipe or ReadOut changed: `recipe("gem", inv_temp=20.0, order="grid")`.

    official: exactly as in the authors' code, see `fastloc.recipes.official`; changes override it.

    Raises:
        RecipeError: an unknown name or field, or values that contradict one another.
    """
    if name not in RECIPES:
        raise RecipeError(unknown("method", name, sorted(RECIPES)))
    row, changes = RECIPES[name], {**official_form(name, official).changes, **changes}
    known = [field for field in row.__dataclass_fields__ if field not in ("name", "summary", "source", "readout")]
    for field in changes:
        if field not in (*known, *_READOUT_FIELDS):
            raise RecipeError(unknown("recipe field", field, (*known, *_READOUT_FIELDS)))
    readout = replace(row.readout, **{field: value for field, value in changes.items() if field in _READOUT_FIELDS})
    return replace(row, readout=readout, **{field: value for field, value in changes.items() if field not in _READOUT_FIELDS})
