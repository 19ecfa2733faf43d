"""Maps that are no cosines of patch features: gradients in closed form, attention rollout, the attention of one patch, CLIPer's shares.

Every gradient here is that of a score of the image embedding with one text. Its backward runs only through the blocks that the method
needs, for all pictures and texts at once. Where the score reads the class token alone, the last block's gradient enters at one row, and
most products over all tokens become products over one.

An attention pool that makes the embedding is one more attention above the last block, with one query that is no token. Bi-Modal's and
rollout's rows start with it; LeGrad and Grad-ECLIP read only it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.functional import block_trace, target, vjp
from fastloc.functional.attention import unit
from fastloc.functional.block_trace import BlockTrace, at_attention, mean_at_patches, placed, positive
from fastloc.functional.blocks import embed, out_projection
from fastloc.functional.folding import FoldedViT
from fastloc.functional.methods.cliper import levels
from fastloc.functional.methods.patch_cam import patch_cam
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.output import Grid
from fastloc.functional.pools import pooled
from fastloc.functional.position_embedding import Positions
from fastloc.functional.readout import cosine
from fastloc.functional.slices import at_once, in_parts, parts
from fastloc.functional.target import ALL, FIRST, Target, scored, scored_rows, trace_pool
from fastloc.functional.vit import encode


@dataclass(frozen=True)
class Scene:
    """The inputs of a relevance: embedded patches [B, P, C], their positions, grid, and texts [T, E] of unit length.

    empty: [E], the empty text's embedding, for a recipe that reads it (`Recipe.reads_empty`), or [K, E], background words in its place.
    """

    prepared: FoldedViT
    tokens: Tensor
    places: Positions
    grid: Grid
    texts: Tensor
    ops: Ops = TORCH
    empty: Tensor | None = None

    def traces(self, first: int) -> list[BlockTrace]:
        x = embed(self.prepared.weights, self.tokens, self.places, self.ops)
        return block_trace.traces(self.prepared, x, self.places, self.ops, first)

    def last(self) -> tuple[BlockTrace, Target]:
        """The trace of the last block, and the score's gradient at its output."""
        (trace,) = self.traces(self.spec.layers - 1)
        return trace, self.target(trace)

    def target(self, trace: BlockTrace) -> Target:
        return target.target(self.prepared.weights, trace.out, self.texts, self.prepared.recipe)

    def embedding(self, trace: BlockTrace) -> Tensor:
        """The encoder's own image embedding [B, E] from the last block, recomputed if the trace attends with one head."""
        weights, ops = self.prepared.weights, self.ops
        if trace.qkv.packed.shape[3] != self.spec.heads:
            rows = FIRST if trace.out.shape[1] == 1 else ALL
            trace = block_trace.trace(trace.block, trace.x, None, weights.spec, ops, self.places, rows, bias=self.places.bias_of(-1))
        return pooled(weights, trace.out)

    @property
    def spec(self) -> ModelSpec:
        return self.prepared.weights.spec

    @property
    def rows(self) -> slice:
        """The tokens that the score reads."""
        return scored_rows(self.spec, self.prepared.recipe)


# scores [B, T, P], float32 at least, and the image embedding [B, E]
Relevance = Callable[[Scene], tuple[Tensor, Tensor]]


def relevance(scene: Scene) -> tuple[Tensor, Tensor]:
    """The grids [B, T, h, w] that the scene's recipe reads, float32 at least, and the image embedding [B, E], not normalised."""
    scores, embedding = RELEVANCES[scene.prepared.recipe.reads](scene)
    return scores.reshape(*scores.shape[:2], *scene.grid), embedding


def grad_cam(scene: Scene) -> tuple[Tensor, Tensor]:
    """ReLU(weights . y), y the patches of the last block's projection input, weights the mean over these patches of the gradient at y.

    Sources: pytorch-grad-cam's CLIP example, and CLIP-ES, where y is the first LayerNorm. In towers whose norms stand behind, y is the
    stream and the gradient is the attention's. The mean is taken before the projection back, so no text has a gradient for every token
    unless the score reads every token, or queries and keys are rotated or normalised. The recipe's `cam` may be Grad-CAM++ or LayerCAM,
    which read the gradient at every patch (`fastloc.functional.methods.cam`); they were published for features that are not negative.
    """
    trace, target = scene.last()
    if (cam := scene.prepared.recipe.cam) != "grad-cam":
        count, each = scene.texts.shape[0], _whole(trace)
        found = in_parts(count, each, scene.ops.most, lambda texts: patch_cam(cam, trace, target, scene.rows, texts, scene.ops.most))
        return found, scene.embedding(trace)

    def weights(texts: slice) -> Tensor:
        attended = at_attention(trace, target.gradient(texts), scene.rows)
        return mean_at_patches(trace, scene.rows, attended, scene.ops.most)

    each = _whole(trace) if trace.turning else _behind(trace)
    found = in_parts(scene.texts.shape[0], each, scene.ops.most, weights)
    return _activation(scene, found, trace.y, target.strength), scene.embedding(trace)


def grad_cam_input(scene: Scene) -> tuple[Tensor, Tensor]:
    """ReLU(weights . x), x the patches that the last block reads, weights the mean over all tokens of the gradient at x.

    Source: Grad-ECLIP's baseline, generate_emap.py.
    """
    trace, target = scene.last()

    def weights(texts: slice) -> Tensor:
        gradient, _ = block_trace.through_block(trace, scene.rows, target.gradient(texts), most=scene.ops.most)
        return gradient.mean(2)

    found = in_parts(scene.texts.shape[0], _whole(trace), scene.ops.most, weights)
    return _activation(scene, found, trace.x, target.strength), scene.embedding(trace)


def grad_eclip(scene: Scene) -> tuple[Tensor, Tensor]:
    """Grad-ECLIP: ReLU(g . v_i) w_i.

    g is the gradient at the class token's attention output, before the out-projection. w_i is the cosine of the class token's q and patch
    i's k, min-maxed over the patches: after the out-projection (generate_emap.py), or before it where the recipe compares "plain" ones
    (grad_eclip_image.ipynb).

    With an attention pool, its query takes the class token's place, and its attention the last block's.
    """
    if scene.spec.pool == "attn":
        return _grad_eclip_of_pool(scene)
    trace, target = scene.last()
    attended = at_attention(trace, target.gradient(ALL), scene.rows)[:, :, 0]
    q, k, v = (trace.qkv[letter].flatten(2) for letter in "qkv")
    block, spec = trace.block, scene.spec
    q, k = q[:, :1], k[:, spec.prefix :]
    if scene.prepared.recipe.compares == "projected":
        q, k = (out_projection(block, each, spec) for each in (q, k))
    return _activation(scene, attended, v, target.strength) * _spatial(q, k), scene.embedding(trace)


def _grad_eclip_of_pool(scene: Scene) -> tuple[Tensor, Tensor]:
    weights, recipe, prefix = scene.prepared.weights, scene.prepared.recipe, scene.spec.prefix
    (trace,) = scene.traces(scene.spec.layers - 1)
    seen = trace_pool(weights, trace.out, 1 if recipe.one_head else 0)
    at_end, strength = scored(weights, seen.embedding, scene.texts, recipe)
    outputs = seen.at_outputs(at_end).flatten(2)
    pool = seen.pool
    v = F.linear(seen.y, pool.v_w, pool.v_b)
    q, k = F.linear(pool.latent, pool.q_w, pool.q_b)[None, None], F.linear(seen.y[:, prefix:], pool.k_w, pool.k_b)
    if recipe.compares == "projected":
        q, k = (F.linear(each, pool.out_w, pool.out_b) for each in (q, k))
    spatial = _spatial(q.expand(trace.out.shape[0], -1, -1), k)
    return _activation(scene, outputs, v, strength) * spatial, scene.embedding(trace)


def _spatial(q: Tensor, k: Tensor) -> Tensor:
    """The cosines of q [B, 1, C] and k [B, P, C], min-maxed over the patches: [B, 1, P]."""
    alike = cosine(k, unit(vjp.upcast(q)))
    low, high = alike.amin(-1, keepdim=True), alike.amax(-1, keepdim=True)
    return (alike - low) / (high - low).clamp_min(1e-12)


def bi_modal(scene: Scene) -> tuple[Tensor, Tensor]:
    """The row of the scored tokens in R <- R + E R over the blocks from `start` on, E = mean over heads of ReLU(A dy/dA).

    The row is multiplied by the last block's 1 + E, then by that of the block before, and so on: it follows the gradient down the blocks,
    and no R is made.
    With an attention pool it starts as the pool's own E.
    """
    found = scene.traces(scene.prepared.start)
    target = scene.target(found[-1])

    def walk(texts: slice) -> Tensor:
        gradient, strength = target.gradient(texts), target.strength[:, texts]
        row = _scored(scene, found[-1]) if target.seen is None else target.seen[:, texts] * strength[..., None]
        return block_trace.walk_down(found, scene.rows, gradient, row, strength, scene.ops.most)[:, :, scene.spec.prefix :]

    return in_parts(scene.texts.shape[0], _whole(found[0]), scene.ops.most, walk), scene.embedding(found[-1])


def legrad(scene: Scene) -> tuple[Tensor, Tensor]:
    """LeGrad: the sum over the blocks from `start` on of the mean over heads and queries of ReLU(dy/dA).

    y is the cosine of the text with the block's own output, all tokens averaged before the last LayerNorm (legrad/wrapper.py,
    compute_legrad_clip).

    dy/dA_h[n, m] is the gradient at query n's output times value m: one product a block. With an attention pool, A is the pool's for the
    block's own output, see `_legrad_of_pool`.
    """
    weights, found = scene.prepared.weights, scene.traces(scene.prepared.start)
    if scene.spec.pool == "attn":
        terms = [_legrad_of_pool(scene, trace.out) for trace in found]
        return sum(terms[1:], terms[0]), scene.embedding(found[-1])
    terms = []
    for trace in found:
        mean = vjp.upcast(trace.out).mean(1, keepdim=True)
        gradient, strength = target.differentiated(weights, mean, scene.texts, scene.prepared.recipe)

        def of_block(texts: slice, trace: BlockTrace = trace, gradient: Tensor = gradient) -> Tensor:
            return positive(trace, at_attention(trace, gradient[:, texts], ALL), scene.ops.most)

        seen = in_parts(scene.texts.shape[0], _behind(trace), scene.ops.most, of_block)
        terms.append(seen * (strength / trace.out.shape[1])[..., None])
    return sum(terms[1:], terms[0]), scene.embedding(found[-1])


def _legrad_of_pool(scene: Scene, x: Tensor) -> Tensor:
    """One block's term of LeGrad where an attention pool makes the embedding, from the block's output x [B, N, C].

    As published for SigLIP (legrad/wrapper.py, compute_legrad_siglip), a pool that ends with an MLP reads x without the last LayerNorm; its
    correction by the map of "a photo of a" is no part of this. As published for CoCa (compute_legrad_coca), the LayerNorm behind the pool
    is left out, and y is the product of the text with an embedding that is not normalised.
    """
    weights, spec = scene.prepared.weights, scene.spec
    if spec.pool_mlp:
        seen = trace_pool(weights, x, normed=False)
        at_end, strength = scored(weights, seen.embedding, scene.texts, scene.prepared.recipe)
        outputs = seen.at_outputs(at_end)
    else:
        seen = trace_pool(weights, x)
        at_end = target.unprojected(weights, vjp.upcast(scene.texts))[None]
        outputs, strength = seen.by_head(at_end), torch.ones_like(at_end[..., 0])
    return torch.relu(seen.at_maps(outputs)[..., spec.prefix :]).mean(2) * strength[..., None]


def rollout(scene: Scene) -> tuple[Tensor, Tensor]:
    """The row of the scored tokens in the product of (A + 1) / 2 over the blocks from `start` on, A the mean over heads.

    It is the same for every text.
    With an attention pool, the row starts as the mean over heads of the pool's attention.
    """
    found, rows = scene.traces(scene.prepared.start), scene.rows
    pools = scene.spec.pool == "attn"
    row = trace_pool(scene.prepared.weights, found[-1].out).maps.mean(1)[:, None] if pools else _scored(scene, found[-1])
    for trace in reversed(found):
        seen, q = torch.zeros((), device=row.device, dtype=row.dtype), trace.heads("q")[:, :, rows]
        line = q.shape[0] * q.shape[1] * trace.x.shape[1]
        for part in parts(q.shape[2], line, at_once(scene.ops.most, q, line)):
            seen = seen + (row[:, :, None, part] @ trace.maps(q, rows, part))[:, :, 0].mean(1, keepdim=True)
        row, rows = placed(seen, row, rows) / 2, ALL
    # a product, because TensorRT-RTX's builder crashes on the nodes that a repetition exports to
    everywhere = torch.ones_like(scene.texts[None, :, :1]).to(row)
    return row[:, :, scene.spec.prefix :] * everywhere, scene.embedding(found[-1])


def anchor(scene: Scene) -> tuple[Tensor, Tensor]:
    """The attention, in block `start` and by the recipe's one term, of the patch that is most similar to the text in the raw map."""
    recipe, name, prefix = scene.prepared.recipe, f"qkv{scene.prepared.start}", scene.spec.prefix
    out = encode(scene.prepared, scene.tokens, scene.places, scene.grid, scene.ops, cls=True, capture=(name,))
    assert out.cls is not None
    projected = vjp.upcast(out.captured[name])
    queries, keys = (projected[:, "qkv".index(letter)] for letter in recipe.terms[0])
    best = prefix + cosine(out.patches, scene.texts).argmax(-1)
    index = best[:, None, :, None].expand(-1, queries.shape[1], -1, queries.shape[3])
    logits = queries.gather(2, index) * queries.shape[3] ** -0.5 @ keys.transpose(2, 3)
    bias = scene.places.bias_of(scene.prepared.start)
    if bias is not None and recipe.terms[0] == "qk":
        logits = logits + vjp.upcast(bias[0])[:, best].transpose(0, 1)
    maps = torch.softmax(logits, -1)
    shown = maps.mean(1) if recipe.head is None else maps[:, recipe.head]
    return shown[:, :, prefix:], out.cls


def cliper(scene: Scene) -> tuple[Tensor, Tensor]:
    """Shares of the texts in the patches of level `start`, refined by the last level's attention, plus their mean over all levels.

    Source: modified_clip/model.py, CLIPer.forward. A share is one of a softmax over the texts, the background words (or the empty text in
    their place) and the texts' mean; without words and empty text there is no background. Cells below `cutoff` times their map's maximum
    count 0 in level `start`, in the mean too.
    """
    weights, recipe, texts = scene.prepared.weights, scene.prepared.recipe, scene.texts
    x = embed(weights, scene.tokens, scene.places, scene.ops)
    found = levels(scene.prepared, x, scene.places, scene.ops, FIRST if scene.rows == FIRST else ALL)
    background = [] if scene.empty is None else [scene.empty if scene.empty.ndim == 2 else scene.empty[None]]
    rivals = F.normalize(torch.cat([texts, *background, texts.mean(0, keepdim=True)]), dim=-1)
    cosines = cosine(found.patches.flatten(0, 1), rivals)
    shares = torch.softmax(recipe.score_scale(weights.logit_scale) * cosines, 1)[:, : texts.shape[0]]
    by_level = list(shares.reshape(*found.patches.shape[:2], *shares.shape[1:]).unbind())
    chosen = by_level[scene.prepared.start]
    chosen = torch.where(chosen < recipe.cutoff * chosen.amax(-1, keepdim=True), 0.0, chosen)
    by_level[scene.prepared.start] = chosen
    return found.refined(chosen) + sum(by_level[1:], by_level[0]) / len(by_level), scene.embedding(found.last)


RELEVANCES: dict[str, Relevance] = {
    "grad-cam": grad_cam, "grad-cam-input": grad_cam_input, "bi-modal": bi_modal, "legrad": legrad, "grad-eclip": grad_eclip,
    "rollout": rollout, "anchor": anchor, "cliper": cliper,
}  # fmt: skip


# helpers that the methods share


def _activation(scene: Scene, weights: Tensor, x: Tensor, strength: Tensor) -> Tensor:
    """ReLU(weights [B, T, C] . the patches of x [B, N, C]) with the target's strength: [B, T, P]."""
    patches = vjp.upcast(x[:, scene.spec.prefix :])
    return torch.relu(weights @ patches.transpose(1, 2)) * strength[..., None]


def _behind(trace: BlockTrace) -> int:
    """The size of one text's largest tensor in a backward of the MLP, in numbers."""
    return trace.hidden.shape[0] * trace.hidden.shape[1] * trace.hidden.shape[2]


def _whole(trace: BlockTrace) -> int:
    """The size of one text's largest tensor in a backward of a whole block, whose attention runs in slices."""
    return trace.x.shape[0] * trace.x.shape[1] * trace.hidden.shape[2]


def _scored(scene: Scene, trace: BlockTrace) -> Tensor:
    """The share of each scored row in the embedding, [B, 1, R]."""
    rows = vjp.upcast(trace.x[:, None, scene.rows, 0])
    return torch.ones_like(rows) / rows.shape[2]
