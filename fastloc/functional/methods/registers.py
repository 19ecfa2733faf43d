"""Test-time registers: tokens of zeros that take over the outputs of a few MLP neurons, which would otherwise go to a few patches.

Jiang et al., "Vision Transformers Don't Need Trained Registers" (arXiv 2506.08010), nickjiang2378/test-time-registers:
shared/hook_fn.py and clip/clip/transformer.py. The authors put their tokens behind the patches; here they are the last of the tokens in
front. Attention gives the same, rotary embeddings do not rotate them, and they are left out wherever the tower's own tokens in front are
left out. The authors edit the first picture of a batch; here every picture is edited by itself.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.errors import RecipeError
from fastloc.recipes import Recipe

__all__ = ["RegisterBlock", "at_taken_over", "taken_over", "with_registers"]


@dataclass(frozen=True, kw_only=True)
class RegisterBlock(Block):
    """A block in which registers take over some of the M neurons. S tokens stand in front of the patches, the registers last among them."""

    neurons: Tensor  # [k], their indices
    listed: Tensor  # [M], true at these
    taken: Tensor  # [S, M], true at these in the registers' rows


def with_registers(weights: Weights, recipe: Recipe) -> Weights:
    """The tower with the recipe's registers in front of its patches: a tower like any other, whose spec counts them.

    Raises:
        RecipeError: registers without neurons, or neurons that the tower does not have.
    """
    if not recipe.registers:
        return weights
    spec = replace(weights.spec, registers=weights.spec.registers + recipe.registers)
    _check(weights.spec, recipe)
    zeros, front = weights.prefix.new_zeros(recipe.registers, spec.width), weights.spec.prefix
    blocks = list(weights.blocks)
    for number, neurons in recipe.neurons:
        blocks[number] = _registered(blocks[number], spec, recipe.registers, neurons)
    return replace(
        weights, spec=spec, prefix=torch.cat([weights.prefix, zeros]),
        pos=torch.cat([weights.pos[:front], zeros, weights.pos[front:]]), blocks=tuple(blocks),
    )  # fmt: skip


def _registered(block: Block, spec: ModelSpec, count: int, neurons: tuple[int, ...]) -> RegisterBlock:
    at = torch.tensor(neurons, device=block.fc_w.device)
    listed = torch.zeros(spec.mlp_width, dtype=torch.bool, device=at.device)
    listed[at] = True
    rows = torch.arange(spec.prefix, device=at.device) >= spec.prefix - count
    own = {field.name: getattr(block, field.name) for field in fields(Block)}
    return RegisterBlock(**own, neurons=at, listed=listed, taken=rows[:, None] & listed)


def _check(spec: ModelSpec, recipe: Recipe) -> None:
    what = f"recipe {recipe.name!r}: "
    if not recipe.neurons:
        raise RecipeError(f"{what}registers need the model's register neurons, got none; find them with `fastloc registers`")
    for number, neurons in recipe.neurons:
        if number >= spec.layers - 1:
            # the last block runs only for the rows that are read
            raise RecipeError(f"{what}register neurons must be of a block before the last, 0 … {spec.layers - 2}, got block {number}")
        if max(neurons) >= spec.mlp_width:
            raise RecipeError(f"{what}register neurons must be among the MLP's, 0 … {spec.mlp_width - 1}, got {max(neurons)}")


def taken_over(block: RegisterBlock, hidden: Tensor) -> Tensor:
    """Move a block's neurons from the patches to the registers, after the MLP's activation [B, N, M] of all tokens.

    The neurons become 0 in the patches. In the registers they get the one extreme that any of them has in any token. The tower's own
    tokens in front are unchanged.
    """
    front = block.taken.shape[0]
    registers = torch.where(block.taken, _extreme(block, hidden), hidden[:, :front])
    return torch.cat([registers, torch.where(block.listed, 0.0, hidden[:, front:])], 1)


def at_taken_over(block: RegisterBlock, gradient: Tensor, hidden: Tensor) -> Tensor:
    """The gradient before `taken_over` from that behind it: [B, T, N or 1, M] -> [B, T, N, M], `hidden` [B, N, M] where it is taken.

    The registers' gradient goes to the position of the extreme, in equal shares where several positions have it, as in PyTorch's maximum.
    """
    front, gradient = block.taken.shape[0], gradient.expand(-1, -1, hidden.shape[1], -1)
    first, patches = gradient[:, :, :front], gradient[:, :, front:]
    # one tensor, which is reduced and compared with that: a runtime may keep half precision wider in one of two places
    hidden = hidden.to(gradient.dtype)
    kept = torch.cat([torch.where(block.taken, 0.0, first), torch.where(block.listed, 0.0, patches)], 2)
    there = ((hidden == _extreme(block, hidden)) & block.listed).to(gradient.dtype)
    share = there / there.sum((1, 2), keepdim=True)
    reached = torch.where(block.taken, first, 0.0).sum((2, 3), keepdim=True)
    return kept + reached * share[:, None]


def _extreme(block: RegisterBlock, hidden: Tensor) -> Tensor:
    """Each picture's largest or smallest value of the block's neurons, whichever is farther from 0: [B, 1, 1]."""
    chosen = hidden.index_select(-1, block.neurons)
    high, low = chosen.amax((1, 2), keepdim=True), chosen.amin((1, 2), keepdim=True)
    return torch.where(high.abs() > low.abs(), high, low)
