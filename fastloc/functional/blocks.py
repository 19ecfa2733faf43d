"""The pieces of the encoder's blocks, from which the main path and every method that reads it are built.

The MLP needs the most memory, so whoever runs a block lets go of the projections, the attention's branch and the last MLP's before it: a
name keeps its tensor, also that of an argument in the function that calls.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.functional.attention import Projections, rows_of
from fastloc.functional.folding import Linear
from fastloc.functional.methods.registers import RegisterBlock, taken_over
from fastloc.functional.op_set import TORCH, Ops, normalised
from fastloc.functional.position_embedding import Positions
from fastloc.functional.rotary import rotate_in_place, rotated


def embed(weights: Weights, tokens: Tensor, places: Positions, ops: Ops = TORCH) -> Tensor:
    """Add the tokens in front and the position embedding, then apply ln_pre: [B,P,C] -> [B,S+P,C]."""
    x = tokens if weights.spec.prefix == 0 else torch.cat([weights.prefix.expand(tokens.shape[0], -1, -1), tokens], 1)
    x = x + places.table
    return x if weights.ln_pre_w is None else normalised(x, weights.ln_pre_w, weights.ln_pre_b, weights.spec.norm_eps, ops)


def project(y: Tensor, rows: Linear, spec: ModelSpec, read: str, slot: Tensor | None = None, heads: int = 0) -> Projections:
    """The projections named in `read` from y [B,N,C], with one product, which is written into `slot` [B,N,K*C] if given.

    heads: their number, in place of the model's.
    """
    if slot is None:
        packed = F.linear(y, *rows)
    else:
        packed = slot
        torch.addmm(rows[1], y.flatten(0, 1), rows[0].T, out=slot.view(-1, slot.shape[-1]))
    heads = heads or spec.heads
    return Projections(packed.view(*y.shape[:2], len(read), heads, y.shape[2] // heads), read, spec.prefix)


def biased(plain: Projections, places: Positions, block: int) -> Projections:
    """The projections of a block, counted from 0, with its bias of relative positions where the tower has one."""
    return plain if places.biases is None else replace(plain, bias=places.bias_of(block))


def turned(
    block: Block, plain: Projections, spec: ModelSpec, places: Positions, slot: Tensor | None = None, ops: Ops = TORCH,
    *, free: bool = False,
) -> Projections:  # fmt: skip
    """The projections that a block attends with: queries and keys normalised and rotated where the tower does so.

    slot: the buffer that holds `plain` already; changed projections are written there too.
    free: nothing else reads `plain`, so it may be overwritten.
    """
    count = sum(letter in "qk" for letter in plain.letters)
    if count == 0 or not (spec.qk_norm or places.turns is not None):
        return plain
    changed = plain.packed[:, :, :count]
    if free and not spec.qk_norm and places.turns is not None and rotate_in_place(changed, places.turns[:, : changed.shape[1]]):
        return plain
    if spec.qk_norm:
        norms = {"q": (block.q_norm_w, block.q_norm_b), "k": (block.k_norm_w, block.k_norm_b)}
        # a kernel takes four axes only in contiguous order
        each = [normalised(plain[letter].contiguous(), *norms[letter], spec.norm_eps, ops) for letter in plain.letters[:count]]
        changed = torch.stack(each, 2)
    if places.turns is not None:
        changed = rotated(changed, places.turns[:, : changed.shape[1]])
    packed = changed if count == len(plain.letters) else torch.cat([changed, plain.packed[:, :, count:]], 2)
    return replace(plain, packed=packed if slot is None else slot.view(packed.shape).copy_(packed))


def enter_block(
    block: Block, x: Tensor, delta: Tensor | None, spec: ModelSpec, ops: Ops, lengths: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The stream x + delta, the projections' input made from it, and the lengths of that input; see `fastloc.functional.op_set.AddNorm`."""
    if spec.norm == "pre":
        return ops.add_norm(x, delta, block.ln1_w, block.ln1_b, spec.norm_eps, lengths)
    total = x if delta is None else x + delta
    measured = torch.linalg.vector_norm(total, dim=-1, dtype=torch.promote_types(total.dtype, torch.float32)) if lengths else None
    return total, total, measured


def main_path(weights: Weights, x: Tensor, blocks: int, places: Positions, ops: Ops = TORCH) -> tuple[Tensor, Tensor | None]:
    """Run the encoder's first `blocks` blocks on x [B,N,C]: the stream [B,N,C], and the last block's MLP branch still to be added."""
    delta, spec = None, weights.spec
    for i, block in enumerate(weights.blocks[:blocks]):
        x, y, _ = enter_block(block, x, delta, spec, ops)
        delta = own_attention(weights, i, y, places, ops)
        x, y = enter_mlp(block, x, delta, spec, ops)
        delta = None
        delta = finish_mlp(block, y, spec, ops)
    return x, delta


def own_attention(weights: Weights, index: int, y: Tensor, places: Positions, ops: Ops = TORCH) -> Tensor:
    """The branch of the encoder's own attention in block `index`, from y as `enter_block` makes it: [B,N,C] -> [B,N,C]."""
    block, spec = weights.blocks[index], weights.spec
    plain = biased(project(y, (block.qkv_w, block.qkv_b), spec, "qkv"), places, index)
    qkv = turned(block, plain, spec, places, ops=ops, free=True)
    return attention_of(block, qkv["q"], qkv, spec, ops)


def attention_of(block: Block, q: Tensor, qkv: Projections, spec: ModelSpec, ops: Ops) -> Tensor:
    """The attention's branch for some rows with queries q [B,R,H,d] over all keys and values: [B,R,C]."""
    bias = rows_of(qkv.bias, slice(q.shape[1]))
    return out_projection(block, ops.attend(q, qkv["k"], qkv["v"], spec.head_width**-0.5, bias), spec, ops)


def enter_mlp(block: Block, x: Tensor, branch: Tensor, spec: ModelSpec, ops: Ops) -> tuple[Tensor, Tensor]:
    """The stream x + branch between attention and MLP, and the input of the MLP's products: [B,R,C] each."""
    if spec.norm == "pre":
        return ops.add_norm(x, branch, block.ln2_w, block.ln2_b, spec.norm_eps, False)[:2]
    x = x + branch
    return x, x


def finish_mlp(block: Block, y: Tensor, spec: ModelSpec, ops: Ops) -> Tensor:
    """The MLP's branch, from y as `enter_mlp` makes it: [B,R,C] -> [B,R,C]."""
    branch = mlp_end(block, mlp_start(block, y, spec, ops), spec, ops)
    return branch if spec.norm == "pre" else normalised(branch, block.ln2_w, block.ln2_b, spec.norm_eps, ops)


def out_projection(block: Block, attended: Tensor, spec: ModelSpec, ops: Ops = TORCH) -> Tensor:
    """The attention's branch from the heads' outputs, [B,R,C] -> [B,R,C]."""
    branch = out_linear(block, attended, spec, ops)
    return branch if spec.norm == "pre" else normalised(branch, block.ln1_w, block.ln1_b, spec.norm_eps, ops)


def out_linear(block: Block, attended: Tensor, spec: ModelSpec, ops: Ops = TORCH) -> Tensor:
    """The out-projection alone, before a LayerNorm that may follow it."""
    if block.attn_norm_w is not None:
        attended = normalised(attended, block.attn_norm_w, block.attn_norm_b, spec.norm_eps, ops)
    return F.linear(attended, block.out_w, block.out_b)


def mlp(block: Block, x: Tensor, spec: ModelSpec, ops: Ops = TORCH) -> Tensor:
    """The MLP's branch of the stream x, including its LayerNorm: [B,N,C] -> [B,N,C]."""
    y = x if spec.norm == "post" else normalised(x, block.ln2_w, block.ln2_b, spec.norm_eps, ops)
    return finish_mlp(block, y, spec, ops)


def mlp_start(block: Block, y: Tensor, spec: ModelSpec, ops: Ops = TORCH) -> Tensor:
    """The input of the MLP's activation, from what the block's own LayerNorm gives: [B,N,C] -> [B,N,G]."""
    if block.fc_norm_w is not None:
        y = normalised(y, block.fc_norm_w, block.fc_norm_b, spec.norm_eps, ops)
    return F.linear(y, block.fc_w, block.fc_b)


def mlp_end(block: Block, hidden: Tensor, spec: ModelSpec, ops: Ops = TORCH) -> Tensor:
    """The MLP from the input of its activation on, [B,N,G] -> [B,N,C]."""
    hidden = neurons(block, hidden, spec, ops)
    if block.mlp_norm_w is not None:
        hidden = normalised(hidden, block.mlp_norm_w, block.mlp_norm_b, spec.norm_eps, ops)
    return F.linear(hidden, block.proj_w, block.proj_b)


def neurons(block: Block, hidden: Tensor, spec: ModelSpec, ops: Ops = TORCH) -> Tensor:
    """The MLP's activation with the edits of test-time registers, [B,N,G] -> [B,N,M]."""
    hidden = activated(hidden, spec, ops)
    return taken_over(block, hidden) if isinstance(block, RegisterBlock) else hidden


def activated(hidden: Tensor, spec: ModelSpec, ops: Ops = TORCH) -> Tensor:
    """The MLP's activation; in a gated MLP, that of one half times the other half: [B,N,G] -> [B,N,M]."""
    if not spec.gated:
        return ops.activate(hidden, spec.activation)
    # not a split, whose attributes differ between opsets
    half = hidden.shape[-1] // 2
    gate, value = hidden[..., :half], hidden[..., half:]
    return ops.activate(gate, spec.activation) * value
