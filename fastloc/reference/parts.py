"""The parts of the literal methods: passes through the encoder, one block's steps, read-outs and maps.

Everything is explicit: every token passes through every block, and every N x N attention map is in memory.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, MapStem, Weights
from fastloc.errors import ModelError
from fastloc.reference.registers import Hooked

Grid = tuple[int, int]
Tower = TypeVar("Tower", Weights, ResNetWeights)
# (index of the changed block, y [B,N,C], q, k and v [B,H,N,d]) -> [B,H,N,d]
Attention = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]


# the passes through the encoder that the methods share


def encoder(weights: Weights, pixels: Tensor, position: str, read: str | None = None) -> tuple[Tensor, Tensor]:
    """The unchanged encoder's image embedding [B, E] and patch features [B, P, E]."""
    x = walk(weights, embed(weights, pixels, position), weights.blocks, grid_of(weights, pixels))
    return pooled(weights, x), project(weights, x[:, weights.spec.prefix :], read)


def dual_paths(
    weights: Weights, pixels: Tensor, blocks: int, attention: Attention, position: str, residual: bool, rotary: bool = True
) -> tuple[Tensor, Tensor]:
    """(g, x) after the last block, each [B, N, C]: x is the unchanged path; g adds, in the last `blocks` blocks, `attention` of x.

    rotary: `attention` gets queries and keys as in the unchanged path, rotated where the tower does so.
    """
    spec, grid = weights.spec, grid_of(weights, pixels)
    if not 0 <= blocks <= spec.layers:
        raise ModelError(f"{blocks} changed blocks do not fit a model of {spec.layers}")
    first = spec.layers - blocks
    x = walk(weights, embed(weights, pixels, position), weights.blocks[:first], grid)
    g = x if residual else torch.zeros_like(x)
    for index, block in enumerate(weights.blocks[first:]):
        y = entered(block, x, spec)
        g = g + out(block, attention(index, y, *qkv(block, y, spec, angles(weights, grid) if rotary else None)), spec)
        x = walk(weights, x, (block,), grid)
    return g, x


def last_block(
    weights: Weights, pixels: Tensor, attention: Attention, position: str, plain: bool, rotary: bool = True, read: str | None = None
) -> Tensor:
    """Patch features with another attention in the last block; its residual and MLP are kept (`plain`) or dropped."""
    spec, block, grid = weights.spec, weights.blocks[-1], grid_of(weights, pixels)
    x = walk(weights, embed(weights, pixels, position), weights.blocks[:-1], grid)
    y = entered(block, x, spec)
    attended = out(block, attention(0, y, *qkv(block, y, spec, angles(weights, grid) if rotary else None)), spec)
    if not plain:
        return project(weights, attended[:, spec.prefix :], read)
    x = x + attended
    return project(weights, (x + mlp(block, x, spec))[:, spec.prefix :], read)


def walk(weights: Weights, x: Tensor, blocks: tuple[Block, ...], grid: Grid | None) -> Tensor:
    """The unchanged encoder's stream [B, N, C] after these blocks, from the stream x before them."""
    spec = weights.spec
    turns = None if grid is None else angles(weights, grid)
    for block in blocks:
        bias = 0.0 if grid is None else relative_bias(block, spec, grid)
        x = x + out(block, attend(*qkv(block, entered(block, x, spec), spec, turns), bias), spec)
        x = x + mlp(block, x, spec)
    return x


# the parts of the encoder, from equations


def embed(weights: Weights, pixels: Tensor, position: str) -> Tensor:
    """Embed pixels: the stem's convolutions, the tokens in front, position embedding, first LayerNorm. [B, S+P, C]."""
    if weights.maps is not None:
        planes = overlapping(weights.maps, pixels.to(weights.dtype), weights)
    else:
        planes = F.conv2d(pixels.to(weights.dtype), weights.patch_w, weights.patch_b, stride=weights.patch_w.shape[2:])
    for step in weights.stem:
        planes = F.conv2d(activate(planes, "gelu"), step.w, step.b, stride=step.w.shape[2:])
    tokens = torch.cat([weights.prefix.repeat(len(pixels), 1, 1), planes.flatten(2).mT], 1)
    x = tokens + _position(weights, grid_of(weights, pixels), position)
    if weights.ln_pre_w is None or weights.ln_pre_b is None:
        return x
    return layer_norm(x, weights.ln_pre_w, weights.ln_pre_b, weights.spec.norm_eps)


def overlapping(maps: MapStem, planes: Tensor, weights: Weights) -> Tensor:
    """ViTamin's stem (arXiv 2404.02132, section 3.3), [B,3,H,W] -> [B,C,H/16,W/16]: convolutions 3x3, and MBConv blocks with LayerNorm."""

    def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return layer_norm(x.movedim(1, -1), weight, bias, weights.spec.norm_eps).movedim(-1, 1)

    x = F.conv2d(planes, weights.patch_w, weights.patch_b, stride=2, padding=1)
    x = F.conv2d(activate(normed(x, maps.norm_w, maps.norm_b), "gelu"), maps.second_w, maps.second_b, padding=1)
    for block in maps.blocks:
        step = 2 if block.halves else 1
        y = activate(F.conv2d(normed(x, block.norm_w, block.norm_b), block.widen_w[:, :, None, None], block.widen_b), "gelu")
        y = activate(F.conv2d(y, block.depth_w, block.depth_b, stride=step, padding=1, groups=y.shape[1]), "gelu")
        if block.halves:
            # the mean of the cells that a window of 3x3 holds
            window = planes.new_ones(1, 1, 3, 3)
            sums = F.conv2d(x.flatten(0, 1)[:, None], window, stride=2, padding=1)
            means = sums / F.conv2d(x.new_ones(1, 1, *x.shape[2:]), window, stride=2, padding=1)
            x = means.reshape(*x.shape[:2], *means.shape[2:])
        if block.short_w is not None:
            x = F.conv2d(x, block.short_w[:, :, None, None], block.short_b)
        x = x + F.conv2d(y, block.narrow_w[:, :, None, None], block.narrow_b)
    return F.conv2d(normed(x, maps.end_norm_w, maps.end_norm_b), maps.end_w, maps.end_b, stride=2, padding=1)


def grid_of(weights: Weights, pixels: Tensor) -> Grid:
    return pixels.shape[2] // weights.spec.patch[0], pixels.shape[3] // weights.spec.patch[1]


def keeping_position(weights: Tower, pixels: Tensor) -> Tower:
    """The tower as CLIP Surgery, SCLIP and related methods treat it.

    They compare only the number of patches with the trained one, so a grid of as many patches in another shape counts as the trained grid.
    """
    (height, width), (down, across) = pixels.shape[2:], weights.spec.patch
    if height // down * (width // across) != math.prod(weights.spec.grid):
        return weights
    return replace(weights, spec=replace(weights.spec, image=(height, width)))


def _position(weights: Weights, grid: Grid, mode: str) -> Tensor:
    trained = weights.spec.grid
    if grid == trained:
        return weights.pos
    # torch has no half-precision resize with antialias
    accumulate_dtype = torch.promote_types(weights.dtype, torch.float32)
    front = weights.pos[: weights.spec.prefix]
    table = weights.pos[weights.spec.prefix :].to(accumulate_dtype).reshape(1, *trained, -1).permute(0, 3, 1, 2)
    # GEM, and SigLIP 2 NaFlex
    if mode.endswith("-antialias"):
        table = F.interpolate(table, size=grid, mode=mode.removesuffix("-antialias"), antialias=True)
    # SCLIP, ClearCLIP and NACLIP resize to a tenth of a patch more, and that factor moves the sampling positions
    elif mode == "bicubic-scale":
        factor = (grid[0] + 0.1) / trained[0], (grid[1] + 0.1) / trained[1]
        table = F.interpolate(table, scale_factor=factor, mode="bicubic", recompute_scale_factor=False)
    # MaskCLIP "bicubic", CLIP Surgery "bilinear"
    else:
        table = F.interpolate(table, size=grid, mode=mode)
    return torch.cat([front, table.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1).to(weights.dtype)])


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps) * weight + bias


def angles(weights: Weights, grid: Grid) -> Tensor | None:
    """The angle of every token and pair of a head's channels, float64 [N, d/2]: patch by patch, 0 for the tokens in front."""
    spec, rope = weights.spec, weights.spec.rope
    if rope is None:
        return None
    quarter = spec.head_width // 4
    rows = [[0.0] * (2 * quarter)] * spec.prefix
    for row in range(grid[0]):
        for column in range(grid[1]):
            y, x = row + rope.offset, column + rope.offset
            if rope.grid is not None:
                # EVA-02: as many steps as the pre-training had patches, whatever the picture's grid
                y, x = y * rope.grid[0] / grid[0], x * rope.grid[1] / grid[1]
            first, second = (x, y) if rope.first == "columns" else (y, x)
            theta = [10000 ** (-j / quarter) for j in range(quarter)]
            rows.append([first * each for each in theta] + [second * each for each in theta])
    return torch.tensor(rows, dtype=torch.float64, device=weights.device)


def relative_bias(block: Block, spec: ModelSpec, grid: Grid) -> Tensor | float:
    """A block's addition to the logits of queries and keys [H, N, N], pair by pair, 0 for the tokens in front; 0.0 in towers without.

    timm's RelPosMlp (layers/pos_embed_rel.py, mode "cr"): an MLP of a query's distance from a key, in rows and in columns.
    """
    if block.relative_in_w is None or block.relative_in_b is None or block.relative_out_w is None or block.relative_out_b is None:
        return 0.0
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    pairs = [[_signed_log(a - b) for a, b in zip(query, key, strict=True)] for query in places for key in places]
    inputs = torch.tensor(pairs, dtype=torch.float64).to(block.relative_in_w)
    hidden = (inputs @ block.relative_in_w.T + block.relative_in_b).clamp(min=0)
    found = hidden @ block.relative_out_w.T + block.relative_out_b
    of_patches = found.reshape(len(places), len(places), spec.heads).permute(2, 0, 1)
    return F.pad(of_patches, (spec.prefix, 0, spec.prefix, 0))


def _signed_log(distance: int) -> float:
    return math.copysign(math.log(1 + abs(distance)), distance)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate x [B,H,N,d]: neighbouring channels are the parts of complex numbers, times e^(i angle)."""
    pairs = torch.view_as_complex(x.to(torch.float64).reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(turns), turns)).flatten(-2).to(x.dtype)


def entered(block: Block, x: Tensor, spec: ModelSpec) -> Tensor:
    """The input of a block's projections, from the stream x."""
    return layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps) if spec.norm == "pre" else x


def qkv(block: Block, y: Tensor, spec: ModelSpec, turns: Tensor | None = None, heads: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The three projections of y [B,N,C], each [B,H,N,d]; queries and keys normalised and rotated where the tower does so."""
    batch, tokens, width = y.shape
    heads = heads or spec.heads
    projected = (y @ block.qkv_w.T + block.qkv_b).reshape(batch, tokens, 3, heads, width // heads)
    q, k, v = projected.permute(2, 0, 3, 1, 4)
    if block.q_norm_w is not None and block.q_norm_b is not None and block.k_norm_w is not None and block.k_norm_b is not None:
        q = layer_norm(q, block.q_norm_w, block.q_norm_b, spec.norm_eps)
        k = layer_norm(k, block.k_norm_w, block.k_norm_b, spec.norm_eps)
    return (q, k, v) if turns is None else (rotate(q, turns), rotate(k, turns), v)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v."""
    return softmax(logits(q, k) + bias) @ v


def logits(q: Tensor, k: Tensor) -> Tensor:
    """q k^T / sqrt(d): [B,H,N,N]."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def unit(x: Tensor) -> Tensor:
    """x scaled to length 1 along the last axis."""
    return x / torch.sqrt((x * x).sum(-1, keepdim=True))


def softmax(x: Tensor) -> Tensor:
    """The softmax over the last axis."""
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def out(block: Block, attended: Tensor, spec: ModelSpec) -> Tensor:
    """Merge heads, normalise, out-project, scale and normalise, as far as the tower does so: [B,H,N,d] -> [B,N,C]."""
    merged = attended.transpose(1, 2).flatten(2)
    if block.attn_norm_w is not None and block.attn_norm_b is not None:
        merged = layer_norm(merged, block.attn_norm_w, block.attn_norm_b, spec.norm_eps)
    added = merged @ block.out_w.T + block.out_b
    added = added if block.ls1 is None else added * block.ls1
    return added if spec.norm == "pre" else layer_norm(added, block.ln1_w, block.ln1_b, spec.norm_eps)


def mlp(block: Block, x: Tensor, spec: ModelSpec) -> Tensor:
    """The MLP's addition to x [B,N,C]."""
    y = layer_norm(x, block.ln2_w, block.ln2_b, spec.norm_eps) if spec.norm == "pre" else x
    if block.fc_norm_w is not None and block.fc_norm_b is not None:
        y = layer_norm(y, block.fc_norm_w, block.fc_norm_b, spec.norm_eps)
    hidden = y @ block.fc_w.T + block.fc_b
    if spec.gated:
        gate, value = hidden.chunk(2, -1)
        hidden = activate(gate, spec.activation) * value
    else:
        hidden = activate(hidden, spec.activation)
    if isinstance(block, Hooked):
        hidden = block.written(hidden)
    if block.mlp_norm_w is not None and block.mlp_norm_b is not None:
        hidden = layer_norm(hidden, block.mlp_norm_w, block.mlp_norm_b, spec.norm_eps)
    added = hidden @ block.proj_w.T + block.proj_b
    added = added if block.ls2 is None else added * block.ls2
    return added if spec.norm == "pre" else layer_norm(added, block.ln2_w, block.ln2_b, spec.norm_eps)


def activate(x: Tensor, name: str) -> Tensor:
    """GELU by the error function, its tanh form (arXiv 1606.08415, section 2), OpenAI's x sigmoid(1.702 x), or x sigmoid(x)."""
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if name == "gelu_tanh":
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x / (1 + torch.exp(-(1.702 if name == "quick_gelu" else 1.0) * x))


def project(weights: Weights, tokens: Tensor, read: str | None = None) -> Tensor:
    """Tokens in the texts' space, each pooled as if it were the only one: [..., C] -> [..., E].

    read: "value" leaves out an attention pool's MLP; None is the tower's own.
    """
    y = layer_norm(tokens, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps)
    if weights.pool is None:
        return to_texts(weights, y)
    # whatever the query, a single key gets all of the attention
    z = (y @ weights.pool.v_w.T + weights.pool.v_b) @ weights.pool.out_w.T + weights.pool.out_b
    if (read or weights.spec.patch_read) == "value" and weights.spec.pool_mlp:
        return to_texts(weights, z)
    return to_texts(weights, behind_pool(weights, z))


def to_texts(weights: Weights, x: Tensor) -> Tensor:
    """Apply the last projection."""
    if weights.proj is None:
        return x
    return x @ weights.proj if weights.proj_b is None else x @ weights.proj + weights.proj_b


def behind_pool(weights: Weights, z: Tensor) -> Tensor:
    """The rest of an attention pool after its out-projection z [..., D]: z + MLP(LN(z)), or LN(z) without an MLP."""
    pool, spec = weights.pool, weights.spec
    assert pool is not None
    y = layer_norm(z, pool.norm_w, pool.norm_b, spec.norm_eps)
    if pool.fc_w is None or pool.fc_b is None or pool.proj_w is None or pool.proj_b is None:
        return y
    hidden = activate(y @ pool.fc_w.T + pool.fc_b, "gelu" if spec.gated else spec.activation)
    return z + hidden @ pool.proj_w.T + pool.proj_b


def last_norm(weights: Weights, x: Tensor) -> Tensor:
    return layer_norm(x, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps)


def pool_qkv(weights: Weights, y: Tensor, heads: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A pool's query [1,H,1,d], and the keys and values of its input y [B,N,C], each [B,H,N,d]."""
    pool, heads = weights.pool, heads or weights.spec.pool_heads
    assert pool is not None
    q = (pool.q_w @ pool.latent + pool.q_b).reshape(1, heads, 1, -1)
    k, v = (
        (y @ w.T + b).reshape(*y.shape[:2], heads, -1).transpose(1, 2) for w, b in ((pool.k_w, pool.k_b), (pool.v_w, pool.v_b))
    )
    return q, k, v


def pool_out(weights: Weights, attended: Tensor) -> Tensor:
    """A pool's heads [B,H,N,d] merged and out-projected: [B,N,D]."""
    assert weights.pool is not None
    return attended.transpose(1, 2).flatten(2) @ weights.pool.out_w.T + weights.pool.out_b


def pooled(weights: Weights, x: Tensor) -> Tensor:
    """The encoder's image embedding [B, E] of the last block's tokens x [B, N, C]."""
    spec = weights.spec
    if spec.pool == "tok":
        return project(weights, x[:, 0])
    if spec.pool == "attn":
        z = pool_out(weights, attend(*pool_qkv(weights, last_norm(weights, x))))[:, 0]
        return to_texts(weights, behind_pool(weights, z))
    patches = x[:, spec.prefix :]
    if spec.norm_after_pool:
        return project(weights, patches.mean(1))
    return to_texts(weights, layer_norm(patches, weights.ln_post_w, weights.ln_post_b, spec.norm_eps).mean(1))


# scores and maps: patches [B, P, E] and unit texts [T, E] -> scores [B, P, T] -> maps [B, T, H, W]


def cosine(patches: Tensor, texts: Tensor) -> Tensor:
    """Cosines of patches and texts."""
    return unit(patches) @ texts.T


def feature_surgery(tokens: Tensor, texts: Tensor) -> Tensor:
    """`clip_feature_surgery` of CLIP Surgery (clip/clip.py) on tokens [B, N, E], image embedding first: [B, N, T].

    The official code weighs the texts for a batch of one; here every image has its own weights.
    """
    features = unit(tokens)
    # w: the weight of each text for the whole picture; the 2 is in the code, its argument t is not read
    chance = softmax(2 * (features[:, :1] @ texts.T))
    weight = chance / chance.mean(-1, keepdim=True)
    products = features[:, :, None] * texts[None, None] * weight[..., None]  # [B, N, T, E]
    redundant = products.mean(2, keepdim=True)
    return (products - redundant).sum(-1)


def minus_empty(patches: Tensor, texts: Tensor, empty: Tensor) -> Tensor:
    """CLIP Surgery's score of a single text (demo.py): the empty text [E] gives the redundant features."""
    return unit(patches) @ (texts - empty[None]).T


def gem_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """GEM (gem/gem_wrapper.py): bilinear to the size of the input, then min-max of every map."""
    maps = _bilinear(scores, grid, size)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


def surgery_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """`get_similarity_map` of CLIP Surgery (clip/clip.py), class token dropped before: min-max over the patches, then bilinear."""
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    return _bilinear((scores - low) / (high - low), grid, size)


def rclip_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """RCLIP: |1 - M| of the min-maxed map."""
    return torch.abs(1 - surgery_map(scores, grid, size))


def segmentation_map(scores: Tensor, grid: Grid, size: Grid, logit_scale: float, through: Grid | None = None) -> Tensor:
    """SCLIP (clip_segmentor.py) and related methods: bilinear, then a softmax over the texts.

    through: NACLIP (naclip.py) and related methods upsample to this size, the input's, first.
    """
    maps = _bilinear(scores, grid, through or size)
    if through is not None:
        maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return softmax((maps * logit_scale).movedim(1, -1)).movedim(-1, 1)


def _bilinear(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    batch, _, texts = scores.shape
    return F.interpolate(scores.transpose(1, 2).reshape(batch, texts, *grid), size=size, mode="bilinear", align_corners=False)
