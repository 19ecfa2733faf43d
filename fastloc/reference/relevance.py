"""The methods of gradients, rollout and anchors once more: slow, literal, in the steps of their authors' code, by autograd.

The encoder is written down once more from the parts of `fastloc.reference.methods`, with every attention map, LayerNorm and block output
returned
as a value, so that anything can be differentiated by anything: nothing is hooked. One picture and one text at a time, as the authors do.
Where their code leaves a case open:

- the position embedding and LayerScale are treated as in `fastloc.reference.methods`; an out-projection is taken with its LayerScale;
- towers that pool by the mean: relevance starts from all patches alike in the place of the class token;
- one text alone: its softmax is 1 whatever the picture is, so its logit is differentiated.

Read at: jacobgil/pytorch-grad-cam, linyq2117/CLIP-ES, Cyang-Zhao/Grad-Eclip, hila-chefer/Transformer-MM-Explainability, WalBouss/LeGrad,
samiraabnar/attention_flow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import RECIPES, Recipe
from fastloc.reference import parts

# weights, pixels [B, 3, H, W] and texts [T, E], unit length -> scores [B, P, T]
Scores = Callable[[Weights, Tensor, Tensor], Tensor]


@dataclass
class Walk:
    """One picture's way through the encoder: what went into each block and came out of its parts, [1, …] each."""

    states: list[Tensor] = field(default_factory=list)
    normed: list[Tensor] = field(default_factory=list)
    qkv: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)

    @property
    def end(self) -> Tensor:
        return self.states[-1]


def walk(weights: Weights, picture: Tensor, row: Recipe) -> Walk:
    """All of it, with a graph for autograd. With `one_head` the last block attends with one head."""
    turns = parts.angles(weights, parts.grid_of(weights, picture[None]))
    return through(weights, parts.embed(weights, picture[None], row.position), row.one_head, turns=turns)


def through(weights: Weights, embedded: Tensor, one_head: bool = False, mask: Tensor | float = 0.0, turns: Tensor | None = None) -> Walk:
    """The blocks, from embedded tokens [1, N, C] on; `mask` is added to the attention's logits."""
    spec, found = weights.spec, Walk()
    x = embedded.clone().requires_grad_()
    for i, block in enumerate(weights.blocks):
        heads = 1 if one_head and i == spec.layers - 1 else spec.heads
        y = parts.entered(block, x, spec)
        q, k, v = parts.qkv(block, y, spec, turns, heads)
        attention = parts.softmax(parts.logits(q, k) + mask)
        attended = attention @ v
        found.states.append(x)
        found.normed.append(y)
        found.qkv.append((q, k, v))
        found.maps.append(attention)
        found.attended.append(attended)
        x = x + parts.out(block, attended, spec)
        x = x + parts.mlp(block, x, spec)
    found.states.append(x)
    return found


def score(weights: Weights, seen: Walk, texts: Tensor, row: Recipe) -> Tensor:
    """What is differentiated, [T]: see `fastloc.recipes.schema.TARGETS`."""
    embedding = parts.pooled(weights, seen.end)
    if row.target == "softmax-of-mean":
        # CLIP-ES's forward_last_layer: the mean of the projected patches in the place of the class token
        embedding = parts.project(weights, seen.end[:, weights.spec.prefix :]).mean(1)
    cosines = (parts.unit(embedding) @ texts.T)[0]
    if row.target == "cosine":
        return cosines
    logits = row.score_scale(weights.logit_scale) * cosines
    return logits if row.target == "logit" or len(texts) == 1 else parts.softmax(logits)


def gradient(of: Tensor, by: Tensor) -> Tensor:
    return torch.autograd.grad(of, by, retain_graph=True)[0]


def grad_cam(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """BaseCAM.forward of pytorch-grad-cam, its reshape_transform dropping the class token from activations and gradients."""
    target = seen.normed[-1]
    grads, activations = gradient(score(weights, seen, texts, row)[index], target)[0, 1:], target[0, 1:]
    channel_weights = grads.mean(0)
    return (channel_weights[None] * activations).sum(-1).clamp(min=0)


def grad_cam_input(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """grad_cam of Grad-ECLIP's generate_emap.py: the input of the last block, the class token's gradient in the mean."""
    target = seen.states[-2]
    grads = gradient(score(weights, seen, texts, row)[index], target)[0]
    return (grads.mean(0, keepdim=True) * target[0, 1:]).sum(-1).clamp(min=0)


def grad_eclip(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """grad_eclip of generate_emap.py."""
    grads = gradient(score(weights, seen, texts, row)[index], seen.attended[-1])
    g = grads.transpose(1, 2).flatten(2)[0, :1]
    q, k, v = seen.qkv[-1]
    q_out, k_out = (parts.out(weights.blocks[-1], each, weights.spec)[0] for each in (q, k))
    alike = (parts.unit(q_out[:1]) * parts.unit(k_out[1:])).sum(-1)
    alike = (alike - alike.min()) / (alike.max() - alike.min())
    values = v.transpose(1, 2).flatten(2)[0, 1:]
    return (g * values * alike[:, None]).sum(-1).clamp(min=0)


def bi_modal(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """interpret of CLIP_explainability.ipynb: R <- R + cam R from `start` on; the class token's row."""
    return _read(weights, _accumulated(seen, score(weights, seen, texts, row)[index], row.start))


def text_relevance(weights: Weights, embedded: Tensor, image: Tensor, start: int, scale: float) -> Tensor:
    """The same of a text's tokens: the text tower's embedded tokens [1, N, C], the last of which ends the text, and an image embedding [E].

    Its row is that of the end, without the start of the text and the end itself (show_heatmap_on_text): [N - 2], of sum 1.
    """
    with torch.inference_mode(False), torch.enable_grad():
        count = embedded.shape[1]
        mask = torch.full((count, count), -torch.inf, dtype=embedded.dtype).triu(1)
        seen = through(weights, embedded, mask=mask)
        feature = parts.project(weights, seen.end[0, -1])
        y = scale * (parts.unit(feature) * parts.unit(image)).sum()
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
    return _read(weights, joint)


def legrad(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """compute_legrad_clip of legrad/wrapper.py, on the grid of patches: adding up and upsampling can change places."""
    total = torch.zeros(seen.end.shape[1] - 1, dtype=seen.end.dtype, device=seen.end.device)
    first = row.start + (len(seen.maps) if row.start < 0 else 0)
    for i in range(first, len(seen.maps)):
        feature = parts.project(weights, seen.states[i + 1].mean(1))
        similarity = (texts[index] * parts.unit(feature)).sum()
        grad = gradient(similarity, seen.maps[i]).clamp(min=0)
        total = total + grad[0].mean(0).mean(0)[1:]
    return total


def anchor(weights: Weights, seen: Walk, texts: Tensor, index: int, row: Recipe) -> Tensor:
    """The row of an attention map that belongs to the patch whose raw feature is most similar to the text."""
    patches = parts.project(weights, seen.end)[0, 1:]
    best = int((parts.unit(patches) @ texts[index]).argmax())
    left, right = (seen.qkv[row.start]["qkv".index(letter)] for letter in row.terms[0])
    attention = parts.softmax(parts.logits(left, right))[0]
    shown = attention.mean(0) if row.head is None else attention[row.head]
    return shown[1 + best, 1:]


def _read(weights: Weights, relevance: Tensor) -> Tensor:
    """The class token's row, or the mean of the patches' rows where these are pooled: [P]."""
    return relevance[0, 1:] if weights.spec.pool == "tok" else relevance[1:, 1:].mean(0)


LITERAL: dict[str, Callable[[Weights, Walk, Tensor, int, Recipe], Tensor]] = {
    "grad-cam": grad_cam, "grad-cam-input": grad_cam_input, "bi-modal": bi_modal, "legrad": legrad, "grad-eclip": grad_eclip,
    "rollout": rollout, "anchor": anchor,
}  # fmt: skip


def relevance(weights: Weights, pixels: Tensor, texts: Tensor, row: Recipe) -> Tensor:
    """The scores [B, P, T] of any recipe that reads no patch features, whichever of its fields are changed.

    It needs autograd, and so weights that were not made in inference mode.
    """
    rows = []
    with torch.inference_mode(False), torch.enable_grad():
        for picture in pixels.to(weights.dtype):
            seen = walk(weights, picture, row)
            one = [LITERAL[row.reads](weights, seen, texts, index, row).detach() for index in range(len(texts))]
            rows.append(torch.stack(one, -1))
    return torch.stack(rows)


def _method(row: Recipe) -> Scores:
    return lambda weights, pixels, texts: relevance(weights, pixels, texts, row)


METHODS: dict[str, Scores] = {name: _method(row) for name, row in RECIPES.items() if row.reads != "patches"}
