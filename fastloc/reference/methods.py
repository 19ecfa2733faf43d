"""Slow, literal references of every method, in the steps of its authors' code. The fast path is tested against them.

They share only the tensors with the fast path. Every token, including those in front of the patches, passes through every block,
the two streams of GEM and CLIP Surgery run side by side, and every N x N attention map is in memory. Any floating dtype
works; the tests run float64. Choices for the cases that the authors' code leaves open:

- LayerScale, which only GEM's code knows, scales the additions of a block's attention and MLP in every method;
- the position embedding is resized whenever the grid is not the trained one; `first_tokens.keeping_position` holds the authors' exceptions;
- towers with another pool use their own image embedding in place of the class token's;
- queries and keys of self-self attention are rotated where the tower rotates them, and the terms of a block are added before a LayerNorm
  of its out-projection;
- a tower's bias of relative positions is a part of q k^T, as it was trained: it is in the encoder's own attention, that of middle blocks
  and the term "qk" included, and in no product of other projections.

Read at: WalBouss/GEM, xmed-lab/CLIP_Surgery, chongzhou96/MaskCLIP, wangf3014/SCLIP, mc-lan/ClearCLIP, sinahmr/NACLIP, leaves162/CLIPtrase,
linyq2117/TagCLIP, yvhangyang/ResCLIP. PEARL and ITACLIP are in `procrustes` and `middle_blocks`.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.reference import first_tokens
from fastloc.reference.arithmetic import attend, logits, softmax, unit
from fastloc.reference.first_tokens import Grid, grid_of
from fastloc.reference.middle_blocks import between, itaclip, middle_map
from fastloc.reference.parts import dual_paths, encoder, last_block, pooled, project
from fastloc.reference.procrustes import pearl

Table = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]


# the methods: normalised pixels [B, 3, H, W] -> patch features [B, P, E] in the text's space, not of unit length


def itsm(weights: Weights, pixels: Tensor, position: str = "bilinear") -> Tensor:
    """Image-text similarity map (arXiv 2209.07046): the encoder's own patch tokens, as clip/clip_model.py of CLIP Surgery returns them."""
    return encoder(weights, pixels, position)[1]


def eclip(weights: Weights, pixels: Tensor, phi: Tensor | None = None) -> Tensor:
    """ECLIP (arXiv 2209.07046; code and weights were never released): phi [E, E] of the encoder's own patch features.

    The texts must have passed their own projection. None: the weights have phi folded into their projection already.
    """
    features = encoder(weights, pixels, "bilinear")[1]
    return features if phi is None else features @ phi.T


def gem(
    weights: Weights, pixels: Tensor, depth: int = 7, iterations: int = 1, temperature: float | Table | None = None, residual: bool = True
) -> Tensor:
    """GEM (gem/gem_utils.py): the mean of iterated v-v, k-k and q-q attention in the last `depth` - 1 blocks.

    temperature: the official `ss_attn_temp`, a multiplier of the logits in spite of its name; None is the adaptive one.
        A table gives one for every [block][head][stream][pass], streams in the order v, k, q and the output's pass last;
        an axis of length 1 stands for all.
    residual: False starts the second stream from zeros, as ClearCLIP's authors tried it.
    """

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        streams = []
        for stream, projection in enumerate((v, k, q)):
            heads = []
            for head in range(v.shape[1]):
                multipliers = multipliers_of(temperature, y, v.shape[-1], (index, head, stream), iterations + 1)
                heads.append(self_self(projection[:, head], v[:, head], multipliers))
            streams.append(torch.stack(heads, 1))
        return (streams[0] + streams[1] + streams[2]) / 3

    g, _ = dual_paths(weights, pixels, depth - 1, attention, "bicubic-antialias", residual)
    return project(weights, g[:, weights.spec.prefix :])


def self_self(p: Tensor, v: Tensor, multipliers: list[Tensor | float]) -> Tensor:
    """One head of one stream: all passes but the last update p [B,N,d] itself; the last attends to the unchanged values v."""
    for multiplier in multipliers[:-1]:
        p = unit(p)
        p = softmax(p @ p.mT * multiplier) @ p
    p = unit(p)
    return softmax(p @ p.mT * multipliers[-1]) @ v


def multipliers_of(
    temperature: float | Table | None, y: Tensor, head_width: int, at: tuple[int, int, int], passes: int
) -> list[Tensor | float]:
    if temperature is None:
        # the mean length of the block's normed tokens, class token included: one number per image
        length = torch.sqrt((y * y).sum(-1)).mean(-1)
        return [length.reshape(-1, 1, 1) * head_width**-0.5] * passes
    if not isinstance(temperature, tuple):
        return [temperature] * passes
    block, head, stream = at
    of_block = temperature[block if len(temperature) > 1 else 0]
    of_head = of_block[head if len(of_block) > 1 else 0]
    row = of_head[stream if len(of_head) > 1 else 0]
    return [row[each if len(row) > 1 else 0] for each in range(passes)]


def clip_surgery(weights: Weights, pixels: Tensor) -> Tensor:
    """CLIP Surgery (clip/clip_surgery_model.py): v-v attention in the last six blocks. [B, 1+P, E], the image embedding first."""
    g, x = dual_paths(weights, pixels, 6, lambda index, y, q, k, v: attend(v, v, v), "bilinear", residual=True)
    return torch.cat([pooled(weights, x)[:, None], project(weights, g[:, weights.spec.prefix :])], 1)


def maskclip(weights: Weights, pixels: Tensor) -> Tensor:
    """MaskCLIP (mmseg/models/backbones/vit.py): the last block's out-projected values in place of its attention."""
    return last_block(weights, pixels, lambda index, y, q, k, v: v, "bicubic", plain=True)


def sclip(weights: Weights, pixels: Tensor) -> Tensor:
    """SCLIP (clip/model.py): the sum, not the mean, of q-q and k-k attention maps in an otherwise plain last block."""

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (softmax(logits(q, q)) + softmax(logits(k, k))) @ v

    return last_block(weights, pixels, attention, "bicubic-scale", plain=True)


def clearclip(weights: Weights, pixels: Tensor) -> Tensor:
    """ClearCLIP (open_clip/transformer.py): q-q attention; the last block's residual and MLP are dropped."""
    return last_block(weights, pixels, lambda index, y, q, k, v: attend(q, q, v), "bicubic-scale", plain=False)


def naclip(weights: Weights, pixels: Tensor, std: float = 5.0) -> Tensor:
    """NACLIP (clip/model.py, "reduced"): k-k attention plus a Gaussian of the patches' distance, without residual and MLP."""
    bias = neighbourhood(grid_of(weights, pixels), std, weights.spec.prefix).to(weights.patch_w)

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return softmax(logits(k, k) + bias) @ v

    return last_block(weights, pixels, attention, "bicubic-scale", plain=False)


def cliptrase(weights: Weights, pixels: Tensor) -> Tensor:
    """CLIPtrase (clip_utils/attn2.py): the sum of three softmaxed maps in an otherwise plain last block. Its clustering is left out."""

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (softmax(logits(q, q)) + softmax(logits(k, k)) + softmax(logits(v, v))) @ v

    return last_block(weights, pixels, attention, "bicubic-scale", plain=True)


def tagclip(weights: Weights, pixels: Tensor) -> Tensor:
    """TagCLIP (clip/clip_model.py): -100 on all logits but a token's own. Its affinity refinement and crops are left out."""

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = -100 * (1 - torch.eye(q.shape[2], dtype=q.dtype, device=q.device))
        return softmax(logits(q, k) + mask) @ v

    return last_block(weights, pixels, attention, "bilinear", plain=True)


def resclip(weights: Weights, pixels: Tensor, std: float = 5.0, gain: float = 2.0, share: float = 0.3) -> Tensor:
    """ResCLIP (clip/model.py, "resclip"), its first pass alone: NACLIP's map mixed with the mean q-k map of middle blocks.

    The official code takes blocks 6 to 9 whatever the depth; that is 5/12 to 9/12 of the published model.
    """
    blocks = between(weights.spec.layers, 5, 9)
    grid = grid_of(weights, pixels)

    def own(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return softmax(logits(q, k) + first_tokens.relative_bias(weights.blocks[index], weights.spec, grid))

    middle = middle_map(weights, pixels, "bicubic-scale", blocks, own)
    omega = neighbourhood(grid, std, weights.spec.prefix).to(weights.patch_w)

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return gain * ((1 - share) * softmax(logits(k, k) + omega) + share * middle) @ v

    return last_block(weights, pixels, attention, "bicubic-scale", plain=False)


def neighbourhood(grid: Grid, std: float, prefix: int = 1) -> Tensor:
    """NACLIP's addition to the logits, float64 [S+P, S+P], zero for the S tokens in front, `prefix`.

    A window of (2h-1) x (2w-1) Gaussian weights around its middle is laid over every patch in turn; the part over the
    picture is that patch's row.
    """
    h, w = grid
    window = torch.zeros(2 * h - 1, 2 * w - 1, dtype=torch.float64)
    for row in range(2 * h - 1):
        for column in range(2 * w - 1):
            window[row, column] = math.exp(-((row - (h - 1)) ** 2 + (column - (w - 1)) ** 2) / (2 * std**2))
    deltas = torch.eye(h * w, dtype=torch.float64).reshape(h * w, 1, h, w)
    covered = F.conv2d(deltas, window[None, None], padding=(h - 1, w - 1))
    return F.pad(covered.reshape(h * w, h * w), (prefix, 0, prefix, 0))


# RCLIP without training reads the raw features; only its map differs, `rclip_map`
METHODS: dict[str, Callable[[Weights, Tensor], Tensor]] = {
    "itsm": itsm, "rclip": itsm, "eclip": eclip, "gem": gem,
    "clip_surgery": lambda weights, pixels: clip_surgery(weights, pixels)[:, 1:],
    "maskclip": maskclip, "sclip": sclip, "clearclip": clearclip, "naclip": naclip, "cliptrase": cliptrase, "tagclip": tagclip,
    "resclip": resclip, "pearl": pearl, "itaclip": itaclip,
}
