"""Slow, literal references of gradients, rollout and anchors, in the steps of their authors' code, by autograd.

The encoder is built again from the parts of `fastloc.reference.methods` and returns every attention map, LayerNorm and block output as a
value, so that anything can be differentiated by anything without hooks. One picture and one text run at a time, as in the authors' code.
Choices for the cases that their code leaves open:

- the position embedding and LayerScale are treated as in `fastloc.reference.methods`; an out-projection includes its LayerScale;
- several tokens in front of the patches, or none: all of them are dropped wherever the class token is;
- towers that pool by the mean: relevance starts from all patches equally in place of the class token;
- attention pools: one more attention above the last block, whose query is no token. Bi-Modal's and rollout's matrices end with its row,
  and Grad-ECLIP reads its query, keys, values and attention, with one head if the recipe has one_head, in place of the last block's;
- one head of queries and keys that are normalised or rotated: the heads' own, side by side;
- a bias of relative positions: a head's own, constant for gradients; one head has the sum of the heads' over the root of their number, as
  its logits are that of theirs; an anchor has it in the term "qk" alone;
- norms behind attention and MLP: the projections' input, used by them alone, takes the place of the first LayerNorm's output;
- one text alone: its softmax is 1 whatever the picture is, so its logit is differentiated.

CLIPer, which differentiates nothing, is in `fastloc.reference.cliper`.

Read at: jacobgil/pytorch-grad-cam, linyq2117/CLIP-ES, Cyang-Zhao/Grad-Eclip, hila-chefer/Transformer-MM-Explainability, WalBouss/LeGrad,
samiraabnar/attention_flow.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import RECIPES, Recipe
from fastloc.reference import arithmetic, cliper, first_tokens, parts
from fastloc.reference.registers import with_registers
from fastloc.reference.resnet import cam_map

# weights, pixels [B, 3, H, W] and texts [T, E], unit length -> scores [B, P, T]
Scores = Callable[[Weights, Tensor, Tensor], Tensor]


@dataclass
class Walk:
    """The intermediates of one picture's pass: the inputs of each block and the outputs of its parts, [1, …] each."""

    states: list[Tensor] = field(default_factory=list)
    normed: list[Tensor] = field(default_factory=list)
    qkv: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    biases: list[Tensor | float] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)
    pool: "PoolWalk | None" = None

    @property
    def end(self) -> Tensor:
        return self.states[-1]


@dataclass
class PoolWalk:
    """The intermediates of an attention pool: q [1, H, 1, d], k and v [1, H, N, d], map [1, H, 1, N], the heads' outputs [1, H, 1, d]."""

    qkv: tuple[Tensor, Tensor, Tensor]
    map: Tensor
    attended: Tensor
    out: Tensor  # [1, D]


def pool_walk(weights: Weights, y: Tensor, heads: int = 0) -> PoolWalk:
    """Run the pool on its input y [1, N, C]."""
    q, k, v = parts.pool_qkv(weights, y, heads)
    attention = arithmetic.softmax(arithmetic.logits(q, k))
    attended = attention @ v
    return PoolWalk((q, k, v), attention, attended, parts.pool_out(weights, attended)[:, 0])


def walk(weights: Weights, picture: Tensor, row: Recipe) -> Walk:
    """Run the encoder with a graph for autograd. With `one_head` the last block, or the pool read in its place, attends with one head."""
    grid = first_tokens.grid_of(weights, picture[None])
    turns = first_tokens.angles(weights, grid)
    pools = weights.spec.pool == "attn"
    of_pool = pools and row.reads == "grad-eclip"
    found = through(weights, first_tokens.embed(weights, picture[None], row.position), row.one_head and not of_pool, turns=turns, grid=grid)
    if pools:
        found.pool = pool_walk(weights, parts.last_norm(weights, found.end), 1 if row.one_head and of_pool else 0)
    return found


def through(
    weights: Weights, embedded: Tensor, one_head: bool = False, mask: Tensor | float = 0.0, turns: Tensor | None = None,
    grid: first_tokens.Grid | None = None,
) -> Walk:  # fmt: skip
    """Run the blocks on embedded tokens [1, N, C], of a picture's grid; `mask` is added to the attention's logits."""
    spec, found = weights.spec, Walk()
    x = embedded.clone().requires_grad_()
    for i, block in enumerate(weights.blocks):
        # a copy, so that the projections' input is never the stream itself
        y = parts.entered(block, x, spec).clone()
        q, k, v = parts.qkv(block, y, spec, turns)
        bias = 0.0 if grid is None else first_tokens.relative_bias(block, spec, grid)
        if one_head and i == spec.layers - 1:
            q, k, v = (each.transpose(1, 2).flatten(2)[:, None] for each in (q, k, v))
            bias = bias.sum(0) / math.sqrt(spec.heads) if isinstance(bias, Tensor) else bias
        attention = arithmetic.softmax(arithmetic.logits(q, k) + mask + bias)
        attended = attention @ v
        found.states.append(x)
        found.normed.append(y)
        found.qkv.append((q, k, v))
        found.biases.append(bias)
        found.maps.append(attention)
        found.attended.append(attended)
        x = x + parts.out(block, attended, spec)
        x = x + parts.mlp(block, x, spec)
    found.states.append(x)
    return found


def score(weights: Weights, seen: Walk, texts: Tensor, row: Recipe) -> Tensor:
    """The score to differentiate, [T]: see `fastloc.recipes.schema.TARGETS`."""
    pool = seen.pool
    embedding = parts.pooled(weights, seen.end) if pool is None else parts.to_texts(weights, parts.behind_pool(weights, pool.out))
    if row.target == "softmax-of-mean":
        # CLIP-ES's forward_last_layer: the mean of the projected patches in place of the class token
        embedding = parts.project(weights, seen.end[:, weights.spec.prefix :]).mean(1)
    cosines = (arithmetic.unit(embedding) @ texts.T)[0]
    if row.target == "cosine":
        return cosines
    logits = row.score_scale(weights.logit_scale) * cosines
    return logits if row.target == "logit" or len(texts) == 1 else arithmetic.softmax(logits)


def gradient(of: Tensor, by: Tensor) -> Tensor:
    return torch.autograd.grad(of, by, retain_graph=True)[0]


def grad_cam(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """BaseCAM.forward of pytorch-grad-cam, its reshape_transform dropping the class token from activations and gradients.

    The row's `cam` may be Grad-CAM++ or LayerCAM, see `fastloc.reference.resnet.cam_map`.
    """
    target, front = seen.normed[-1], weights.spec.prefix
    grads, activations = gradient(score(weights, seen, texts, row)[index], target)[0, front:], target[0, front:]
    return cam_map(activations.T[..., None], grads.T[..., None], row.cam)[:, 0]


def grad_cam_input(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """grad_cam of Grad-ECLIP's generate_emap.py: the input of the last block, the class token's gradient in the mean."""
    target = seen.states[-2]
    grads = gradient(score(weights, seen, texts, row)[index], target)[0]
    return (grads.mean(0, keepdim=True) * target[0, weights.spec.prefix :]).sum(-1).clamp(min=0)


def grad_eclip(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """grad_eclip of generate_emap.py, and of grad_eclip_image.ipynb, which compares q and k without the out-projection."""
    front, of_text = weights.spec.prefix, score(weights, seen, texts, row)[index]
    if seen.pool is None:
        g, (q, k, v) = gradient(of_text, seen.attended[-1])[:, :, :1], seen.qkv[-1]
        projected = (parts.out(weights.blocks[-1], each, weights.spec)[0] for each in (q, k))
    else:
        g, (q, k, v) = gradient(of_text, seen.pool.attended), seen.pool.qkv
        projected = (parts.pool_out(weights, each)[0] for each in (q, k))
    q_seen, k_seen = projected if row.compares == "projected" else (each.transpose(1, 2).flatten(2)[0] for each in (q, k))
    alike = (arithmetic.unit(q_seen[:1]) * arithmetic.unit(k_seen[front:])).sum(-1)
    alike = (alike - alike.min()) / (alike.max() - alike.min())
    g, values = (each.transpose(1, 2).flatten(2)[0] for each in (g, v))
    return (g * values[front:] * alike[:, None]).sum(-1).clamp(min=0)


def bi_modal(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """interpret of CLIP_explainability.ipynb: R <- R + cam R from `start` on; the class token's row."""
    y = score(weights, seen, texts, row)[index]
    relevance = _accumulated(seen, y, row.start)
    if seen.pool is None:
        return _read(weights, relevance)
    cam = (gradient(y, seen.pool.map) * seen.pool.map).clamp(min=0)[0].mean(0)
    return (cam @ relevance)[0, weights.spec.prefix :]


def text_relevance(weights: Weights, embedded: Tensor, image: Tensor, start: int, scale: float) -> Tensor:
    """Bi-Modal on a text: embedded tokens [1, N, C] of the text tower, the last of which ends the text, and an image embedding [E].

    The row is that of the end token, without the start token and the end token itself (show_heatmap_on_text): [N - 2], of sum 1.
    """
    with torch.inference_mode(False), torch.enable_grad():
        count = embedded.shape[1]
        mask = torch.full((count, count), -torch.inf, dtype=embedded.dtype).triu(1)
        seen = through(weights, embedded, mask=mask)
        feature = parts.project(weights, seen.end[0, -1])
        y = scale * (arithmetic.unit(feature) * arithmetic.unit(image)).sum()
        shares = _accumulated(seen, y, start).detach()[-1, 1:-1]
    return shares / shares.sum()


def _accumulated(seen: Walk, y: Tensor, start: int) -> Tensor:
    count = seen.maps[0].shape[-1]
    r = torch.eye(count, dtype=y.dtype, device=y.device)
    read = seen.maps[start:]
    for attention, grad in zip(read, torch.autograd.grad(y, read, retain_graph=True), strict=True):
        cam = (grad * attention).clamp(min=0)[0].mean(0)
        r = r + cam @ r
    return r


def rollout(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """compute_joint_attention of attention_flow: the residual added, rows normalised, matrices multiplied."""
    count = seen.maps[0].shape[-1]
    joint = torch.eye(count, dtype=texts.dtype, device=texts.device)
    for attention in seen.maps[row.start :]:
        mixed = attention[0].mean(0) + torch.eye(count, dtype=texts.dtype, device=texts.device)
        joint = (mixed / mixed.sum(-1, keepdim=True)) @ joint
    if seen.pool is None:
        return _read(weights, joint)
    return (seen.pool.map[0].mean(0) @ joint)[0, weights.spec.prefix :]


def legrad(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """compute_legrad_clip, compute_legrad_siglip and compute_legrad_coca of legrad/wrapper.py, on the grid of patches.

    The sum may precede the upsampling, because both are linear. The second function's correction by an empty text is left out.
    """
    front = weights.spec.prefix
    total = torch.zeros(seen.end.shape[1] - front, dtype=seen.end.dtype, device=seen.end.device)
    first = row.start + (len(seen.maps) if row.start < 0 else 0)
    for i in range(first, len(seen.maps)):
        out = seen.states[i + 1]
        if weights.spec.pool != "attn":
            feature = parts.project(weights, out.mean(1))
            attention, similarity = seen.maps[i], (texts[index] * arithmetic.unit(feature)).sum()
        elif weights.spec.pool_mlp:
            # trunk.attn_pool reads the block's output: trunk.norm is not called
            pool = pool_walk(weights, out)
            feature = parts.to_texts(weights, parts.behind_pool(weights, pool.out))
            attention, similarity = pool.map, (texts[index] * arithmetic.unit(feature)).sum()
        else:
            # attn_pool has its own LayerNorm of its input; ln_post is not called, and nothing is normalised
            pool = pool_walk(weights, parts.last_norm(weights, out))
            attention, similarity = pool.map, (texts[index] * parts.to_texts(weights, pool.out)).sum()
        grad = gradient(similarity, attention).clamp(min=0)
        total = total + grad[0].mean(0).mean(0)[front:]
    return total


def anchor(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """The row of an attention map that belongs to the patch whose raw feature is most similar to the text."""
    front = weights.spec.prefix
    patches = parts.project(weights, seen.end)[0, front:]
    best = int((arithmetic.unit(patches) @ texts[index]).argmax())
    left, right = (seen.qkv[row.start]["qkv".index(letter)] for letter in row.terms[0])
    attention = arithmetic.softmax(arithmetic.logits(left, right) + (seen.biases[row.start] if row.terms[0] == "qk" else 0.0))[0]
    shown = attention.mean(0) if row.head is None else attention[row.head]
    return shown[front + best, front:]


def _read(weights: Weights, relevance: Tensor) -> Tensor:
    """The class token's row, or the mean of the patches' rows where these are pooled: [P]."""
    front = weights.spec.prefix
    return relevance[0, front:] if weights.spec.pool == "tok" else relevance[front:, front:].mean(0)


LITERAL: dict[str, Callable[[Weights, Walk, Tensor, int, Recipe], Tensor]] = {
    "grad-cam": grad_cam, "grad-cam-input": grad_cam_input, "bi-modal": bi_modal, "legrad": legrad, "grad-eclip": grad_eclip,
    "rollout": rollout, "anchor": anchor,
}  # fmt: skip


def relevance(weights: Weights, pixels: Tensor, texts: Tensor, row: Recipe, empty: Tensor | None = None) -> Tensor:
    """The scores [B, P, T] of any recipe that reads no patch features, with any of its fields changed.

    It needs autograd, so the weights must not be made in inference mode. `empty` [E] is the empty text's embedding, which "cliper" reads.
    """
    rows, weights = [], with_registers(weights, row)
    with torch.inference_mode(False), torch.enable_grad():
        for picture in pixels.to(weights.dtype):
            seen = walk(weights, picture, row)
            if row.reads == "cliper":
                rows.append(cliper.scores(weights, seen.normed[:-1], seen.maps[:-1], seen.states[-2], texts, row, empty).detach())
                continue
            one = [LITERAL[row.reads](weights, seen, texts, index, row).detach() for index in range(len(texts))]
            rows.append(torch.stack(one, -1))
    return torch.stack(rows)


def _method(row: Recipe) -> Scores:
    return lambda weights, pixels, texts: relevance(weights, pixels, texts, row)


METHODS: dict[str, Scores] = {name: _method(row) for name, row in RECIPES.items() if row.reads != "patches"}
