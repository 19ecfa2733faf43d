"""Hierarchical towers as functions: `forward(weights, pixels, recipe) -> Output`. Nothing is hooked.

A row of `FORMS` describes what a method reads of a tower. There is no class token and no attention behind the last map: its mean goes
through the head, so a cell in the texts' space is the head of that cell alone. FastViT attends over its whole grid in the last stage, which
has a local path (`self_self`); other methods without a row exist only on plain transformers.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.hierarchical.weights import Head, HierarchicalWeights, folded
from fastloc.errors import RecipeError, unknown
from fastloc.functional import readout
from fastloc.functional.hierarchical import fastvit, grad_cam, self_self
from fastloc.functional.hierarchical.cells import cells, embedding
from fastloc.functional.hierarchical.inputs import check_input
from fastloc.functional.hierarchical.stages import MAPS, last
from fastloc.functional.output import Output
from fastloc.functional.similarity import Read
from fastloc.recipes import RECIPES, Recipe
from fastloc.recipes import recipe as named

__all__ = [
    "FORMS", "TARGETS", "Form", "Prepared", "answer", "check", "check_pixels", "encode", "form_of", "forward", "prepare", "relevance",
]  # fmt: skip

# the targets that Grad-CAM differentiates here: those of the recipe's that score the image embedding
TARGETS = ("cosine", "logit", "softmax")
# the fields that any method may change
_EVERYWHERE = ("readout", "template", "fit")


@dataclass(frozen=True)
class Form:
    """The parts of a hierarchical tower that a method reads.

    relevance: Grad-CAM and its kin, else every cell of the last map through the head. local: of the local path's last map, in place of the
        encoder's.
    fields: the recipe's fields that have an effect here, besides its read-out, template and fit.
    """

    relevance: bool = False
    local: bool = False
    fields: tuple[str, ...] = ()


FORMS = {
    # every cell through the head: the class activation map of each text where the head is linear, see `cells`; of a ConvNeXt, whose norm
    # and MLP belong to the mean, an extension. There is no residual stream with two readings, so MaskCLIP would be the same map.
    "itsm": Form(),
    "rclip": Form(),
    # Grad-CAM (Selvaraju et al., ICCV 2017) on the last map, or with `start` on an earlier, finer one
    "grad_cam": Form(relevance=True, fields=("start", "target", "target_scale", "cam")),
}
# a recipe's attention terms in the last stage of a FastViT, see `self_self` for what is exact and what nobody published
LOCAL = Form(
    local=True,
    fields=("blocks", "terms", "combine", "unit", "iterations", "inv_temp", "rho", "bias_std", "procrustes_weight", "residual", "mlp"),
)


@dataclass(frozen=True)
class Prepared:
    """One tower, folded for one recipe."""

    weights: HierarchicalWeights  # folded
    recipe: Recipe
    form: Form
    head: Head  # in float32 at least where gradients are formed of it, else the weights' own
    local: self_self.Prepared | None = None


def forward(weights: HierarchicalWeights, pixels: Tensor, recipe: Recipe, *, cls: bool = False) -> Output:
    """Run the image tower the way `recipe` says, in plain PyTorch; differentiable.

    Args:
        weights: of any floating dtype; it is the dtype of the whole pass.
        pixels: [B, 3, H, W], normalised, H and W multiples of the tower's stride; any batch.
        cls: also return the encoder's own image embedding.

    Raises:
        ModelError: the shape of `pixels` does not fit. RecipeError: the method does not exist on hierarchical towers, or reads text
        gradients (`relevance` is its function).
    """
    check_pixels(pixels, weights.spec)
    prepared = prepare(weights, recipe)
    if prepared.form.relevance:
        raise RecipeError(
            f"method {recipe.name!r} has no patch features of its own: call fastloc.functional.hierarchical.forms.relevance with the texts"
        )
    return encode(prepared, pixels, cls=cls)


def form_of(recipe: Recipe, spec: HierarchicalSpec) -> Form | None:
    """The parts of this tower that a recipe reads; None where it exists only on plain transformers."""
    if recipe.name not in FORMS and spec.attending and self_self.why_not(recipe) is None:
        return LOCAL
    return FORMS.get(recipe.name)


def check(recipe: Recipe, spec: HierarchicalSpec, name: str = "this model") -> None:
    """Raise RecipeError for a method that does not exist on hierarchical towers, and for a changed field that nothing there reads."""
    form = form_of(recipe, spec)
    if form is None:
        known = ", ".join(name for name, row in RECIPES.items() if form_of(row, spec))
        raise RecipeError(
            f"method {recipe.name!r} is one of plain transformers, and {name} is a {spec.family}, whose grid shrinks from stage to stage; "
            f"there are: {known}"
        )
    if form.local:
        self_self.check_blocks(recipe, spec.attending)
    # the authors' form too, some of whose fields have no effect here
    usual = [named(recipe.name, official=official) for official in (False, True)] if recipe.name in RECIPES else [recipe]
    for field in fields(Recipe):
        values = [getattr(row, field.name) for row in usual]
        if getattr(recipe, field.name) not in values and field.name not in (*form.fields, *_EVERYWHERE):
            meant = ", ".join((*form.fields, "order, score, logit_scale, reverse, template and fit"))
            raise RecipeError(
                f"{field.name} means nothing to {recipe.name!r} on a {spec.family}, and {name} is one; what can be changed: {meant}"
            )
    if form.relevance and recipe.target not in TARGETS:
        raise RecipeError(unknown(f"target on a {spec.family}", recipe.target, TARGETS))
    if form.relevance and not -spec.arch.stages <= recipe.start <= 0:
        raise RecipeError(
            f"start of {recipe.name!r} on a {spec.family} must be a stage counted from the end, -1 … -{spec.arch.stages}, or 0 for the "
            f"last one, got {recipe.start!r}; give one of these"
        )


def prepare(weights: HierarchicalWeights, recipe: Recipe) -> Prepared:
    """Fold `weights` for `recipe`. Raises RecipeError, see `check`."""
    check(recipe, weights.spec)
    tower, form = folded(weights), form_of(recipe, weights.spec)
    assert form is not None
    if form.local:
        return Prepared(tower, recipe, form, tower.head, self_self.prepare(tower.trunk, recipe))
    return Prepared(tower, recipe, form, grad_cam.wide(tower.head) if form.relevance else tower.head)


def features(weights: HierarchicalWeights, pixels: Tensor) -> Tensor:
    """The map that the head reads: [B, 3, H, W] -> [B, C, h, w]. In float32 on a GPU convolutions follow PyTorch's setting for TF32."""
    return last(MAPS[weights.spec.family](weights.trunk, pixels.to(weights.dtype)))


def encode(prepared: Prepared, pixels: Tensor, *, cls: bool = False) -> Output:
    """Patch features and, with `cls`, the encoder's own image embedding, of pixels [B, 3, H, W]."""
    if prepared.local is None:
        read = own = features(prepared.weights, pixels)
    else:
        trunk = prepared.local.trunk
        read, own = self_self.finish(prepared.local, fastvit.tokens(trunk, pixels.to(prepared.weights.dtype)))
    return Output(cells(prepared.head, read), embedding(prepared.head, own) if cls else None, (read.shape[2], read.shape[3]))


def answer(
    prepared: Prepared, pixels: Tensor, texts: Tensor, read: Read, *, cls: bool, beside: Tensor | None
) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
    """A method's similarities, the image embedding's cosines and the grid, from normalised pixels of a tower that is ready.

    Args: read: the read-out of patch features; cls: also compare the image embedding; beside [E]: a text that only it is compared with.

    Returns: similarities [B, T, h, w]; cosines [B, T], with `beside` [B, T + 1], or None; (h, w).
    """
    if prepared.form.relevance:
        maps, cosines = relevance(prepared, pixels, texts, beside)
        return maps, cosines, (maps.shape[2], maps.shape[3])
    out = encode(prepared, pixels, cls=cls or beside is not None)
    compared = texts if beside is None else torch.cat([texts, beside[None]])
    return read(out, texts), readout.scores(out, compared), out.grid


def relevance(prepared: Prepared, pixels: Tensor, texts: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Grad-CAM, Grad-CAM++ or LayerCAM, as the recipe's `cam` says: maps [B, T, h, w], not negative, and cosines of image and texts [B, T].

    Of Grad-CAM M = ReLU(sum_k a_k f_k) with a_k the mean over positions of dy/df_k (Selvaraju et al., ICCV 2017, equations 1 and 2), y the
    recipe's target and f the map of the stage that the recipe's `start` names; of the other two see `fastloc.functional.methods.cam`. They
    were published for features that are not negative, and these have both signs. Arguments: see `fastloc.functional.hierarchical.grad_cam`.
    """
    return grad_cam.maps(prepared.weights, prepared.head, prepared.recipe, pixels, texts, beside)


def check_pixels(pixels: Tensor, spec: HierarchicalSpec) -> None:
    """Raise ModelError unless these are normalised floats [B, 3, H, W], H and W multiples of the stride."""
    check_input(pixels, spec.patch, f"{spec.family}'s stride")
