"""Grad-CAM, Grad-CAM++ and LayerCAM on the map of any stage of a hierarchical tower.

Behind the last map there is the head alone, whose gradient is written out. For an earlier stage autograd takes it back through the stages
behind, text by text: these are of several families' kinds, and a pass of autograd through them takes what a written one would.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical import tree
from fastloc.checkpoints.hierarchical.weights import Head, HierarchicalWeights
from fastloc.functional import vjp
from fastloc.functional.hierarchical.cells import embedding, head_gradient, rows_of
from fastloc.functional.hierarchical.stages import MAPS, last
from fastloc.functional.methods.cam import WEIGHINGS
from fastloc.functional.slices import written
from fastloc.functional.target import at_unit_embedding
from fastloc.recipes import Recipe

__all__ = ["maps", "wide"]


def wide(head: Head) -> Head:
    """The head in float32 at least, as gradients need it."""
    return tree.mapped(head, Tensor, vjp.upcast)


def maps(
    weights: HierarchicalWeights, head: Head, recipe: Recipe, pixels: Tensor, texts: Tensor, beside: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recipe's `cam` on the stage of its `start`: maps [B, T, h, w], not negative, and the cosines of image and texts [B, T].

    Args:
        weights: folded. head: `wide`.
        pixels: [B, 3, H, W], normalised. texts: [T, E] of unit length. beside: [E], see `fastloc.functional.similarity.answer`.

    Both results are float32 at least. A pass for an earlier stage than the last holds the maps of all stages.
    """
    given = pixels.to(weights.dtype)
    if recipe.start in (0, -1):
        x = last(MAPS[weights.spec.family](weights.trunk, given))
        gradient, strength, cosine = _at_last(weights, head, recipe, x, texts, beside)
        if recipe.cam == "grad-cam":
            return _of_mean(x, gradient, strength), cosine
        return _weighed(recipe, x, _as_maps(gradient, x, head), strength), cosine
    with torch.inference_mode(False), torch.enable_grad():
        # autograd keeps no tensor of inference mode
        stages = list(MAPS[weights.spec.family](weights.trunk, given.clone().requires_grad_()))
        end, read = stages[-1], stages[recipe.start]
        with torch.no_grad():
            gradient, strength, cosine = _at_last(
                weights, head, recipe, end.detach(), texts.clone(), None if beside is None else beside.clone()
            )
            whole = _as_maps(gradient, end, head).expand(-1, *end.shape).to(end)
        found: Tensor | None = None
        for i in range(len(texts)):
            at_read = torch.autograd.grad(end, read, whole[i], retain_graph=True)[0]
            made = _weighed(recipe, read.detach(), vjp.upcast(at_read)[None], strength[:, i : i + 1])
            found = written(found, made, slice(i, i + 1), len(texts))
    assert found is not None
    return found, cosine


def _at_last(
    weights: HierarchicalWeights, head: Head, recipe: Recipe, x: Tensor, texts: Tensor, beside: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of every text's score at the cells of the last map, to be multiplied by a factor; the factor; and the cosines.

    Returns: [B, T, P, C], or [B, T, 1, C] where all cells share it; [B, T]; [B, T].
    """
    x = vjp.upcast(x)
    z = embedding(head, x)
    texts = texts.to(z.dtype)
    compared = texts if beside is None else torch.cat([texts, beside[None].to(texts)])
    cosine = F.normalize(z, dim=-1) @ compared.T
    towards, strength = at_unit_embedding(z, texts, recipe, weights.logit_scale)
    gradient, shrink = vjp.unit(towards, z)
    return head_gradient(head, x, gradient), strength * shrink / (x.shape[2] * x.shape[3]), cosine


def _as_maps(gradient: Tensor, x: Tensor, head: Head) -> Tensor:
    """The gradient [B, T, 1 or P, C] at the map x [B, C, h, w], texts first: [T, B, C, h, w], or [T, B, C, 1, 1] where cells share it."""
    apart = head.norm is not None and head.norm_first
    grid = (x.shape[2], x.shape[3]) if apart else (1, 1)
    turned = gradient.permute(1, 0, 3, 2)
    return turned.reshape(*turned.shape[:3], *grid)


def _weighed(recipe: Recipe, x: Tensor, gradient: Tensor, strength: Tensor) -> Tensor:
    """Maps [B, T, h, w] of x [B, C, h, w], a gradient [T, B, C, h or 1, w or 1] and its factor [B, T]."""
    weigh, factor = WEIGHINGS[recipe.cam], strength.T[:, :, None, None]
    # Grad-CAM++ alone depends on the score's scale: the others are computed before the factor, which may be tiny
    scaled = recipe.cam == "grad-cam++"
    found = weigh(vjp.upcast(x), gradient * factor[..., None] if scaled else gradient)
    return (found if scaled else found * factor).transpose(0, 1)


def _of_mean(x: Tensor, gradient: Tensor, strength: Tensor) -> Tensor:
    """Grad-CAM as one product of the cells [B, C, h, w] and the mean of the gradient [B, T, 1 or P, C], times its factor: [B, T, h, w]."""
    found = F.relu(gradient.mean(2) @ rows_of(vjp.upcast(x)).transpose(1, 2)) * strength[..., None]
    return found.reshape(*found.shape[:2], *x.shape[2:])
