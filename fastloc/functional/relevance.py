"""Maps that are not read from patch features: gradients in closed form, attention rollout, the attention of one patch.

Every gradient here is that of a score of the image embedding with one text. Its backward runs through the blocks that the method needs and
through no other, for all pictures and texts at once. Where the score reads the class token alone, the last block's gradient enters at one
row, and most of what looks like a product over all tokens is a product over one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.functional import block_trace, vjp
from fastloc.functional.attention import unit
from fastloc.functional.block_trace import ALL, FIRST, BlockTrace, Target, by_head, of_texts, parts, scored_rows, times, together
from fastloc.functional.folding import FoldedViT
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.pools import pooled
from fastloc.functional.position_embedding import Positions
from fastloc.functional.readout import cosine
from fastloc.functional.vit import Grid, embed, encode


@dataclass(frozen=True)
class Scene:
    """What a relevance is computed from: embedded patches [B, P, C], their positions, grid, texts [T, E] of unit length."""

    prepared: FoldedViT
    tokens: Tensor
    places: Positions
    grid: Grid
    texts: Tensor
    ops: Ops = TORCH

    def traces(self, first: int) -> list[BlockTrace]:
        x = embed(self.prepared.weights, self.tokens, self.places, self.ops)
        return block_trace.traces(self.prepared, x, self.places, self.ops, first)

    def last(self) -> tuple[BlockTrace, Target]:
        """The last block, and the gradient at what of its output is scored."""
        (trace,) = self.traces(self.spec.layers - 1)
        return trace, self.target(trace)

    def target(self, trace: BlockTrace) -> Target:
        return block_trace.target(self.prepared.weights, trace.out, self.texts, self.prepared.recipe)

    def embedding(self, trace: BlockTrace) -> Tensor:
        """The encoder's own [B, E], from the last block; one that attends with one head gives another."""
        weights, ops = self.prepared.weights, self.ops
        if self.prepared.recipe.one_head:
            rows = FIRST if trace.out.shape[1] == 1 else ALL
            trace = block_trace.trace(trace.block, trace.x, None, weights.spec, ops, self.places, rows)
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
    """The grids [B, T, h, w] of what the scene's recipe reads, float32 at least, and the image embedding [B, E], not normalised."""
    scores, embedding = RELEVANCES[scene.prepared.recipe.reads](scene)
    return scores.reshape(*scores.shape[:2], *scene.grid), embedding


def grad_cam(scene: Scene) -> tuple[Tensor, Tensor]:
    """ReLU(weights . y), y the patches of the last block's first LayerNorm, weights the mean over these patches of the gradient at y.

    pytorch-grad-cam's CLIP example, and CLIP-ES. The mean is taken before anything is projected back, so no text has a gradient for every
    token unless the score reads every token.
    """
    trace, target = scene.last()

    def weights(texts: slice) -> Tensor:
        attended = _at_attention(scene, trace, target.gradient[:, texts])
        mean = _mean_over_patches(trace, scene.rows, attended, scene.ops.most)
        return vjp.linear(mean, trace.block.qkv_w) / (trace.y.shape[1] - 1)

    found = of_texts(scene.texts.shape[0], _behind(trace), scene.ops.most, weights)
    return _activation(found, trace.y, target), scene.embedding(trace)


def grad_cam_input(scene: Scene) -> tuple[Tensor, Tensor]:
    """ReLU(weights . x), x the patches that the last block reads, weights the mean over all tokens of the gradient at x (Grad-ECLIP's
    baseline, generate_emap.py)."""
    trace, target = scene.last()

    def weights(texts: slice) -> Tensor:
        gradient, _ = through_block(trace, scene.spec, scene.rows, target.gradient[:, texts], most=scene.ops.most)
        return gradient.mean(2)

    found = of_texts(scene.texts.shape[0], _whole(trace), scene.ops.most, weights)
    return _activation(found, trace.x, target), scene.embedding(trace)


def grad_eclip(scene: Scene) -> tuple[Tensor, Tensor]:
    """ReLU(g . v_i) w_i: g the gradient at the class token's attention output, before the out-projection; w_i the cosine of the
    out-projected q of the class token and k of patch i, min-maxed over the patches (generate_emap.py)."""
    trace, target = scene.last()
    attended = _at_attention(scene, trace, target.gradient)[:, :, 0]
    q, k, v = (trace.qkv[letter].flatten(2) for letter in "qkv")
    out = trace.block.out_w, trace.block.out_b
    alike = cosine(F.linear(k[:, 1:], *out), unit(vjp.upcast(F.linear(q[:, :1], *out))))
    low, high = alike.amin(-1, keepdim=True), alike.amax(-1, keepdim=True)
    spatial = (alike - low) / (high - low).clamp_min(1e-12)
    return _activation(attended, v, target) * spatial, scene.embedding(trace)


def bi_modal(scene: Scene) -> tuple[Tensor, Tensor]:
    """The row of the scored tokens in R <- R + E R over the blocks from `start` on, E = mean over heads of ReLU(A dy/dA).

    That row times the last block's 1 + E, times the one's before …: the row walks down the blocks beside the gradient, and no R is made.
    """
    found = scene.traces(scene.prepared.start)
    target = scene.target(found[-1])

    def walk(texts: slice) -> Tensor:
        gradient, strength = target.gradient[:, texts], target.strength[:, texts]
        return walk_down(found, scene.spec, scene.rows, gradient, _scored(scene, found[-1]), strength, scene.ops.most)[:, :, 1:]

    return of_texts(scene.texts.shape[0], _whole(found[0]), scene.ops.most, walk), scene.embedding(found[-1])


def legrad(scene: Scene) -> tuple[Tensor, Tensor]:
    """The sum over the blocks from `start` on of the mean over heads and queries of ReLU(dy/dA), y the cosine of the text with the
    block's own output, all tokens averaged before the last LayerNorm (legrad/wrapper.py).

    dy/dA_h[n, m] is the gradient at query n's output times value m: one product a block.
    """
    weights, found = scene.prepared.weights, scene.traces(scene.prepared.start)
    terms = []
    for trace in found:
        mean = vjp.upcast(trace.out).mean(1, keepdim=True)
        gradient, strength = block_trace.differentiated(weights, mean, scene.texts, scene.prepared.recipe)

        def of_block(texts: slice, trace: BlockTrace = trace, gradient: Tensor = gradient) -> Tensor:
            return _positive(trace, _at_attention(scene, trace, gradient[:, texts], ALL), scene.ops.most)

        seen = of_texts(scene.texts.shape[0], _behind(trace), scene.ops.most, of_block)
        terms.append(seen * (strength / trace.out.shape[1])[..., None])
    return sum(terms[1:], terms[0]), scene.embedding(found[-1])


def rollout(scene: Scene) -> tuple[Tensor, Tensor]:
    """The row of the scored tokens in the product of (A + 1) / 2 over the blocks from `start` on, A the mean over heads; of every text."""
    found, rows = scene.traces(scene.prepared.start), scene.rows
    row = _scored(scene, found[-1])
    for trace in reversed(found):
        seen, q = torch.zeros((), device=row.device, dtype=row.dtype), trace.heads("q")[:, :, rows]
        for part in parts(q.shape[2], q.shape[0] * q.shape[1] * trace.x.shape[1], scene.ops.most):
            seen = seen + (row[:, :, None, part] @ trace.maps(q[:, :, part]))[:, :, 0].mean(1, keepdim=True)
        row, rows = _placed(seen, row, rows) / 2, ALL
    # a product, because TensorRT-RTX's builder ends with a fault on what a repetition becomes
    everywhere = torch.ones_like(scene.texts[None, :, :1]).to(row)
    return row[:, :, 1:] * everywhere, scene.embedding(found[-1])


def anchor(scene: Scene) -> tuple[Tensor, Tensor]:
    """The attention, in block `start` and by the recipe's one term, of the patch that is most similar to the text in the raw map."""
    recipe, name = scene.prepared.recipe, f"qkv{scene.prepared.start}"
    out = encode(scene.prepared, scene.tokens, scene.places, scene.grid, scene.ops, cls=True, capture=(name,))
    assert out.cls is not None
    projected = vjp.upcast(out.captured[name])
    queries, keys = (projected[:, "qkv".index(letter)] for letter in recipe.terms[0])
    best = 1 + cosine(out.patches, scene.texts).argmax(-1)
    index = best[:, None, :, None].expand(-1, queries.shape[1], -1, queries.shape[3])
    maps = torch.softmax(queries.gather(2, index) * queries.shape[3] ** -0.5 @ keys.transpose(2, 3), -1)
    shown = maps.mean(1) if recipe.head is None else maps[:, recipe.head]
    return shown[:, :, 1:], out.cls


RELEVANCES: dict[str, Relevance] = {
    "grad-cam": grad_cam, "grad-cam-input": grad_cam_input, "bi-modal": bi_modal, "legrad": legrad, "grad-eclip": grad_eclip,
    "rollout": rollout, "anchor": anchor,
}  # fmt: skip


# what they share


def _activation(weights: Tensor, x: Tensor, target: Target) -> Tensor:
    """ReLU(weights [B, T, C] . the patches of x [B, N, C]) with the target's strength: [B, T, P]."""
    return torch.relu(weights @ vjp.upcast(x[:, 1:]).transpose(1, 2)) * target.strength[..., None]


def _behind(trace: BlockTrace) -> int:
    """How many numbers one text's largest tensor has in a backward of the MLP."""
    return trace.hidden.shape[0] * trace.hidden.shape[1] * trace.hidden.shape[2]


def _whole(trace: BlockTrace) -> int:
    """The same of a whole block, whose attention is walked through in slices."""
    return trace.x.shape[0] * trace.x.shape[1] * trace.hidden.shape[2]


def _at_attention(scene: Scene, trace: BlockTrace, gradient: Tensor, rows: slice | None = None) -> Tensor:
    """From the gradient at a block's output rows to that at its attention's output, before the out-projection: [B, t, R, C]."""
    return vjp.linear(_at_middle(trace, scene.spec, gradient, scene.rows if rows is None else rows), trace.block.out_w)


def _at_middle(trace: BlockTrace, spec: ModelSpec, gradient: Tensor, rows: slice) -> Tensor:
    middle, hidden = trace.middle[:, rows], trace.hidden[:, rows]
    return vjp.mlp_half(gradient, middle, hidden, trace.block, spec.activation, spec.norm_eps)


def _mean_over_patches(trace: BlockTrace, rows: slice, attended: Tensor, most: int | None) -> Tensor:
    """The sums over the patches of the gradients at q, k and v, [B, t, 3C], from that at the attention's output [B, t, R, C].

    A row of attention sums to 1 and its gradient to 0, so sums over the patches are what the class token's column lacks.
    """
    q, k, v = (trace.heads(letter) for letter in "qkv")
    heads = q.shape[1]
    gradient, outputs = by_head(attended, heads), by_head(vjp.upcast(trace.attended[:, None, rows]), heads)
    zero = torch.zeros_like(gradient[:, :, :, 0])
    sums = {"q": zero, "k": zero, "v": zero}
    queries = q[:, :, rows]
    for part in parts(queries.shape[2], q.shape[0] * heads * q.shape[2], most):
        at, maps = gradient[:, :, :, part], trace.maps(queries[:, :, part])
        first = maps[:, :, None, :, 0]
        along = (at * outputs[:, :, :, part]).sum(-1)
        lacking = first * ((at * v[:, :, None, :1]).sum(-1) - along)
        sums["v"] = sums["v"] + (at * (1 - first)[..., None]).sum(3)
        sums["k"] = sums["k"] - lacking @ queries[:, :, part]
        if rows != FIRST:
            column = (_by_values(maps, at) * v[:, :, None]).sum(-1) - along @ maps
            sums["q"] = sums["q"] + column @ k
    scaled = (sums["q"] * trace.scale, sums["k"] * trace.scale, sums["v"])
    return torch.cat([together(each[:, :, :, None])[:, :, 0] for each in scaled], -1)


def walk_down(
    found: list[BlockTrace], spec: ModelSpec, rows: slice, gradient: Tensor, row: Tensor, strength: Tensor, most: int | None
) -> Tensor:
    """Bi-Modal's row [B, t, N] behind all blocks, from its scored rows [B, t or 1, R] and the gradient [B, t, R or 1, C] at these."""
    for place, trace in reversed(list(enumerate(found))):
        gradient, seen = through_block(trace, spec, rows, gradient, row, strength, below=place > 0, most=most)
        row, rows = _placed(seen, row, rows), ALL
    return row


def through_block(
    trace: BlockTrace,
    spec: ModelSpec,
    rows: slice,
    gradient: Tensor,
    row: Tensor | None = None,
    strength: Tensor | None = None,
    *,
    below: bool = True,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    """A whole block's backward, from its output rows [B, t, R or 1, C] to its input [B, t, N, C].

    row: [B, t, R]; with it, also the sum over rows of row times the mean over heads of ReLU(A dy/dA), [B, t, N].
    below: whether the gradient at the input is wanted at all.
    """
    middle = _at_middle(trace, spec, gradient, rows)
    attended = by_head(vjp.linear(middle, trace.block.out_w), trace.qkv.packed.shape[3])
    q, k, v = (trace.heads(letter) for letter in "qkv")
    zero, seen = torch.zeros((), device=v.device, dtype=v.dtype), torch.zeros((), device=v.device, dtype=v.dtype)
    at_q, at_k, at_v, queries = [], zero, zero, q[:, :, rows]
    for part in parts(queries.shape[2], attended.shape[0] * attended.shape[1] * attended.shape[2] * k.shape[2], most):
        at, maps = attended[:, :, :, part], trace.maps(queries[:, :, part])
        by_map = times(at, v.transpose(2, 3))
        if row is not None and strength is not None:
            positive = torch.relu(by_map * maps[:, :, None]).mean(1)
            seen = seen + (row[:, :, None, part] @ positive)[:, :, 0] * strength[..., None]
        if below:
            logits = vjp.softmax(by_map, maps[:, :, None]) * trace.scale
            at_q.append(times(logits, k))
            at_k = at_k + logits.transpose(3, 4) @ queries[:, :, None, part]
            at_v = at_v + _by_values(maps, at)
    if not below:
        return gradient, seen
    sides = torch.cat([together(at_k), together(at_v)], -1)
    width = trace.x.shape[2]
    at_y = vjp.linear(sides, trace.block.qkv_w[width:])
    at_y = _plus(at_y, vjp.linear(together(torch.cat(at_q, 3)), trace.block.qkv_w[:width]), rows)
    return _plus(vjp.layer_norm(at_y, trace.x, trace.block.ln1_w, spec.norm_eps), middle, rows), seen


def _by_values(maps: Tensor, at: Tensor) -> Tensor:
    """A^T times the gradient: [B, H, R, N] and [B, H, t, R, d] -> [B, H, t, N, d], one product for all texts."""
    beside = at.transpose(2, 3).flatten(3)
    product = maps.transpose(2, 3) @ beside
    return product.reshape(*product.shape[:3], at.shape[2], at.shape[4]).transpose(2, 3)


def _positive(trace: BlockTrace, attended: Tensor, most: int | None) -> Tensor:
    """The mean over heads and queries of ReLU(dy/dA), [B, t, P], from the gradient at the attention's output [B, t, N, C]."""
    v = trace.heads("v")[:, :, 1:].transpose(2, 3)
    gradient = by_head(attended, v.shape[1])
    total = torch.zeros((), device=v.device, dtype=v.dtype)
    for part in parts(gradient.shape[3], gradient.shape[0] * gradient.shape[1] * gradient.shape[2] * v.shape[3], most):
        total = total + torch.relu(times(gradient[:, :, :, part], v)).sum((1, 3))
    return total / (gradient.shape[1] * gradient.shape[3])


def _scored(scene: Scene, trace: BlockTrace) -> Tensor:
    """The share of each scored row in the embedding, [B, 1, R]."""
    count = 1 if scene.rows == FIRST else trace.x.shape[1] - 1
    return torch.ones_like(vjp.upcast(trace.x[:, None, scene.rows, 0])) / count


def _placed(seen: Tensor, row: Tensor, rows: slice) -> Tensor:
    """seen [B, t, N] plus row [B, t, R] at its rows."""
    return _plus(seen[..., None], row[..., None], rows)[..., 0]


def _plus(whole: Tensor, part: Tensor, rows: slice) -> Tensor:
    """whole [B, t, N, C] plus part [B, t, R, C] at these rows."""
    if rows == ALL:
        return whole + part
    first, rest = whole[:, :, :1], whole[:, :, 1:]
    return torch.cat([first + part, rest] if rows == FIRST else [first, rest + part], 2)
