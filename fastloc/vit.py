"""The functional ViT: `forward(weights, pixels, recipe) -> Output`. Nothing is hooked; what others hook is returned.

The execution is restructured, with the same result: the local path is a sum of terms fed by the main path alone, so it
needs no second stream; the main path of the last block runs only if its result is asked for (and then, for a class
token, for one row); projections that no term reads are skipped; and no N x N map is kept in memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.attention import local_attention, main_attention
from fastloc.errors import ModelError, RecipeError
from fastloc.position import resized_position
from fastloc.recipes import Recipe
from fastloc.weights import Block, Weights


@dataclass(frozen=True)
class Output:
    """What one pass returns. `captured` holds the intermediates that were asked for, by name."""

    patches: Tensor  # [B, P, E], in the text's space, not normalised
    cls: Tensor | None  # [B, E], the encoder's own image embedding, not normalised; None unless asked for
    grid: tuple[int, int]
    captured: Mapping[str, Tensor] = field(default_factory=dict)


def forward(weights: Weights, pixels: Tensor, recipe: Recipe, *, cls: bool = False, capture: Collection[str] = ()) -> Output:
    """Run the image tower the way `recipe` says.

    Args:
        weights: of any floating dtype; it is the dtype of the whole pass.
        pixels: [B, 3, H, W], normalised, H and W multiples of the patch, any batch and any such size.
        cls: also return the image embedding (of the main path in every recipe).
        capture: names of intermediates to return: "embedded" [B,N,C] (what the first block reads), "block{i}" [B,N,C] (the
            main path after block i, counted from 0), "qkv{i}" [B,3,H,N,d], "local" [B,P,C] (before the last LayerNorm).

    Raises:
        ModelError: the shape of `pixels` does not fit the model.
        RecipeError: the recipe changes more blocks than there are, or its table does not fit; an unknown capture.
    """
    spec = weights.spec
    _check(weights, pixels, recipe, capture)
    grid = pixels.shape[-2] // spec.patch[0], pixels.shape[-1] // spec.patch[1]
    x = embed(weights, pixels, recipe.position)
    kept: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor) -> None:
        if name in capture:
            kept[name] = tensor

    keep("embedded", x)
    first = spec.layers - recipe.blocks
    wants_rows = recipe.blocks == 0 or any(name == f"block{spec.layers - 1}" for name in capture)
    local: Tensor | None = None
    for i, block in enumerate(weights.blocks):
        last = i == spec.layers - 1
        if i == first and recipe.residual:
            local = x[:, 1:]
        y = layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps)
        dead = last and not wants_rows and not cls
        qkv = project_qkv(block, y, spec.heads, _streams(recipe) if dead and f"qkv{i}" not in capture else "qkv")
        if i >= first:
            term = out_projection(block, local_attention(qkv, y, recipe, i - first, grid))
            local = term if local is None else local + term
        if not dead:
            # the last block's class token is one query row
            one_row = last and not wants_rows and spec.pool == "tok"
            x = main_block(block, x, qkv, spec.norm_eps, spec.activation, 1 if one_row else x.shape[1])
        if f"qkv{i}" in capture:
            keep(f"qkv{i}", torch.stack([qkv[name] for name in "qkv"], 1))
        keep(f"block{i}", x)
    if local is None:
        local = x[:, 1:]
    elif recipe.mlp:
        local = local + mlp(weights.blocks[-1], local, spec.norm_eps, spec.activation)
    keep("local", local)
    return Output(head(weights, local), pooled(weights, x) if cls else None, grid, kept)


def embed(weights: Weights, pixels: Tensor, position: str) -> Tensor:
    """Patches, class token, position embedding and ln_pre: [B,3,H,W] -> [B, 1+P, C]."""
    spec = weights.spec
    patches = F.conv2d(pixels.to(weights.dtype), weights.patch_w, stride=spec.patch)
    grid = patches.shape[-2], patches.shape[-1]
    tokens = patches.flatten(2).transpose(1, 2)
    x = torch.cat([weights.cls.expand(len(pixels), 1, -1), tokens], 1)
    x = x + resized_position(weights.pos, spec.grid, grid, position)
    if weights.ln_pre_w is not None and weights.ln_pre_b is not None:
        x = layer_norm(x, weights.ln_pre_w, weights.ln_pre_b, spec.norm_eps)
    return x


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def project_qkv(block: Block, y: Tensor, heads: int, streams: str) -> dict[str, Tensor]:
    """The projections named in `streams` (letters of "qkv"), each [B,H,N,d], from y [B,N,C] with one GEMM over a run of rows."""
    batch, tokens, width = y.shape
    start, stop = min("qkv".index(name) for name in streams), max("qkv".index(name) for name in streams) + 1
    rows = slice(start * width, stop * width)
    projected = F.linear(y, block.qkv_w[rows], block.qkv_b[rows])
    parts = projected.view(batch, tokens, stop - start, heads, width // heads).permute(2, 0, 3, 1, 4)
    return dict(zip("qkv"[start:stop], parts, strict=True))


def out_projection(block: Block, attended: Tensor) -> Tensor:
    """Merge heads, project, scale: [B,H,N,d] -> [B,N,C]."""
    out = F.linear(attended.transpose(1, 2).flatten(2), block.out_w, block.out_b)
    return out if block.ls1 is None else out * block.ls1


def mlp(block: Block, x: Tensor, eps: float, activation: str) -> Tensor:
    """The MLP branch with its LayerNorm and LayerScale, without the residual: [B,N,C] -> [B,N,C]."""
    hidden = F.linear(layer_norm(x, block.ln2_w, block.ln2_b, eps), block.fc_w, block.fc_b)
    out = F.linear(activate(hidden, activation), block.proj_w, block.proj_b)
    return out if block.ls2 is None else out * block.ls2


def activate(x: Tensor, activation: str) -> Tensor:
    if activation == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def main_block(block: Block, x: Tensor, qkv: dict[str, Tensor], eps: float, activation: str, rows: int) -> Tensor:
    """One untouched block for the first `rows` tokens: [B,N,C] -> [B,rows,C]."""
    x = x[:, :rows] + out_projection(block, main_attention(qkv["q"][:, :, :rows], qkv["k"], qkv["v"]))
    return x + mlp(block, x, eps, activation)


def head(weights: Weights, tokens: Tensor) -> Tensor:
    """Last LayerNorm and projection into the text's space: [..., C] -> [..., E]."""
    return layer_norm(tokens, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps) @ weights.proj


def pooled(weights: Weights, x: Tensor) -> Tensor:
    """The image embedding of the encoder, [B,N,C] -> [B,E], by the spec's pooling."""
    if weights.spec.pool == "tok":
        return head(weights, x[:, 0])
    if weights.spec.norm_after_pool:
        return head(weights, x[:, 1:].mean(1))
    normed = layer_norm(x[:, 1:], weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps)
    return normed.mean(1) @ weights.proj


def _streams(recipe: Recipe) -> str:
    """The projections that the local path reads: the letters of its terms, and v."""
    return "".join(sorted({*"".join(recipe.streams), "v"}, key="qkv".index))


def _check(weights: Weights, pixels: Tensor, recipe: Recipe, capture: Collection[str]) -> None:
    spec = weights.spec
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        raise ModelError(f"pixels are {tuple(pixels.shape)} {pixels.dtype}; normalised floats [B, 3, H, W] are wanted")
    size = tuple(pixels.shape[-2:])
    if any(side == 0 or side % step for side, step in zip(size, spec.patch, strict=True)):
        raise ModelError(f"input size {size[0]}x{size[1]} is not a multiple of the patch {spec.patch[0]}x{spec.patch[1]}")
    if recipe.blocks > spec.layers:
        raise RecipeError(f"recipe {recipe.name!r} changes {recipe.blocks} blocks, and the model has {spec.layers}")
    known = {"embedded", "local", *(f"{kind}{i}" for kind in ("block", "qkv") for i in range(spec.layers))}
    for name in capture:
        if name not in known:
            raise RecipeError(f"unknown capture {name!r}: known are 'embedded', 'local', 'block0' … and 'qkv0' … 'qkv{spec.layers - 1}'")
