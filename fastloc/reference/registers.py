"""A literal reference of test-time registers: `activate_on_registers` of nickjiang2378/test-time-registers, shared/hook_fn.py.

The authors hook the MLP's activation and write into its output, picture by picture. Their tokens stand behind the patches; here they stand
after the tower's own tokens in front of the patches, where all reference methods leave them out.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.recipes import Recipe

__all__ = ["Hooked", "with_registers"]


@dataclass(frozen=True, kw_only=True)
class Hooked(Block):
    """A block with an edited MLP activation: the last `count` of the `front` tokens before the patches are registers."""

    neurons: tuple[int, ...]
    count: int
    front: int

    def written(self, hidden: Tensor) -> Tensor:
        """The activation's output [B, N, M] with the neurons' values moved from the patches to the registers."""
        pictures = []
        for output in hidden:
            made, extreme = output.clone(), sign_max(output[:, list(self.neurons)])
            for neuron in self.neurons:
                made[self.front - self.count : self.front, neuron] = extreme
                made[self.front :, neuron] = 0
            pictures.append(made)
        return torch.stack(pictures)


def sign_max(values: Tensor) -> Tensor:
    """The value that is farthest from 0, with its sign (shared/utils.py)."""
    high, low = values.max(), values.min()
    return high if abs(high) > abs(low) else low


def with_registers(weights: Weights, row: Recipe) -> Weights:
    """The tower that a recipe with registers runs on; for a recipe without, the weights themselves."""
    if row.registers == 0:
        return weights
    spec = replace(weights.spec, registers=weights.spec.registers + row.registers)
    nothing, at = weights.prefix.new_zeros(row.registers, spec.width), weights.spec.prefix
    table, blocks = dict(row.neurons), []
    for number, block in enumerate(weights.blocks):
        own = {field.name: getattr(block, field.name) for field in fields(Block)}
        hooked = number in table
        blocks.append(Hooked(**own, neurons=table[number], count=row.registers, front=spec.prefix) if hooked else block)
    pos = torch.cat([weights.pos[:at], nothing, weights.pos[at:]])
    return replace(weights, spec=spec, prefix=torch.cat([weights.prefix, nothing]), pos=pos, blocks=tuple(blocks))
