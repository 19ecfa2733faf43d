"""A recipe: one method as data, and the checks for fields that contradict one another.

The unified shape: a main path (the untouched encoder) runs always; a local path adds, for each of the last `blocks` blocks,

    local += O( attention of the terms, applied to v )        (LayerScale and out-projection included)

where q, k and v always come from the main path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastloc.errors import RecipeError
from fastloc.imaging.geometry import FITS
from fastloc.imaging.heatmaps import COMPETING
from fastloc.recipes.readout import MODEL, ReadOut
from fastloc.recipes.validation import NEURONS, are_blocks, check_count, frozen, is_neuron_table, is_share, is_table, known, positive

# streams of a term: which projection meets which; the last is that of queries aligned with the keys (PEARL)
TERMS = ("qk", "qq", "kk", "vv", "identity", "procrustes")
# of other blocks: the encoder's own attention, or the recipe's terms
CROSS_TERMS = ("qk", "own")
# the use of the encoder's streams: the sum of `terms`, or the methods of `fastloc.functional.methods.sc_clip`
PATHS = ("local", "sc-clip", "sfp")
POSITION_MODES = ("bicubic-antialias", "bicubic", "bicubic-scale", "bilinear", "bilinear-antialias")
# how a patch passes an attention pool alone: the whole pool, or its values and out-projection without the MLP behind them
PATCH_READS = ("pool", "value")
# the sources of a map besides patch features: the rows of `fastloc.functional.relevance.RELEVANCES`
RELEVANCES = ("grad-cam", "grad-cam-input", "bi-modal", "legrad", "grad-eclip", "rollout", "anchor", "cliper")
# what is differentiated: of the image embedding with each text, or (CLIP-ES) of the mean patch feature in its place
TARGETS = ("cosine", "logit", "softmax", "softmax-of-mean")
COMPARES = ("projected", "plain")
# the weights of a stage's channels or cells: Grad-CAM's, Grad-CAM++'s and LayerCAM's
CAMS = ("grad-cam", "grad-cam++", "layer-cam")

# (block, neurons of its MLP), both counted from 0
NeuronTable = tuple[tuple[int, tuple[int, ...]], ...]
# [blocks, heads, streams, passes] as nested tuples; an axis of length 1 stands for all
Table = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]


@dataclass(frozen=True)
class Recipe:
    """One method.

    blocks: the number of last blocks that feed the local path; 0 is the encoder's own patch tokens.
    path: "local", or in place of the local path and without any of its fields "sc-clip" or "sfp": the last block behind repaired outliers,
        a map that middle blocks' similarity gives, and a second pass over the sum of middle blocks.
    path_blocks: of those two, four blocks counted from 0: whose similarity repairs, whose averages at the end, the first and the last that
        are added up; (8, 3, 3, 9) in the authors' code for every model. Empty: those at the same shares of the depth as there of 12.
    terms: the attentions of the local path, their outputs averaged ("mean") or added ("sum"); of a ResNet see
        `fastloc.functional.resnet.FORMS`.
    unit: L2-normalise each head's projections before they attend to themselves.
    iterations: passes p <- softmax(inv_temp p p^T) p before the last one (GEM; needs `unit`).
    inv_temp: multiplier of the attention logits. None: head_width^-0.5. "adaptive": GEM's, mean over tokens of
        ||LN1(x)|| times head_width^-0.5, per image and block. "matched": per image, block, head, stream and pass, solved for `rho`
        (`fastloc.functional.methods.entropy_matching`). A number, or a Table per block, head, stream and pass.
    rho: the share of all tokens over which a row of unit self-self attention spreads: its mean entropy is log(rho N). Where inv_temp is
        not "matched", it was solved beforehand (`fastloc calibrate`): a Localizer then puts the model's own table in its place.
    bias_std: adds NACLIP's Gaussian of the distance between patches, of this deviation in patches, to the logits.
    procrustes_weight: of the k-k logits of centred keys, which the term "procrustes" adds to those of its aligned queries (PEARL's alpha).
    cross: a share of the depth (from, to), such as (5/12, 9/12), whose blocks' own q-k attention joins the last block's (ResCLIP); that of
        the encoder's last block never does.
    cross_blocks: these blocks in place of a share: numbers counted from 0, or places in the depth as fractions of it below 1 (6/12 is
        block 6 of 12, and 12 of 24).
    cross_terms: the attention of those blocks that joins: "qk", their attention in the encoder, or "own", the recipe's terms (ITACLIP).
    cross_weight, gain: then the map is gain ((1 - cross_weight) terms + cross_weight mean of those).
    residual: the local path starts from the first changed block's input, else from nothing.
    mlp: keep the block's MLP in the local path (one-block methods only).
    position: the resize of the position embedding to another grid.
    keep_position: of a grid with as many patches as the trained one, in another shape, the embedding is left as it is, as in the code of
        CLIP Surgery, SCLIP and its kin; False: it is resized, so that neighbours stay neighbours.
    rotary: in a tower with rotary positions the terms' queries and keys are rotated as in the main path; False: they are not.
    registers: test-time registers: the number of tokens of zeros behind those in front, which take `neurons` over from the patches
        (`fastloc.functional.methods.registers`). Any recipe can have them; they are keys and values, and no map shows them.
    neurons: which neurons of which blocks' MLPs these are; a Localizer puts the model's own in (`fastloc registers`).
    patch_read: of a tower with an attention pool, see PATCH_READS; None for the tower's own (`ModelSpec.patch_read`).
    reads: "patches" (features, which are compared with the texts), or one of RELEVANCES: gradients, rollout, the attention of one patch,
        CLIPer's shares.
    start: the first block that is read, counted from 0, or from the end where negative ("legrad", "bi-modal", "rollout"; "anchor" reads
        this one alone, "cliper" refines the shares of this one's level).
    target: the differentiated score, see TARGETS; a logit is target_scale times the cosine, and a softmax goes over the texts of the call.
        One text alone, whose share is always 1, has its logit differentiated instead.
    target_scale: a number, or "model" for the model's own; LeGrad's target is always the cosine of its own pooled feature.
    one_head: the last block attends with one head as wide as the model, which is another forward pass (Grad-ECLIP).
    compares: of "grad-eclip", the q and k whose cosines weigh the patches: "projected" (behind the out-projection, as the evaluation
        scripts have it) or "plain" (as the block attends with them, as the notebook has it).
    cam: of "grad-cam", the weights of the map that it reads: "grad-cam" (a channel's mean gradient), "grad-cam++" (a sum of its positive
        gradients, each with a share of its own) or "layer-cam" (each cell its own positive gradient).
    head: of "anchor", the one head that is shown; None for the mean.
    cutoff: of "cliper", the share of a map's maximum below which a cell of the refined level counts 0.
    trained: needs projections trained for the model (`fastloc.checkpoints.projections`), which other recipes can have too.
    fit: the authors' fit of a picture to the input size, see `fastloc.imaging.geometry.fit`.
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
    procrustes_weight: float = 0.0
    cross: tuple[float, float] | None = None
    cross_blocks: tuple[int | float, ...] = ()
    cross_terms: str = "qk"
    cross_weight: float = 0.0
    gain: float = 1.0
    residual: bool = False
    mlp: bool = False
    position: str = "bicubic-scale"
    keep_position: bool = False
    rotary: bool = True
    registers: int = 0
    neurons: NeuronTable = ()
    patch_read: str | None = None
    reads: str = "patches"
    start: int = 0
    target: str = "cosine"
    target_scale: float | str = MODEL
    one_head: bool = False
    compares: str = "projected"
    cam: str = "grad-cam"
    head: int | None = None
    cutoff: float = 0.0
    trained: bool = False
    readout: ReadOut = ReadOut()  # noqa: RUF009  # it is frozen
    template: str = "openai80"
    fit: str = "stretch"

    def __post_init__(self) -> None:
        # lists are welcome, a frozen row holds tuples
        object.__setattr__(self, "terms", tuple(self.terms))
        object.__setattr__(self, "path_blocks", tuple(self.path_blocks))
        object.__setattr__(self, "inv_temp", frozen(self.inv_temp))
        object.__setattr__(self, "cross", frozen(self.cross))
        object.__setattr__(self, "cross_blocks", frozen(self.cross_blocks))
        object.__setattr__(self, "neurons", frozen(self.neurons))
        for term in self.terms:
            known("attention term", term, TERMS)
        check_count(self.name, "blocks", self.blocks)
        check_count(self.name, "iterations", self.iterations)
        check_count(self.name, "registers", self.registers)
        known("path", self.path, PATHS)
        known("position mode", self.position, POSITION_MODES)
        known("combine", self.combine, ("mean", "sum"))
        known("cross term", self.cross_terms, CROSS_TERMS)
        known("thing to read", self.reads, ("patches", *RELEVANCES))
        known("target", self.target, TARGETS)
        known("q and k to compare", self.compares, COMPARES)
        known("cam", self.cam, CAMS)
        known("fit", self.fit, tuple(FITS))
        for wrong, message in _contradictions(self):
            if wrong:
                raise RecipeError(f"recipe {self.name!r}: {message}")
        _check_temperature(self)

    def at_scale(self, logit_scale: float) -> Recipe:
        """The recipe with a model's own scale in every field that reads it, so that the recipe alone defines the computation."""
        row = self
        if row.readout.order in COMPETING and row.readout.logit_scale == MODEL:
            row = replace(row, readout=replace(row.readout, logit_scale=logit_scale))
        if row.target != "cosine" and row.target_scale == MODEL:
            row = replace(row, target_scale=logit_scale)
        return row

    def score_scale(self, logit_scale: float) -> float:
        """The scale of the target as a number; `logit_scale` is the model's own."""
        return logit_scale if isinstance(self.target_scale, str) else self.target_scale

    def reads_empty(self, texts: int) -> bool:
        """True where maps of this many texts depend on the empty text's embedding."""
        return self.reads == "cliper" or (self.readout.score == "feature-surgery" and texts == 1)

    @property
    def depth(self) -> str:
        """The number of last blocks that are changed, or read in another way than forwards, in words: "6", "all", "1 at 9"."""
        if self.path != "local":
            return "1"
        if self.reads == "patches":
            return str(self.blocks)
        if self.reads == "anchor":
            return "1" if self.start == -1 else f"1 at {self.start}"
        if self.reads == "cliper":
            return "all"
        if self.reads in ("bi-modal", "legrad", "rollout"):
            return str(-self.start) if self.start < 0 else f"from {self.start}" if self.start else "all"
        return "1"

    @property
    def crosses(self) -> bool:
        """True where attention of blocks before the last one joins the map."""
        return self.cross is not None or bool(self.cross_blocks)

    @property
    def streams(self) -> tuple[str, ...]:
        """The local path's terms that attend, in the order of a table's axis: all but the identity."""
        if self.reads != "patches":
            return ()
        return tuple(term for term in self.terms if term != "identity")


def _contradictions(r: Recipe) -> list[tuple[bool, str]]:
    """Pairs (True where the fields contradict one another, message) for all fields that cannot go together."""
    self_self = all(term in ("qq", "kk", "vv") for term in r.terms)
    return [
        (r.blocks > 0 and not r.terms, "changed blocks need at least one attention term"),
        (r.terms.count("identity") > 1, "the identity term stands at most once"),
        (r.iterations > 0 and not (r.unit and self_self), "iterations need unit projections and self-self terms"),
        (r.inv_temp == "matched" and not (r.unit and self_self and r.rho),
         "matched temperatures need unit projections, self-self terms and rho"),
        *_of_path(r),
        (r.rho is not None and not (positive(r.rho) and r.rho < 1), f"rho must be a share of the tokens between 0 and 1, got {r.rho!r}"),
        (r.rho is not None and not r.unit, "rho is for unit projections"),
        (r.mlp and r.blocks > 1, f"mlp is kept in one-block recipes only, and blocks is {r.blocks}"),
        (r.bias_std is not None and not positive(r.bias_std), f"bias_std must be a deviation in patches, above 0, got {r.bias_std!r}"),
        (r.procrustes_weight != 0 and not positive(r.procrustes_weight),
         f"procrustes_weight must be a number, 0 or more, got {r.procrustes_weight!r}"),
        (r.procrustes_weight != 0 and "procrustes" not in r.terms, "procrustes_weight is for the term 'procrustes'"),
        (r.unit and "procrustes" in r.terms, "the term 'procrustes' aligns projections as they are: unit must be False"),
        *_of_cross(r),
        (r.compares != "projected" and r.reads != "grad-eclip", f"compares is for what reads 'grad-eclip', not {r.reads!r}"),
        (r.cam != "grad-cam" and r.reads != "grad-cam", f"cam is for what reads 'grad-cam', not {r.reads!r}"),
        (r.target_scale != MODEL and not positive(r.target_scale),
         f"target_scale must be a number above 0, or {MODEL!r} for the model's own, got {r.target_scale!r}"),
        (not is_neuron_table(r.neurons), f"neurons must be {NEURONS}"),
        (bool(r.neurons) and not r.registers, "neurons are for test-time registers; give registers=1 too"),
        *(_of_patches(r) if r.reads == "patches" else _of_relevance(r)),
        (r.bias_std is not None and (r.iterations > 0 or "identity" in r.terms), "a neighbour bias needs plain attention terms"),
    ]  # fmt: skip


def _of_cross(r: Recipe) -> list[tuple[bool, str]]:
    one_temperature = r.inv_temp is None or positive(r.inv_temp)
    return [
        (r.cross is not None and not is_share(r.cross),
         f"cross must be two shares of the depth, 0 … 1, the smaller first, got {r.cross!r}"),
        (not are_blocks(r.cross_blocks),
         f"cross_blocks must be numbers of blocks, counted from 0, or fractions of the depth below 1, got {r.cross_blocks!r}"),
        (r.cross is not None and bool(r.cross_blocks), "cross and cross_blocks are two ways to name the same blocks; give one of them"),
        (r.crosses and (r.blocks != 1 or not r.streams), "cross attention joins that of the last block: blocks=1, and a term"),
        (not r.crosses and (r.cross_weight, r.gain, r.cross_terms) != (0.0, 1.0, "qk"),
         "cross_weight, gain and cross_terms are for cross attention; give cross or cross_blocks too"),
        (r.cross_terms == "own" and not one_temperature, "terms of other blocks have one temperature: inv_temp None or a number above 0"),
        (not 0 <= r.cross_weight <= 1, f"cross_weight must be a share in 0 … 1, got {r.cross_weight!r}"),
        (not positive(r.gain), f"gain must be a number above 0, got {r.gain!r}"),
    ]  # fmt: skip


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
         f"path_blocks must be four blocks counted from 0, the third not behind the fourth, got {r.path_blocks!r}"),
    ]  # fmt: skip


def _of_patches(r: Recipe) -> list[tuple[bool, str]]:
    return [
        (r.readout.score == "relevance", "the score 'relevance' is for recipes that read something else than patches"),
        ((r.start, r.head, r.one_head, r.target) != (0, None, False, "cosine"),
         "start, head, one_head and target are for recipes that read something else than patches"),
        (r.cutoff != 0, "cutoff is for recipes that read 'cliper'"),
    ]  # fmt: skip


def _of_relevance(r: Recipe) -> list[tuple[bool, str]]:
    anchor = r.reads == "anchor"
    local = (r.blocks, r.unit, r.iterations, r.inv_temp, r.bias_std, r.residual, r.mlp, r.combine)
    return [
        (r.readout.score != "relevance", f"what {r.reads!r} gives is a score already: its score is 'relevance', not {r.readout.score!r}"),
        (local != (0, False, 0, None, None, False, False, "mean"), f"{r.reads!r} has no local path, so no field of one can be changed"),
        (not anchor and bool(r.terms), f"terms are for what is read as 'patches' or 'anchor', not {r.reads!r}"),
        (anchor and (len(r.terms) != 1 or r.terms[0] in ("identity", "procrustes")), "an anchor's attention is one term: qk, qq, kk or vv"),
        (type(r.start) is not int, f"start must be a block, counted from 0, or from the end where negative, got {r.start!r}"),
        (r.head is not None and (not anchor or type(r.head) is not int or r.head < 0),
         f"head must be one head of an anchor's block, got {r.head!r}"),
        (r.one_head and r.reads in ("legrad", "rollout", "anchor", "cliper"), f"{r.reads!r} reads the encoder's own heads"),
        (r.target == "softmax-of-mean" and not r.reads.startswith("grad-cam"),
         f"{r.reads!r} reads the class token, and no mean of patches"),
        (r.reads in ("legrad", "rollout", "anchor") and r.target != "cosine", f"{r.reads!r} has no target to choose"),
        (r.reads == "cliper" and r.target != "softmax",
         f"target must be 'softmax' for 'cliper', which shares a patch out among texts, got {r.target!r}"),
        (r.cutoff != 0 and r.reads != "cliper", f"cutoff is for recipes that read 'cliper', not {r.reads!r}"),
        (r.cutoff != 0 and not (positive(r.cutoff) and r.cutoff <= 1), f"cutoff must be a share in 0 … 1, got {r.cutoff!r}"),
    ]  # fmt: skip


def _check_temperature(r: Recipe) -> None:
    """Raise RecipeError for an inverse temperature that is none, or a table that does not fit the recipe."""
    if r.inv_temp is None or r.inv_temp in ("adaptive", "matched") or positive(r.inv_temp):
        return
    if not isinstance(r.inv_temp, tuple):
        rule = "None, 'adaptive', 'matched', a number above 0 or a table"
        raise RecipeError(f"recipe {r.name!r}: inv_temp must be {rule}, got {r.inv_temp!r}")
    axes = (r.blocks, None, len(r.streams), r.iterations + 1)
    if not is_table(r.inv_temp, axes):
        raise RecipeError(
            f"recipe {r.name!r}: the inv_temp table must be nested tuples of numbers above 0, "
            f"[blocks {axes[0]}, heads, streams {axes[2]}, passes {axes[3]}], an axis of length 1 standing for all"
        )
