"""What a backward needs of the forward pass: the activations of a block, and the gradient at the last block's output."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.functional import vjp
from fastloc.functional.attention import Projections, Temperature
from fastloc.functional.folding import FoldedViT
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.position_embedding import Positions
from fastloc.functional.target import at_unit_embedding
from fastloc.functional.vit import main_path, project, turned
from fastloc.recipes import Recipe

# tokens of a sequence
FIRST, PATCHES, ALL = slice(0, 1), slice(1, None), slice(None)


@dataclass(frozen=True)
class BlockTrace:
    """One block of the main path. R rows are computed behind the attention: the class token's alone, or all N."""

    block: Block
    x: Tensor  # [B, N, C], what the block reads
    y: Tensor  # [B, N, C], its first LayerNorm
    qkv: Projections  # [B, N, 3, H, d]
    attended: Tensor  # [B, R, C], before the out-projection
    middle: Tensor  # [B, R, C], the stream between attention and MLP
    hidden: Tensor  # [B, R, M], before the activation
    out: Tensor  # [B, R, C]
    mask: Tensor | None = None  # [N, N], added to the logits of a trace of all rows

    @property
    def scale(self) -> float:
        """Of the logits: the heads' width to the power of -0.5."""
        scale: float = self.qkv.packed.shape[-1] ** -0.5
        return scale

    def heads(self, letter: str) -> Tensor:
        """One projection as [B, H, N, d], float32 at least."""
        return vjp.upcast(self.qkv[letter]).transpose(1, 2)

    def maps(self, q: Tensor) -> Tensor:
        """The attention of queries q [B, H, R, d]: [B, H, R, N], float32 at least."""
        logits = q * self.scale @ self.heads("k").transpose(2, 3)
        return torch.softmax(logits if self.mask is None else logits + self.mask, -1)


def trace(
    block: Block, x: Tensor, delta: Tensor | None, spec: ModelSpec, ops: Ops, places: Positions, rows: slice = ALL, heads: int = 0,
    mask: Tensor | None = None,
) -> BlockTrace:  # fmt: skip
    """Run one block on x + delta; `heads` in place of the model's, `mask` [N, N] is added to the attention's logits."""
    x, y, _ = ops.add_norm(x, delta, block.ln1_w, block.ln1_b, spec.norm_eps, False)
    qkv = turned(block, project(y, (block.qkv_w, block.qkv_b), spec, "qkv", heads=heads), spec, places)
    # TensorRT-RTX does not build ai.onnx Attention of one head as wide as the model
    how = _attend if heads else ops.attend
    attended = how(qkv["q"][:, rows], qkv["k"], qkv["v"], qkv.packed.shape[-1] ** -0.5, mask)
    projected = F.linear(attended, block.out_w, block.out_b)
    middle, normed, _ = ops.add_norm(x[:, rows], projected, block.ln2_w, block.ln2_b, spec.norm_eps, False)
    hidden = F.linear(normed, block.fc_w, block.fc_b)
    # an activation of the plan's may overwrite what it reads
    out = middle + F.linear(TORCH.activate(hidden, spec.activation), block.proj_w, block.proj_b)
    return BlockTrace(block, x, y, qkv, attended, middle, hidden, out, mask)


def _attend(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """Attention by two products; see `fastloc.functional.attention.Attend`."""
    logits = vjp.upcast((q * temperature).to(q.dtype).transpose(1, 2) @ k.permute(0, 2, 3, 1))
    maps = torch.softmax(logits if bias is None else logits + bias, -1).to(v.dtype)
    return (maps @ v.transpose(1, 2)).transpose(1, 2).flatten(2)


def traces(prepared: FoldedViT, x: Tensor, places: Positions, ops: Ops, first: int) -> list[BlockTrace]:
    """The blocks from `first` on, of the embedded tokens x [B, N, C]; of the last, the rows that are read."""
    weights, recipe = prepared.weights, prepared.recipe
    delta, found = None, []
    x, delta = main_path(weights, x, first, places, ops)
    last = weights.spec.layers - 1
    for i in range(first, last + 1):
        rows = FIRST if i == last and scored_rows(weights.spec, recipe) == FIRST and recipe.reads != "legrad" else ALL
        one = trace(weights.blocks[i], x, delta, weights.spec, ops, places, rows, 1 if recipe.one_head and i == last else 0)
        found.append(one)
        x, delta = one.out, None
    return found


def scored_rows(spec: ModelSpec, recipe: Recipe) -> slice:
    """The tokens that the embedding is read from."""
    return FIRST if spec.pool == "tok" and recipe.target != "softmax-of-mean" else PATCHES


@dataclass(frozen=True)
class Target:
    """A score of every text, differentiated: `gradient` [B, T, R or 1, C] at the last block's rows, times `strength` [B, T].

    Apart, so that the gradient is of the order of 1 in half precision.
    """

    gradient: Tensor
    strength: Tensor


def target(weights: Weights, out: Tensor, texts: Tensor, recipe: Recipe) -> Target:
    """Of the last block's output [B, R, C], R = 1 where the class token is all that is read, and texts [T, E] of unit length."""
    spec = weights.spec
    if scored_rows(spec, recipe) == FIRST:
        tokens, count = out[:, :1], 1
    elif recipe.target == "softmax-of-mean" or not spec.norm_after_pool:
        tokens, count = out[:, 1:], out.shape[1] - 1
    else:
        # one gradient for all rows
        tokens, count = out[:, 1:].mean(1, keepdim=True), out.shape[1] - 1
    gradient, strength = differentiated(weights, tokens, texts, recipe)
    return Target(gradient, strength / count)


def differentiated(weights: Weights, tokens: Tensor, texts: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """(gradient [B, T, R, C], strength [B, T]) of the score of the mean of tokens [B, R, C] behind the last LayerNorm, times R."""
    spec = weights.spec
    normed = F.layer_norm(vjp.upcast(tokens), (spec.width,), vjp.upcast(weights.ln_post_w), vjp.upcast(weights.ln_post_b), spec.norm_eps)
    assert weights.proj is not None
    z = normed.mean(1) @ vjp.upcast(weights.proj)
    towards, strength = at_unit_embedding(z, texts.to(z.dtype), recipe, weights.logit_scale)
    at_z, shrink = vjp.unit(towards, z)
    length = torch.linalg.vector_norm(at_z, dim=-1).clamp_min(1e-30)
    at_norm = vjp.linear(at_z / length[..., None], weights.proj.transpose(0, 1))
    return vjp.layer_norm(at_norm[:, :, None], tokens, weights.ln_post_w, spec.norm_eps), strength * length * shrink


def by_head(gradient: Tensor, heads: int) -> Tensor:
    """[B, T, R, C] -> [B, H, T, R, d]."""
    split = gradient.reshape(*gradient.shape[:3], heads, gradient.shape[3] // heads)
    return split.permute(0, 3, 1, 2, 4)


def together(x: Tensor) -> Tensor:
    """The inverse of `by_head`."""
    return x.permute(0, 2, 3, 1, 4).flatten(3)


def times(gradient: Tensor, matrix: Tensor) -> Tensor:
    """[B, H, T, R, d] by [B, H, d, N], which all texts share: [B, H, T, R, N]."""
    product = gradient.flatten(2, 3) @ matrix
    return product.reshape(*gradient.shape[:4], product.shape[-1])


def parts(count: int, each: int, most: int | None) -> Iterator[slice]:
    """Slices of `count`, as many at a time as `most` numbers allow when one has `each`."""
    if most is None:
        yield slice(None)
        return
    step = max(most // max(each, 1), 1)
    for start in range(0, max(count, 1), step):
        yield slice(start, min(start + step, count))


def of_texts(count: int, each: int, most: int | None, function: Callable[[slice], Tensor]) -> Tensor:
    """function of some texts at a time, [B, t, P], side by side."""
    found = [function(part) for part in parts(count, each, most)]
    return found[0] if len(found) == 1 else torch.cat(found, 1)
