"""The local path: a sum of terms, each fed by one changed block of the main path, so any order of work gives the same sum."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.functional.attention import Projections, Temperature, inverse_temperatures, rows_of
from fastloc.functional.folding import FoldedViT
from fastloc.functional.op_set import Ops, normalised


class LocalPath:
    """Takes the changed blocks' projections one by one and gives the sum of their terms, [B, P, C].

    Args:
        x: [B, N, C], only its shape, dtype and device are read.
    """

    def __init__(self, prepared: FoldedViT, ops: Ops, grid: tuple[int, int], x: Tensor) -> None:
        self.prepared, self.ops, self.grid = prepared, ops, grid
        self.accumulated: Tensor | None = None
        # the sum's first summand, where a concurrent attention reads it
        self.begun: Tensor | None = None
        self.terms: list[Tensor] = []
        # tensors that a deferred or concurrent attention still has to read
        self.waiting: list[tuple[Projections, list[Temperature]]] = []
        # the projections of the blocks whose attention joins
        self.crossed: list[Projections] = []
        # by block, the stream after each block that another path reads
        self.streams: dict[int, Tensor] = {}
        batch, tokens, width = x.shape
        spec, blocks = prepared.weights.spec, prepared.recipe.blocks
        self.prefix = spec.prefix
        deferred = ops.deferred and prepared.attends
        self.stash = x.new_empty(blocks, batch, tokens, 3 * width) if deferred else None
        slots = ops.slots and prepared.attends and prepared.joint is not None
        self.buffer = x.new_empty(batch, tokens - self.prefix, blocks, width) if slots else None

    def begin(self, stream: Tensor) -> None:
        """Begin the sum with the patches of the stream before the first changed block, [B,P,C]."""
        self.accumulated = stream
        # the main path lets go of its stream before the side stream has read it, see `add_block`
        self.begun = None if self.ops.side is None else stream

    def slot(self, index: int) -> Tensor | None:
        """The buffer for block `index`'s projections [B, N, 3C]; None for a tensor of their own."""
        return None if self.stash is None else self.stash[index]

    def keep_projections(self, block: int, qkv: Projections | None) -> None:
        """Keep the projections of `block` if `FoldedViT.crossed` names it."""
        if qkv is not None and block in self.prepared.crossed:
            self.crossed.append(qkv)

    def keep_stream(self, block: int, x: Tensor) -> None:
        """Keep the stream after `block` if the recipe's path reads it."""
        read = self.prepared.streams_read
        if block in read or (read and block == self.prepared.weights.spec.layers - 2):
            self.streams[block] = x

    def add_block(self, index: int, y: Tensor, lengths: Tensor | None, qkv: Projections | None) -> None:
        """Add one changed block: its LayerNorm y [B,N,C], the lengths of y's tokens, its projections (None where none is read)."""
        if not self.prepared.attends:
            self._add(index, y[:, self.prefix :] if qkv is None else qkv["v"][:, self.prefix :].flatten(2))
            return
        assert qkv is not None
        temperatures = inverse_temperatures(
            self.prepared.recipe, self.prepared.table, lengths, self.prepared.weights.spec.head_width, index
        )
        if self.stash is not None:
            self.waiting.append((qkv, temperatures))
        elif self.ops.side is not None:
            # stays referenced until the streams meet; otherwise its memory could be reused while the side stream reads it
            self.waiting.append((qkv, temperatures))
            self.ops.side.wait_stream(torch.cuda.current_stream(y.device))
            with torch.cuda.stream(self.ops.side):
                self._add(index, self._attend(index, qkv, temperatures))
        else:
            self._add(index, self._attend(index, qkv, temperatures))

    def sum(self) -> Tensor:
        """The finished sum."""
        if self.stash is not None:
            self._attend_to_all(self.stash)
        elif self.ops.side is not None and self.waiting:
            torch.cuda.current_stream(self.waiting[0][0].packed.device).wait_stream(self.ops.side)
        if self.terms:
            assert self.prepared.joint is not None
            beside = torch.cat(self.terms, -1) if self.buffer is None else self.buffer.flatten(2)
            self._plus(F.linear(beside, *self.prepared.joint))
        assert self.accumulated is not None
        return self.accumulated

    def _attend(self, index: int, qkv: Projections, temperatures: list[Temperature]) -> Tensor:
        out = None if self.buffer is None else self.buffer[:, :, index]
        attended = self.ops.local(qkv, temperatures, self.prepared.recipe, self.grid, out)
        return self._crossed(attended, qkv["v"], temperatures, out)

    def _crossed(self, attended: Tensor, v: Tensor, temperatures: list[Temperature], out: Tensor | None) -> Tensor:
        """Average in the middle blocks' attention to the last block's values: averaging maps is averaging their outputs."""
        if not self.crossed:
            return attended
        recipe = self.prepared.recipe
        seen = [self._seen(each, v, temperatures) for each in self.crossed]
        mixed = recipe.gain * ((1 - recipe.cross_weight) * attended + recipe.cross_weight / len(seen) * sum(seen[1:], seen[0]))
        return mixed if out is None else out.copy_(mixed)

    def _seen(self, other: Projections, v: Tensor, temperatures: list[Temperature]) -> Tensor:
        """The output of another block's attention on the last block's values."""
        if self.prepared.recipe.cross_terms == "own":
            return self.ops.local(replace(other, foreign_values=v), temperatures, self.prepared.recipe, self.grid, None)
        patches = slice(self.prefix, None)
        return self.ops.attend(other["q"][:, patches], other["k"], v, v.shape[-1] ** -0.5, rows_of(other.bias, patches))

    def _attend_to_all(self, stash: Tensor) -> None:
        """Attend in one call over all blocks, which take the place of the batch."""
        heads = self.prepared.weights.spec.heads
        blocks = len(stash)
        packed = stash.reshape(blocks, stash.shape[2], 3, heads, -1)
        temperatures = [_together([each[i] for _, each in self.waiting]) for i in range(len(self.waiting[0][1]))]
        out = None if self.buffer is None else self.buffer[0].transpose(0, 1)
        biases = [each.bias for each, _ in self.waiting if each.bias is not None and "qk" in self.prepared.recipe.streams]
        together = Projections(packed, "qkv", self.prefix, bias=torch.cat(biases) if biases else None)
        attended = self.ops.local(together, temperatures, self.prepared.recipe, self.grid, out)
        for index in range(blocks):
            of_block, (qkv, multipliers) = attended[index][None], self.waiting[index]
            self._add(index, self._crossed(of_block, qkv["v"], multipliers, None if out is None else of_block))

    def _add(self, index: int, attended: Tensor) -> None:
        weights = self.prepared.weights
        block = weights.blocks[self.prepared.first + index]
        if block.attn_norm_w is not None:
            normed = normalised(attended, block.attn_norm_w, block.attn_norm_b, weights.spec.norm_eps, self.ops)
            attended = normed if self.buffer is None else attended.copy_(normed)
        if self.prepared.joint is not None:
            self.terms.append(attended)
            return
        term = F.linear(attended, *self.prepared.local[index])
        self._plus(term if weights.spec.norm == "pre" else normalised(term, block.ln1_w, block.ln1_b, weights.spec.norm_eps, self.ops))

    def _plus(self, term: Tensor) -> None:
        self.accumulated = term if self.accumulated is None else self.accumulated + term


def _together(temperatures: list[Temperature]) -> Temperature:
    """The multiplier of one pass in every block: one number, or [blocks, S or 1, H or 1]."""
    tensors = [each for each in temperatures if isinstance(each, Tensor)]
    return torch.cat(tensors) if tensors else temperatures[0]
