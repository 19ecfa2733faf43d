"""Every method once more: slow, literal, in the steps of its authors' code. The fast path is tested against this one.

It shares the tensors with the fast path and nothing else. Every token, the class token too, is carried through every block,
the two streams of GEM and CLIP Surgery walk side by side, and every N x N attention map is written down. Any floating dtype
works; the tests run float64. Where the authors' code leaves a case open:

- LayerScale, which only GEM's code knows, scales what the block's attention and MLP add in every method;
- the position embedding is resized whenever the grid is not the trained one, also when the number of patches is the same;
- towers that pool by the mean have their own image embedding in the place of the class token's.

Read at: WalBouss/GEM, xmed-lab/CLIP_Surgery, chongzhou96/MaskCLIP, wangf3014/SCLIP, mc-lan/ClearCLIP, sinahmr/NACLIP, leaves162/CLIPtrase,
linyq2117/TagCLIP, yvhangyang/ResCLIP.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.errors import ModelError

Grid = tuple[int, int]
Table = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]
# (index of the changed block, y [B,N,C], q, k and v [B,H,N,d]) -> [B,H,N,d]
Attention = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]


# the methods: normalised pixels [B, 3, H, W] -> patch features [B, P, E] in the text's space, not of unit length


def itsm(weights: Weights, pixels: Tensor, position: str = "bilinear") -> Tensor:
    """Image-text similarity map: the encoder's own patch tokens (arXiv 2209.07046, whose code was never released)."""
    return encoder(weights, pixels, position)[1]


def eclip(weights: Weights, pixels: Tensor, phi: Tensor | None = None) -> Tensor:
    """ECLIP (arXiv 2209.07046; code and weights were never released): phi [E, E] of the encoder's own patch features.

    Texts are to have gone through their own projection. None: the weights have phi folded into their projection already.
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
    residual: False starts the second stream from nothing, as ClearCLIP's authors tried it.
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
    return project(weights, g)[:, 1:]


def self_self(p: Tensor, v: Tensor, multipliers: list[Tensor | float]) -> Tensor:
    """One head of one stream: all passes but the last update p [B,N,d] itself, the last attends to the values v as they are."""
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
    return torch.cat([_pool(weights, x)[:, None], project(weights, g)[:, 1:]], 1)


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
    bias = neighbourhood(_grid(weights, pixels), std).to(weights.patch_w)

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
    middle = middle_attention(weights, pixels, "bicubic-scale", 5, 9)
    omega = neighbourhood(_grid(weights, pixels), std).to(weights.patch_w)

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return gain * ((1 - share) * softmax(logits(k, k) + omega) + share * middle) @ v

    return last_block(weights, pixels, attention, "bicubic-scale", plain=False)


def middle_attention(weights: Weights, pixels: Tensor, position: str, start: float, stop: float) -> Tensor:
    """The mean of the blocks' own q-k maps from `start` to `stop` twelfths of the depth, [B,H,N,N], the last block left out."""
    spec, maps = weights.spec, []
    x = embed(weights, pixels, position)
    for block in weights.blocks[:-1]:
        q, k, _ = qkv(block, layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps), spec.heads)
        maps.append(softmax(logits(q, k)))
        x = _walk(weights, x, (block,))
    middle = [each for index, each in enumerate(maps) if start * spec.layers <= 12 * index < stop * spec.layers]
    # too few blocks for one to be there: the last of them
    return torch.stack(middle or maps[-1:]).mean(0)


def neighbourhood(grid: Grid, std: float) -> Tensor:
    """NACLIP's addition to the logits, float64 [1+P, 1+P], zero for the class token.

    A window of (2h-1) x (2w-1) Gaussian weights around its middle is laid over every patch in turn; what it covers of the
    picture is that patch's row.
    """
    h, w = grid
    window = torch.zeros(2 * h - 1, 2 * w - 1, dtype=torch.float64)
    for row in range(2 * h - 1):
        for column in range(2 * w - 1):
            window[row, column] = math.exp(-((row - (h - 1)) ** 2 + (column - (w - 1)) ** 2) / (2 * std**2))
    deltas = torch.eye(h * w, dtype=torch.float64).reshape(h * w, 1, h, w)
    covered = F.conv2d(deltas, window[None, None], padding=(h - 1, w - 1))
    return F.pad(covered.reshape(h * w, h * w), (1, 0, 1, 0))


# RCLIP without training reads the raw features; what differs is its map, `rclip_map`
METHODS: dict[str, Callable[[Weights, Tensor], Tensor]] = {
    "itsm": itsm,
    "rclip": itsm,
    "eclip": eclip,
    "gem": gem,
    "clip_surgery": lambda weights, pixels: clip_surgery(weights, pixels)[:, 1:],
    "maskclip": maskclip,
    "sclip": sclip,
    "clearclip": clearclip,
    "naclip": naclip,
    "cliptrase": cliptrase,
    "tagclip": tagclip,
    "resclip": resclip,
}


# the walks through the encoder that the methods share


def encoder(weights: Weights, pixels: Tensor, position: str) -> tuple[Tensor, Tensor]:
    """The untouched encoder: its image embedding [B, E] and its patch features [B, P, E]."""
    x = _walk(weights, embed(weights, pixels, position), weights.blocks)
    return _pool(weights, x), project(weights, x)[:, 1:]


def dual_paths(weights: Weights, pixels: Tensor, blocks: int, attention: Attention, position: str, residual: bool) -> tuple[Tensor, Tensor]:
    """(g, x) after the last block, each [B, N, C]: x is the untouched path; g adds, in the last `blocks` blocks, `attention` of x."""
    spec = weights.spec
    if not 0 <= blocks <= spec.layers:
        raise ModelError(f"{blocks} changed blocks do not fit a model of {spec.layers}")
    first = spec.layers - blocks
    x = _walk(weights, embed(weights, pixels, position), weights.blocks[:first])
    g = x if residual else torch.zeros_like(x)
    for index, block in enumerate(weights.blocks[first:]):
        y = layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps)
        q, k, v = qkv(block, y, spec.heads)
        g = g + out(block, attention(index, y, q, k, v))
        x = x + out(block, attend(q, k, v))
        x = x + mlp(block, x, spec)
    return g, x


def last_block(weights: Weights, pixels: Tensor, attention: Attention, position: str, plain: bool) -> Tensor:
    """Patch features with another attention in the last block; its residual and MLP are kept (`plain`) or dropped."""
    spec, block = weights.spec, weights.blocks[-1]
    x = _walk(weights, embed(weights, pixels, position), weights.blocks[:-1])
    y = layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps)
    attended = out(block, attention(0, y, *qkv(block, y, spec.heads)))
    if not plain:
        return project(weights, attended)[:, 1:]
    x = x + attended
    return project(weights, x + mlp(block, x, spec))[:, 1:]


def _walk(weights: Weights, x: Tensor, blocks: tuple[Block, ...]) -> Tensor:
    spec = weights.spec
    for block in blocks:
        y = layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps)
        x = x + out(block, attend(*qkv(block, y, spec.heads)))
        x = x + mlp(block, x, spec)
    return x


# the parts of the encoder, from equations


def embed(weights: Weights, pixels: Tensor, position: str) -> Tensor:
    """Patches cut out and multiplied by their weights, class token, position embedding, first LayerNorm: [B, 1+P, C]."""
    height, width = weights.spec.patch
    cut = pixels.to(weights.dtype).unfold(2, height, height).unfold(3, width, width)
    patches = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2) @ weights.patch_w.flatten(1).T
    x = torch.cat([weights.cls.repeat(len(pixels), 1, 1), patches], 1) + _position(weights, _grid(weights, pixels), position)
    if weights.ln_pre_w is None or weights.ln_pre_b is None:
        return x
    return layer_norm(x, weights.ln_pre_w, weights.ln_pre_b, weights.spec.norm_eps)


def _grid(weights: Weights, pixels: Tensor) -> Grid:
    return pixels.shape[2] // weights.spec.patch[0], pixels.shape[3] // weights.spec.patch[1]


def _position(weights: Weights, grid: Grid, mode: str) -> Tensor:
    trained = weights.spec.grid
    if grid == trained:
        return weights.pos
    # torch has no half-precision resize with antialias
    accumulate_dtype = torch.promote_types(weights.dtype, torch.float32)
    table = weights.pos[1:].to(accumulate_dtype).reshape(1, *trained, -1).permute(0, 3, 1, 2)
    # GEM
    if mode == "bicubic-antialias":
        table = F.interpolate(table, size=grid, mode="bicubic", antialias=True)
    # SCLIP, ClearCLIP and NACLIP ask for a tenth of a patch too much, and the samples lie where that factor puts them
    elif mode == "bicubic-scale":
        factor = (grid[0] + 0.1) / trained[0], (grid[1] + 0.1) / trained[1]
        table = F.interpolate(table, scale_factor=factor, mode="bicubic", recompute_scale_factor=False)
    # MaskCLIP "bicubic", CLIP Surgery "bilinear"
    else:
        table = F.interpolate(table, size=grid, mode=mode)
    return torch.cat([weights.pos[:1], table.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1).to(weights.dtype)])


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps) * weight + bias


def qkv(block: Block, y: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three projections of y [B,N,C], each [B,H,N,d]."""
    batch, tokens, width = y.shape
    projected = (y @ block.qkv_w.T + block.qkv_b).reshape(batch, tokens, 3, heads, width // heads)
    q, k, v = projected.permute(2, 0, 3, 1, 4)
    return q, k, v


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v."""
    return softmax(logits(q, k)) @ v


def logits(q: Tensor, k: Tensor) -> Tensor:
    """q k^T / sqrt(d): [B,H,N,N]."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def unit(x: Tensor) -> Tensor:
    """Length 1 along the last axis."""
    return x / torch.sqrt((x * x).sum(-1, keepdim=True))


def softmax(x: Tensor) -> Tensor:
    """Over the last axis."""
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def out(block: Block, attended: Tensor) -> Tensor:
    """Heads merged, out-projected, scaled: [B,H,N,d] -> [B,N,C]."""
    merged = attended.transpose(1, 2).flatten(2) @ block.out_w.T + block.out_b
    return merged if block.ls1 is None else merged * block.ls1


def mlp(block: Block, x: Tensor, spec: ModelSpec) -> Tensor:
    """What the MLP adds to x [B,N,C]."""
    hidden = layer_norm(x, block.ln2_w, block.ln2_b, spec.norm_eps) @ block.fc_w.T + block.fc_b
    added = activate(hidden, spec.activation) @ block.proj_w.T + block.proj_b
    return added if block.ls2 is None else added * block.ls2


def activate(x: Tensor, name: str) -> Tensor:
    """GELU by the error function, its tanh form (arXiv 1606.08415, section 2), or OpenAI's x sigmoid(1.702 x)."""
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if name == "gelu_tanh":
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x / (1 + torch.exp(-1.702 * x))


def project(weights: Weights, tokens: Tensor) -> Tensor:
    """Last LayerNorm and projection: [..., C] -> [..., E]."""
    return layer_norm(tokens, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps) @ weights.proj


def _pool(weights: Weights, x: Tensor) -> Tensor:
    if weights.spec.pool == "tok":
        return project(weights, x)[:, 0]
    if weights.spec.norm_after_pool:
        return project(weights, x[:, 1:].mean(1))
    # a projection has no bias, so the mean may come after it
    return project(weights, x)[:, 1:].mean(1)


# scores and maps: patches [B, P, E] and unit texts [T, E] -> scores [B, P, T] -> maps [B, T, H, W]


def cosine(patches: Tensor, texts: Tensor) -> Tensor:
    """Cosines of patches and texts."""
    return unit(patches) @ texts.T


def feature_surgery(tokens: Tensor, texts: Tensor) -> Tensor:
    """`clip_feature_surgery` of CLIP Surgery (clip/clip.py) on tokens [B, N, E], image embedding first: [B, N, T].

    The official code weighs the texts for a batch of one; here every image has its own weights.
    """
    features = unit(tokens)
    # w: how much the picture as a whole speaks of each text; the 2 is in the code, its argument t is not read
    chance = softmax(2 * (features[:, :1] @ texts.T))
    weight = chance / chance.mean(-1, keepdim=True)
    products = features[:, :, None] * texts[None, None] * weight[..., None]  # [B, N, T, E]
    redundant = products.mean(2, keepdim=True)
    return (products - redundant).sum(-1)


def minus_empty(patches: Tensor, texts: Tensor, empty: Tensor) -> Tensor:
    """CLIP Surgery's score of a single text (demo.py): the empty text [E] is what is redundant."""
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


def segmentation_map(scores: Tensor, grid: Grid, size: Grid, logit_scale: float) -> Tensor:
    """SCLIP (clip_segmentor.py) and its kin: bilinear, then a softmax over the texts."""
    return softmax((_bilinear(scores, grid, size) * logit_scale).movedim(1, -1)).movedim(-1, 1)


def _bilinear(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    batch, _, texts = scores.shape
    return F.interpolate(scores.transpose(1, 2).reshape(batch, texts, *grid), size=size, mode="bilinear", align_corners=False)
