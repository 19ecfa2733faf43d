"""One block of the main path with the intermediates of its backward, and that backward, from its output rows to its input.

The forward is made of the pieces of `fastloc.functional.blocks`, the backward of those of `fastloc.functional.vjp`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block
from fastloc.functional import vjp
from fastloc.functional.attention import Projections, Temperature, rows_of
from fastloc.functional.blocks import enter_block, main_path, mlp_end, mlp_start, out_linear, project, turned
from fastloc.functional.folding import FoldedViT
from fastloc.functional.op_set import TORCH, Ops, normalised
from fastloc.functional.position_embedding import Positions
from fastloc.functional.slices import at_once, parts, written
from fastloc.functional.target import ALL, FIRST, scored_rows


@dataclass(frozen=True)
class BlockTrace:
    """One block of the main path. Behind the attention R rows are computed: the class token's alone, or all N."""

    block: Block
    spec: ModelSpec
    x: Tensor  # [B, N, C], the stream that the block reads
    y: Tensor  # [B, N, C], the input of its projections: the first LayerNorm, or x itself
    plain: Projections  # [B, N, 3, H, d]
    qkv: Projections  # the same, normalised and rotated where the tower does so; with one head [B, N, 3, 1, C]
    turns: Tensor | None  # [2, N, d/2]
    attended: Tensor  # [B, R, C], before the out-projection
    branch: Tensor  # [B, R, C], the out-projection
    middle: Tensor  # [B, R, C], the stream between attention and MLP
    hidden: Tensor  # [B, R, G], before the activation
    added: Tensor  # [B, R, C], the MLP's last product
    out: Tensor  # [B, R, C]
    bias: Tensor | None = None  # [N, N] or [1, H, N, N], added to the logits: a mask, or the tower's relative positions

    @property
    def scale(self) -> float:
        """The factor of the logits: the heads' width to the power of -0.5."""
        scale: float = self.qkv.packed.shape[-1] ** -0.5
        return scale

    @property
    def turning(self) -> bool:
        """True if queries and keys differ from the projections, because they are normalised or rotated."""
        return self.spec.qk_norm or self.turns is not None

    def heads(self, letter: str) -> Tensor:
        """One projection as [B, H, N, d], float32 at least."""
        return vjp.upcast(self.qkv[letter]).transpose(1, 2)

    def maps(self, q: Tensor, rows: slice, part: slice = ALL) -> Tensor:
        """The attention of a part of the queries q [B, H, R, d] of these rows: [B, H, r, N], float32 at least."""
        logits = q[:, :, part] * self.scale @ self.heads("k").transpose(2, 3)
        bias = rows_of(rows_of(self.bias, rows), part)
        return torch.softmax(logits if bias is None else logits + bias, -1)


def trace(
    block: Block, x: Tensor, delta: Tensor | None, spec: ModelSpec, ops: Ops, places: Positions, rows: slice = ALL,
    one_head: bool = False, bias: Tensor | None = None,
) -> BlockTrace:  # fmt: skip
    """Run one block on x + delta and keep its intermediates.

    one_head: join the heads' queries and keys side by side into one head: its logits are the sum of theirs over the root of their number.
    bias: [N, N] or [1, H, N, N], added to the attention's logits.
    """
    x, y, _ = enter_block(block, x, delta, spec, ops)
    plain = project(y, (block.qkv_w, block.qkv_b), spec, "qkv")
    qkv = turned(block, plain, spec, places, ops=ops)
    if one_head:
        qkv = replace(qkv, packed=qkv.packed.flatten(3)[:, :, :, None])
        bias = bias if bias is None else bias.sum(1, keepdim=True) * spec.heads**-0.5
    # TensorRT-RTX does not build ai.onnx Attention of one head as wide as the model
    how = _attend if one_head else ops.attend
    attended = how(qkv["q"][:, rows], qkv["k"], qkv["v"], qkv.packed.shape[-1] ** -0.5, rows_of(bias, rows))
    branch = out_linear(block, attended, spec, ops)
    if spec.norm == "post":
        middle = read = x[:, rows] + normalised(branch, block.ln1_w, block.ln1_b, spec.norm_eps, ops)
    else:
        middle, read, _ = ops.add_norm(x[:, rows], branch, block.ln2_w, block.ln2_b, spec.norm_eps, False)
    hidden = mlp_start(block, read, spec, ops)
    # the plan's activation may overwrite its input
    added = mlp_end(block, hidden, spec, replace(ops, activate=TORCH.activate))
    end = normalised(added, block.ln2_w, block.ln2_b, spec.norm_eps, ops) if spec.norm == "post" else added
    return BlockTrace(block, spec, x, y, plain, qkv, places.turns, attended, branch, middle, hidden, added, middle + end, bias)


def _attend(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """Attention by two products; see `fastloc.functional.attention.Attend`."""
    logits = vjp.upcast((q * temperature).to(q.dtype).transpose(1, 2) @ k.permute(0, 2, 3, 1))
    maps = torch.softmax(logits if bias is None else logits + bias, -1).to(v.dtype)
    return (maps @ v.transpose(1, 2)).transpose(1, 2).flatten(2)


def traces(prepared: FoldedViT, x: Tensor, places: Positions, ops: Ops, first: int) -> list[BlockTrace]:
    """The traces of the blocks from `first` on, for embedded tokens x [B, N, C]; the last block's holds only the rows that are read."""
    weights, recipe = prepared.weights, prepared.recipe
    spec, found = weights.spec, []
    delta: Tensor | None
    x, delta = main_path(weights, x, first, places, ops)
    last = spec.layers - 1
    for i in range(first, last + 1):
        rows = FIRST if i == last and scored_rows(spec, recipe) == FIRST and recipe.reads != "legrad" else ALL
        # Grad-ECLIP reads the last attention only: an attention pool's, if there is one
        one_head = recipe.one_head and i == last and not (recipe.reads == "grad-eclip" and spec.pool == "attn")
        found.append(trace(weights.blocks[i], x, delta, spec, ops, places, rows, one_head, places.bias_of(i)))
        x, delta = found[-1].out, None
    return found


# the backward


def at_middle(trace: BlockTrace, gradient: Tensor, rows: slice) -> Tensor:
    """The gradient between a block's attention and MLP, from that at its output rows: [B, t, R or 1, C] -> [B, t, R, C]."""
    middle, hidden, added = (each[:, rows] for each in (trace.middle, trace.hidden, trace.added))
    return vjp.mlp_half(gradient, middle, hidden, added, trace.block, trace.spec)


def at_attention(trace: BlockTrace, gradient: Tensor, rows: slice) -> Tensor:
    """The gradient at a block's attention output (before the out-projection and its LayerNorm) from that at its output: [B, t, R, C]."""
    return _at_attended(trace, at_middle(trace, gradient, rows), rows)


def _at_attended(trace: BlockTrace, middle: Tensor, rows: slice) -> Tensor:
    return vjp.attention_end(middle, trace.attended[:, rows], trace.branch[:, rows], trace.block, trace.spec)


def mean_at_patches(trace: BlockTrace, rows: slice, attended: Tensor, most: int | None) -> Tensor:
    """The mean over the patches of the gradient at y, [B, t, C], from that at the attention's output [B, t, R, C]."""
    spec = trace.spec
    if trace.turning or (rows == ALL and spec.prefix):
        at_y, _ = through_attention(trace, rows, attended, most=most)
        return at_y[:, :, spec.prefix :].mean(2)
    return vjp.linear(_sums_over_patches(trace, rows, attended, most), trace.block.qkv_w) / (trace.y.shape[1] - spec.prefix)


def _sums_over_patches(trace: BlockTrace, rows: slice, attended: Tensor, most: int | None) -> Tensor:
    """The sums over the patches of the gradients at q, k and v, [B, t, 3C], from that at the attention's output [B, t, R, C].

    A row of attention sums to 1 and its gradient to 0, so the columns of the tokens in front give the sums over the patches.
    """
    q, k, v = (trace.heads(letter) for letter in "qkv")
    heads, prefix = q.shape[1], trace.spec.prefix
    gradient, outputs = by_head(attended, heads), by_head(vjp.upcast(trace.attended[:, None, rows]), heads)
    zero = torch.zeros_like(gradient[:, :, :, 0])
    sums = {"q": zero, "k": zero, "v": zero}
    queries = q[:, :, rows]
    line = q.shape[0] * heads * q.shape[2]
    for part in parts(queries.shape[2], line, at_once(most, q, line)):
        at, maps = gradient[:, :, :, part], trace.maps(queries, rows, part)
        along = (at * outputs[:, :, :, part]).sum(-1)
        if prefix:
            front = maps[:, :, None, :, :prefix]
            lacking = (front * (times(at, v[:, :, :prefix].transpose(2, 3)) - along[..., None])).sum(-1)
            sums["v"] = sums["v"] + (at * (1 - front.sum(-1, keepdim=True))).sum(3)
            sums["k"] = sums["k"] - lacking @ queries[:, :, part]
        else:
            sums["v"] = sums["v"] + at.sum(3)
        if rows != FIRST:
            column = (_by_values(maps, at) * v[:, :, None]).sum(-1) - along @ maps
            sums["q"] = sums["q"] + column @ k
    scaled = (sums["q"] * trace.scale, sums["k"] * trace.scale, sums["v"])
    return torch.cat([together(each[:, :, :, None])[:, :, 0] for each in scaled], -1)


def walk_down(found: list[BlockTrace], rows: slice, gradient: Tensor, row: Tensor, strength: Tensor, most: int | None) -> Tensor:
    """Bi-Modal's row [B, t, N] after all blocks, from its scored rows [B, t or 1, R] and the gradient [B, t, R or 1, C] at these."""
    for place, trace in reversed(list(enumerate(found))):
        gradient, seen = through_block(trace, rows, gradient, row, strength, below=place > 0, most=most)
        row, rows = placed(seen, row, rows), ALL
    return row


def through_block(
    trace: BlockTrace, rows: slice, gradient: Tensor, row: Tensor | None = None, strength: Tensor | None = None, *, below: bool = True,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A whole block's backward, from its output rows [B, t, R or 1, C] to its input [B, t, N, C].

    row: [B, t, R]; if given, also return the sum over rows of row times the mean over heads of ReLU(A dy/dA), [B, t, N].
    below: also return the gradient at the input.
    """
    middle = at_middle(trace, gradient, rows)
    at_y, seen = through_attention(trace, rows, _at_attended(trace, middle, rows), row, strength, below=below, most=most)
    if not below:
        return gradient, seen
    if trace.spec.norm == "pre":
        at_y = vjp.layer_norm(at_y, trace.x, trace.block.ln1_w, trace.spec.norm_eps)
    return _plus(at_y, middle, rows), seen


def through_attention(
    trace: BlockTrace, rows: slice, attended: Tensor, row: Tensor | None = None, strength: Tensor | None = None, *, below: bool = True,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The attention's backward, from its output rows [B, t, R, C] to y [B, t, N, C]; for the other arguments see `through_block`."""
    by_heads = by_head(attended, trace.qkv.packed.shape[3])
    q, k, v = (trace.heads(letter) for letter in "qkv")
    zero, seen = torch.zeros((), device=v.device, dtype=v.dtype), torch.zeros((), device=v.device, dtype=v.dtype)
    at_k, at_v, queries = zero, zero, q[:, :, rows]
    at_q: Tensor | None = None
    line = k.shape[0] * k.shape[1] * k.shape[2]
    for part in parts(queries.shape[2], by_heads.shape[2] * line, at_once(most, k, line)):
        at, maps = by_heads[:, :, :, part], trace.maps(queries, rows, part)
        by_map = times(at, v.transpose(2, 3))
        if row is not None and strength is not None:
            positive = torch.relu(by_map * maps[:, :, None]).mean(1)
            seen = seen + (row[:, :, None, part] @ positive)[:, :, 0] * strength[..., None]
        if below:
            logits = vjp.softmax(by_map, maps[:, :, None]) * trace.scale
            at_q = written(at_q, times(logits, k), part, queries.shape[2], axis=3)
            at_k = at_k + logits.transpose(3, 4) @ queries[:, :, None, part]
            at_v = at_v + _by_values(maps, at)
    if at_q is None:
        return attended, seen
    sides = torch.cat([_at_projection(trace, "k", together(at_k), ALL), together(at_v)], -1)
    width = trace.x.shape[2]
    at_y = vjp.linear(sides, trace.block.qkv_w[width:])
    at_queries = _at_projection(trace, "q", together(at_q), rows)
    return _plus(at_y, vjp.linear(at_queries, trace.block.qkv_w[:width]), rows), seen


def _at_projection(trace: BlockTrace, letter: str, gradient: Tensor, rows: slice) -> Tensor:
    """The gradient at the projection, from that at the normalised and rotated queries or keys: [B, t, R, C]."""
    if not trace.turning:
        return gradient
    norm_w = trace.block.q_norm_w if letter == "q" else trace.block.k_norm_w
    turns = None if trace.turns is None else trace.turns[:, rows]
    return vjp.turned(gradient, trace.plain[letter][:, rows], turns, norm_w if trace.spec.qk_norm else None, trace.spec.norm_eps)


def positive(trace: BlockTrace, attended: Tensor, most: int | None) -> Tensor:
    """The mean over heads and queries of ReLU(dy/dA), [B, t, P], from the gradient at the attention's output [B, t, N, C]."""
    v = trace.heads("v")[:, :, trace.spec.prefix :].transpose(2, 3)
    gradient = by_head(attended, v.shape[1])
    total = torch.zeros((), device=v.device, dtype=v.dtype)
    line = v.shape[0] * v.shape[1] * v.shape[3]
    for part in parts(gradient.shape[3], gradient.shape[2] * line, at_once(most, v, line)):
        total = total + torch.relu(times(gradient[:, :, :, part], v)).sum((1, 3))
    return total / (gradient.shape[1] * gradient.shape[3])


# shapes


def placed(seen: Tensor, row: Tensor, rows: slice) -> Tensor:
    """Add row [B, t, R] to seen [B, t, N] at its rows."""
    return _plus(seen[..., None], row[..., None], rows)[..., 0]


def _plus(whole: Tensor, part: Tensor, rows: slice) -> Tensor:
    """Add part [B, t, R, C] to whole [B, t, N, C] at these rows, which are all, the first, or all from one on."""
    if rows == ALL:
        return whole + part
    split = rows.stop if rows == FIRST else rows.start
    first, rest = whole[:, :, :split], whole[:, :, split:]
    return torch.cat([first + part, rest] if rows == FIRST else [first, rest + part], 2)


def _by_values(maps: Tensor, at: Tensor) -> Tensor:
    """A^T times the gradient: [B, H, R, N] and [B, H, t, R, d] -> [B, H, t, N, d], one product for all texts."""
    beside = at.transpose(2, 3).flatten(3)
    product = maps.transpose(2, 3) @ beside
    return product.reshape(*product.shape[:3], at.shape[2], at.shape[4]).transpose(2, 3)


def by_head(gradient: Tensor, heads: int) -> Tensor:
    """Split channels into heads: [B, T, R, C] -> [B, H, T, R, d]."""
    split = gradient.reshape(*gradient.shape[:3], heads, gradient.shape[3] // heads)
    return split.permute(0, 3, 1, 2, 4)


def together(x: Tensor) -> Tensor:
    """The inverse of `by_head`."""
    return x.permute(0, 2, 3, 1, 4).flatten(3)


def times(gradient: Tensor, matrix: Tensor) -> Tensor:
    """Multiply [B, H, T, R, d] by [B, H, d, N], which all texts share: [B, H, T, R, N]."""
    product = gradient.flatten(2, 3) @ matrix
    return product.reshape(*gradient.shape[:4], product.shape[-1])
