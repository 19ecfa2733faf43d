"""CLIPer's levels: every block's input through the last block, by the attention of all blocks before it, balanced.

The maps of all blocks but the last are added up. The sum is normalised by columns, then by rows, once more for each level. Every level's
map is made symmetric, and patches attend by its part above its columns' means. A round of normalisation scales the sum on both sides,
M = diag(r) S diag(c): it is two vectors, and a balanced map exists only for the block of rows in work.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastloc.functional import block_trace
from fastloc.functional.block_trace import BlockTrace
from fastloc.functional.blocks import enter_block, enter_mlp, finish_mlp, out_projection, own_attention, project
from fastloc.functional.folding import FoldedViT
from fastloc.functional.methods.row_blocks import Maps, Summed
from fastloc.functional.op_set import Ops
from fastloc.functional.pools import head
from fastloc.functional.position_embedding import Positions
from fastloc.functional.slices import joined, total, written
from fastloc.functional.vjp import upcast

# scores of patches [B, T, P] times the last level's attention, mean over heads
Refine = Callable[[Tensor], Tensor]
# the smallest divisor: a column that no token attends to, or a row that is nowhere above the mean, carries no information
LEAST = 1e-30


@dataclass(frozen=True)
class Levels:
    """The parts of a pass that CLIPer reads."""

    patches: Tensor  # [L, B, P, E], in the texts' space, one level for each block
    refined: Refine
    last: BlockTrace  # the encoder's own last block


def levels(prepared: FoldedViT, x: Tensor, places: Positions, ops: Ops, rows: slice) -> Levels:
    """The levels of embedded tokens x [B, N, C]; `rows` are those of the last block's own output that are read."""
    weights = prepared.weights
    spec, block, delta = weights.spec, weights.blocks[-1], None
    summed, entered = Summed(ops.attend, ops.most), []
    gathering = replace(ops, attend=summed.attend)
    for i, each in enumerate(weights.blocks[:-1]):
        x, y, _ = enter_block(each, x, delta, spec, ops)
        entered.append(y)
        delta = own_attention(weights, i, y, places, gathering)
        x, y = enter_mlp(each, x, delta, spec, ops)
        delta = None
        delta = finish_mlp(each, y, spec, ops)
    last = block_trace.trace(block, x, delta, spec, ops, places, rows, bias=places.bias_of(-1))
    # these have passed a LayerNorm already, and pass the last block's too; its own input passes one
    twice = enter_block(block, torch.cat(entered), None, spec, ops)[1]
    early = project(twice, prepared.rows(block, "v"), spec, "v")["v"]
    values = torch.cat([early, last.qkv["v"]]).transpose(1, 2)
    values = values.reshape(spec.layers, x.shape[0], *values.shape[1:])
    seen, refined = _attended(summed, upcast(values), spec.prefix)
    branch = out_projection(block, seen.to(x.dtype).flatten(0, 1), spec, ops)
    patches = head(weights, branch, ops, prepared.recipe.patch_read)
    return Levels(patches.reshape(*seen.shape[:3], patches.shape[-1]), refined, last)


@dataclass(frozen=True)
class Round:
    """The scales of one round's M = diag(rows) S diag(columns) and the sums of its columns, each [b, h, N]. Its rows sum to 1."""

    rows: Tensor
    columns: Tensor
    sums: Tensor

    def above_mean(self, part: slice, along: Tensor, across: Tensor) -> Tensor:
        """ReLU((M + M^T) / 2 - its column means) in some rows, from those of S and its transpose [b, h, R, N].

        It omits a factor of each row, and column j's factor `rows[j]`, which is applied to the matrix that it multiplies.
        """
        ratio = self.rows / self.columns
        means = (1 + self.sums) / (self.rows.shape[2] * self.rows)
        found = torch.addcmul(across, along * ratio.reciprocal()[:, :, None], ratio[:, :, part, None])
        return torch.relu(torch.addcmul(found, means[:, :, None], self.columns[:, :, part, None].reciprocal(), value=-1))


def _balanced(maps: Maps, rounds: int) -> list[Round]:
    """Run `rounds` rounds of dividing columns by their sums, then rows by theirs."""
    found: list[Round] = []
    sums = total(block.sum(2) for _, block in maps.rows())
    for _ in range(rounds):
        columns = sums.clamp_min(LEAST).reciprocal()
        rows: Tensor | None = None
        shares: Tensor | None = None
        for part, block in maps.rows():
            scales = (block @ columns[..., None])[..., 0].clamp_min(LEAST).reciprocal()
            rows = written(rows, scales, part, columns.shape[2], axis=2)
            # the next column sums, while the block is in cache
            share = (scales[:, :, None] @ block)[:, :, 0]
            shares = share if shares is None else shares + share
        assert rows is not None
        assert shares is not None
        sums = shares
        found.append(Round(rows, columns, sums * columns))
    return found


def _attended(summed: Summed, values: Tensor, first: int) -> tuple[Tensor, Refine]:
    """The attention outputs [L, B, P, C] of every level's values [L, B, H, N, d], and the last level's refinement."""
    seen, refine = [], []
    for i, (images, several) in enumerate(summed.groups):
        made = [_of_heads(summed.maps(i, j), values[:, images, some], first) for j, some in enumerate(several)]
        seen.append(joined([each for each, _ in made], 2))
        refine.append([each for _, each in made])
    heads = values.shape[2]

    def refined(scores: Tensor) -> Tensor:
        pairs = zip(summed.groups, refine, strict=True)
        return joined([total([each(scores[images]) for each in several]) for (images, _), several in pairs], 0) / heads

    return joined(seen, 1).transpose(2, 3).flatten(3), refined


def _of_heads(maps: Maps, values: Tensor, first: int) -> tuple[Tensor, Refine]:
    """`_attended` for some pictures and heads, [L, b, h, P, d]; the refinement is the sum over these heads."""
    rounds = _balanced(maps, len(values))
    last = rounds[-1]
    # a row's sum comes with the product
    beside = [torch.cat([each * one.rows[..., None], one.rows[..., None]], -1) for one, each in zip(rounds, values, strict=True)]
    count = values.shape[3] - first
    product: Tensor | None = None
    weights: Tensor | None = None
    for part, along, across in maps.both(first):
        rows, by_round = _behind(part, first), []
        for one, value in zip(rounds, beside, strict=True):
            above = one.above_mean(part, along, across)
            by_round.append(above @ value)
        product = written(product, torch.stack(by_round), rows, count, axis=3)
        if maps.kept:
            weights = written(weights, _weights(last, above, by_round[-1][..., -1:], first), rows, count)
    assert product is not None
    seen = product[..., :-1] / product[..., -1:].clamp_min(LEAST)
    if weights is not None:
        return seen, lambda scores: scores @ weights
    sums = product[-1, ..., -1:]

    def again(scores: Tensor) -> Tensor:
        def of(part: slice, along: Tensor, across: Tensor) -> Tensor:
            rows = _behind(part, first)
            return scores[..., rows] @ _weights(last, last.above_mean(part, along, across), sums[:, :, rows], first)

        return total(of(*each) for each in maps.both(first))

    return seen, again


def _behind(part: slice, first: int) -> slice:
    """A slice of tokens from `first` on, counted from there."""
    return slice(None) if part.stop is None else slice(part.start - first, part.stop - first)


def _weights(scales: Round, above: Tensor, sums: Tensor, first: int) -> Tensor:
    """Attention to the patches, summed over heads, [b, R, P], from the result of `Round.above_mean` [b, h, R, N] and its rows' sums."""
    return (above / sums.clamp_min(LEAST) * scales.rows[:, :, None])[..., first:].sum(1)
