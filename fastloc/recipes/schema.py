"""A recipe: one method as data, and which values of its fields cannot go together.

The unified shape: a main path (the untouched encoder) runs always; a local path adds, for each of the last `blocks` blocks,

    local += O( attention of the terms, applied to v )        (LayerScale and out-projection included)

where q, k and v always come from the main path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastloc.errors import RecipeError
from fastloc.imaging.geometry import FITS
from fastloc.imaging.heatmaps import ORDERS
from fastloc.recipes.validation import check_count, frozen, is_share, is_table, known, positive

# what cosines are multiplied by before a softmax over texts, where weights come without a scale: CLIP's own at the end of its training
LOGIT_SCALE = 100.0
# in a scale's place: that of the model, exp(logit_scale) of its checkpoint
MODEL = "model"
# streams of a term: which projection meets which
TERMS = ("qk", "qq", "kk", "vv", "identity")
# what becomes of the encoder's streams: the sum of `terms`, or the methods of `fastloc.functional.methods.sc_clip`
PATHS = ("local", "sc-clip", "sfp")
POSITION_MODES = ("bicubic-antialias", "bicubic", "bicubic-scale", "bilinear")
# how a patch passes an attention pool alone: the whole pool, or its values and out-projection without the MLP behind them
PATCH_READS = ("pool", "value")
SCORES = ("cosine", "feature-surgery", "relevance")
# what a map is read from besides patch features: the rows of `fastloc.functional.relevance.RELEVANCES`
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
    logit_scale: a number where the authors fix one, or "model" for the model's own; see `Recipe.at_scale`.
    reverse: RCLIP's |1 - M| of the min-maxed map.
    """

    score: str = "cosine"
    order: str = "picture"
    logit_scale: float | str = MODEL
    reverse: bool = False

    def __post_init__(self) -> None:
        known("score", self.score, SCORES)
        known("order", self.order, tuple(ORDERS))
        if self.logit_scale != MODEL and not positive(self.logit_scale):
            raise RecipeError(f"logit_scale is {self.logit_scale!r}; it is a number above 0, or {MODEL!r} for the model's own")
        if self.reverse and self.order not in ("grid", "picture"):
            raise RecipeError(f"reverse needs a min-maxed map, order 'grid' or 'picture', not {self.order!r}")

    @property
    def scale(self) -> float | None:
        """The scale as a number, or None where the order needs none and none is given.

        Raises RecipeError for the model's own where no model was asked, see `Recipe.at_scale`.
        """
        if not isinstance(self.logit_scale, str):
            return self.logit_scale
        if self.order == "softmax":
            raise RecipeError(f"logit_scale must be a number to draw maps, got {self.logit_scale!r}; Recipe.at_scale puts a model's in")
        return None


@dataclass(frozen=True)
class Recipe:
    """One method.

    blocks: how many of the last blocks feed the local path (a count; 0 is the encoder's own patch tokens).
    path: "local", or in place of the local path and without any of its fields "sc-clip" or "sfp": the last block behind repaired outliers,
        a map that middle blocks' similarity gives, and a second pass over the sum of middle blocks.
    path_blocks: of those two, four blocks counted from 0: whose similarity repairs, whose averages at the end, the first and the last that
        are added up; (8, 3, 3, 9) in the authors' code for every model. Empty: those at the same shares of the depth as there of 12.
    terms: the attentions of the local path, their outputs averaged ("mean") or added ("sum").
    unit: L2-normalise each head's projections before they attend to themselves.
    iterations: passes p <- softmax(inv_temp p p^T) p before the last one (GEM; needs `unit`).
    inv_temp: multiplier of the attention logits. None: head_width^-0.5. "adaptive": GEM's, mean over tokens of
        ||LN1(x)|| times head_width^-0.5, per image and block. "matched": per image, block, head, stream and pass, solved for `rho`
        (`fastloc.functional.methods.entropy_matching`). A number, or a Table per block, head, stream and pass.
    rho: the share of all tokens over which a row of unit self-self attention spreads: its mean entropy is log(rho N). Where inv_temp is
        not "matched", it was solved beforehand (`fastloc calibrate`): a Localizer then puts the model's own table in its place.
    bias_std: adds NACLIP's Gaussian of the distance between patches, of this deviation in patches, to the logits.
    cross: a share of the depth (from, to), such as (5/12, 9/12), whose blocks' own q-k attention joins the last block's (ResCLIP); those of
        the encoder's last block never do.
    cross_weight, gain: then the map is gain ((1 - cross_weight) terms + cross_weight mean of those).
    residual: the local path starts from the first changed block's input, else from nothing.
    mlp: keep the block's MLP in the local path (one-block methods only).
    position: how the position embedding is resized to another grid.
    rotary: in a tower with rotary positions the terms' queries and keys are rotated as in the main path; False: they are not.
    patch_read: of a tower with an attention pool, see PATCH_READS; None for the tower's own (`ModelSpec.patch_read`).
    reads: "patches" (features, which are compared with the texts), or one of RELEVANCES: gradients, rollout, the attention of one patch.
    start: the first block that is read, counted from 0, or from the end where negative ("legrad", "bi-modal", "rollout"; "anchor" reads
        this one alone).
    target: what is differentiated, see TARGETS; a logit is target_scale times the cosine, and a softmax goes over the texts of the call.
        One text alone, whose share is always 1, has its logit differentiated instead.
    target_scale: a number, or "model" for the model's own; LeGrad's target is always the cosine of its own pooled feature.
    one_head: the last block attends with one head as wide as the model, which is another forward pass (Grad-ECLIP).
    head: of "anchor", the one head that is shown; None for the mean.
    trained: needs projections trained for the model (`fastloc.checkpoints.projections`), which other recipes can have too.
    fit: how the authors bring a picture to the input size, see `fastloc.imaging.geometry.fit`.
    """

    name: str
    summary: str
    source: str
    blocks: int = 0
    path: str = "local"
    path_blocks: tuple[int, ...] = ()
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
    rotary: bool = True
    patch_read: str | None = None
    reads: str = "patches"
    start: int = 0
    target: str = "cosine"
    target_scale: float | str = MODEL
    one_head: bool = False
    head: int | None = None
    trained: bool = False
    readout: ReadOut = ReadOut()
    template: str = "openai80"
    fit: str = "stretch"

    def __post_init__(self) -> None:
        # lists are welcome, a frozen row holds tuples
        object.__setattr__(self, "terms", tuple(self.terms))
        object.__setattr__(self, "path_blocks", tuple(self.path_blocks))
        object.__setattr__(self, "inv_temp", frozen(self.inv_temp))
        object.__setattr__(self, "cross", frozen(self.cross))
        for term in self.terms:
            known("attention term", term, TERMS)
        check_count(self.name, "blocks", self.blocks)
        check_count(self.name, "iterations", self.iterations)
        known("path", self.path, PATHS)
        known("position mode", self.position, POSITION_MODES)
        known("combine", self.combine, ("mean", "sum"))
        known("thing to read", self.reads, ("patches", *RELEVANCES))
        known("target", self.target, TARGETS)
        known("fit", self.fit, tuple(FITS))
        for wrong, message in _contradictions(self):
            if wrong:
                raise RecipeError(f"recipe {self.name!r}: {message}")
        _check_temperature(self)

    def at_scale(self, logit_scale: float) -> Recipe:
        """The recipe with a model's own scale in every place that reads it, so that it says all that is computed."""
        row = self
        if row.readout.order == "softmax" and row.readout.logit_scale == MODEL:
            row = replace(row, readout=replace(row.readout, logit_scale=logit_scale))
        if row.target != "cosine" and row.target_scale == MODEL:
            row = replace(row, target_scale=logit_scale)
        return row

    def score_scale(self, logit_scale: float) -> float:
        """The scale of the target as a number; `logit_scale` is the model's own."""
        return logit_scale if isinstance(self.target_scale, str) else self.target_scale

    @property
    def depth(self) -> str:
        """How many of the last blocks are changed, or read in another way than forwards, in words: "6", "all", "1 at 9"."""
        if self.path != "local":
            return "1"
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


def _contradictions(r: Recipe) -> list[tuple[bool, str]]:
    """(it is so, what is wrong with it) for every pair of fields that cannot go together."""
    self_self = all(term in ("qq", "kk", "vv") for term in r.terms)
    return [
        (r.blocks > 0 and not r.terms, "changed blocks need at least one attention term"),
        (r.terms.count("identity") > 1, "the identity term stands at most once"),
        (r.iterations > 0 and not (r.unit and self_self), "iterations need unit projections and self-self terms"),
        (r.inv_temp == "matched" and not (r.unit and self_self and r.rho),
         "matched temperatures need unit projections, self-self terms and rho"),
        *_of_path(r),
        (r.rho is not None and not (positive(r.rho) and r.rho < 1), f"rho is {r.rho!r}; a share of the tokens between 0 and 1 is wanted"),
        (r.rho is not None and not r.unit, "rho is for unit projections"),
        (r.mlp and r.blocks > 1, f"mlp is kept in one-block recipes only, and blocks is {r.blocks}"),
        (r.bias_std is not None and not positive(r.bias_std), f"bias_std is {r.bias_std!r}; it is a deviation in patches, above 0"),
        (
            r.cross is not None and not is_share(r.cross),
            f"cross is {r.cross!r}; two shares of the depth, 0 … 1, are wanted, the smaller first",
        ),
        (r.cross is not None and (r.blocks != 1 or not r.streams), "cross attention joins that of the last block: blocks=1, and a term"),
        (r.cross is None and (r.cross_weight, r.gain) != (0.0, 1.0), "cross_weight and gain are for cross attention; give cross too"),
        (not 0 <= r.cross_weight <= 1, f"cross_weight is {r.cross_weight!r}; a share in 0 … 1 is wanted"),
        (not positive(r.gain), f"gain is {r.gain!r}; it is a number above 0"),
        *(_of_patches(r) if r.reads == "patches" else _of_relevance(r)),
        (r.bias_std is not None and (r.iterations > 0 or "identity" in r.terms), "a neighbour bias needs plain attention terms"),
    ]


def _of_path(r: Recipe) -> list[tuple[bool, str]]:
    numbers = all(type(each) is int and each >= 0 for each in r.path_blocks)
    fits = len(r.path_blocks) == 4 and numbers and r.path_blocks[2] <= r.path_blocks[3]
    if r.path == "local":
        return [(bool(r.path_blocks), "path_blocks are for the paths 'sc-clip' and 'sfp'")]
    local = (r.blocks, r.terms, r.combine, r.unit, r.iterations, r.inv_temp, r.rho, r.bias_std, r.cross, r.residual, r.mlp)
    return [
        (r.reads != "patches", f"path {r.path!r} gives patch features, and what is read is {r.reads!r}"),
        (local != (0, (), "mean", False, 0, None, None, None, None, False, False),
         f"path {r.path!r} stands in the local path's place, so no field of one can be changed"),
        (bool(r.path_blocks) and not fits,
         f"path_blocks is {r.path_blocks!r}; four blocks counted from 0 are wanted, the third not behind the fourth"),
    ]  # fmt: skip


def _of_patches(r: Recipe) -> list[tuple[bool, str]]:
    return [
        (r.readout.score == "relevance", "the score 'relevance' is for recipes that read something else than patches"),
        ((r.start, r.head, r.one_head, r.target) != (0, None, False, "cosine"),
         "start, head, one_head and target are for recipes that read something else than patches"),
    ]  # fmt: skip


def _of_relevance(r: Recipe) -> list[tuple[bool, str]]:
    anchor = r.reads == "anchor"
    local = (r.blocks, r.unit, r.iterations, r.inv_temp, r.bias_std, r.residual, r.mlp, r.combine)
    return [
        (r.readout.score != "relevance", f"what {r.reads!r} gives is a score already: its score is 'relevance', not {r.readout.score!r}"),
        (local != (0, False, 0, None, None, False, False, "mean"), f"{r.reads!r} has no local path, so no field of one can be changed"),
        (not anchor and bool(r.terms), f"terms are for what is read as 'patches' or 'anchor', not {r.reads!r}"),
        (anchor and (len(r.terms) != 1 or r.terms[0] == "identity"), "an anchor's attention is one term: qk, qq, kk or vv"),
        (type(r.start) is not int, f"start is {r.start!r}; it is a block, counted from 0, or from the end where negative"),
        (r.head is not None and (not anchor or type(r.head) is not int or r.head < 0),
         f"head is {r.head!r}; it is one head of an anchor's block"),
        (r.target_scale != MODEL and not positive(r.target_scale),
         f"target_scale is {r.target_scale!r}; it is a number above 0, or {MODEL!r} for the model's own"),
        (r.one_head and r.reads in ("legrad", "rollout", "anchor"), f"{r.reads!r} reads the encoder's own heads"),
        (r.target == "softmax-of-mean" and not r.reads.startswith("grad-cam"),
         f"{r.reads!r} reads the class token, and no mean of patches"),
        (r.reads in ("legrad", "rollout", "anchor") and r.target != "cosine", f"{r.reads!r} has no target to choose"),
    ]  # fmt: skip


def _check_temperature(r: Recipe) -> None:
    """Raise RecipeError for an inverse temperature that is none, or a table that does not fit the recipe."""
    if r.inv_temp is None or r.inv_temp in ("adaptive", "matched") or positive(r.inv_temp):
        return
    if not isinstance(r.inv_temp, tuple):
        allowed = "None, 'adaptive', 'matched', a number above 0 or a table is wanted"
        raise RecipeError(f"recipe {r.name!r}: inv_temp is {r.inv_temp!r}; {allowed}")
    wanted = (r.blocks, None, len(r.streams), r.iterations + 1)
    if not is_table(r.inv_temp, wanted):
        raise RecipeError(
            f"recipe {r.name!r}: the inv_temp table does not fit; it is nested tuples of numbers above 0, "
            f"[blocks {wanted[0]}, heads, streams {wanted[2]}, passes {wanted[3]}], an axis of length 1 standing for all"
        )
