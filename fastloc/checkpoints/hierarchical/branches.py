"""Parallel branches of a convolution, as MobileOne and RepVGG train them, and their sum as one convolution.

MobileOne: Vasu et al., CVPR 2023, section 3.2; RepVGG: Ding et al., CVPR 2021, section 3.3.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.parts import BatchNorm, Conv, folded, take_batch_norm
from fastloc.checkpoints.hierarchical.take import Take


@dataclass(frozen=True)
class Branches:
    """The sum of parallel branches over one input: convolutions, a BatchNorm of the input itself, and the input itself.

    All convolutions have the same stride and groups; the first one's kernel is the largest. `one` makes a single convolution of them.
    """

    convs: tuple[Conv, ...]
    identity: BatchNorm | None = None
    skip: bool = False


def one(branches: Branches) -> Branches:
    """The same sum as one convolution with a bias, computed in float64."""
    first = branches.convs[0]
    side, dtype = first.kernel.shape[-1], first.kernel.dtype
    kernel, bias = torch.zeros_like(first.kernel, dtype=torch.float64), torch.zeros_like(first.kernel[:, 0, 0, 0], dtype=torch.float64)
    for conv in (folded(_double(each)) for each in branches.convs):
        kernel = kernel + widened(conv.kernel, side)
        bias = bias if conv.bias is None else bias + conv.bias
    if branches.identity is not None:
        factor, offset = branches.identity.factors()
        kernel, bias = kernel + unit(first, factor), bias + offset
    if branches.skip:
        kernel = kernel + unit(first, torch.ones_like(bias))
    return Branches((Conv(kernel.to(dtype), bias.to(dtype), None, first.stride, first.groups, first.padding),))


def unit(conv: Conv, factor: Tensor) -> Tensor:
    """The kernel, of the size of another with as many inputs as outputs, that multiplies every channel by its factor [C]. float64."""
    kernel, inner = torch.zeros_like(conv.kernel, dtype=torch.float64), conv.kernel.shape[1]
    rows, centre = torch.arange(len(kernel), device=kernel.device), conv.kernel.shape[-1] // 2
    kernel[rows, rows % inner, centre, centre] = factor
    return kernel


def widened(kernel: Tensor, side: int) -> Tensor:
    """A kernel of a larger side with zeros around it: [O, I, k, k] -> [O, I, side, side]."""
    return F.pad(kernel, [(side - kernel.shape[-1]) // 2] * 4)


def take_branches(take: Take, name: str, plain: Conv, sides: dict[str, int], *, identity: bool = False) -> Branches:
    """Read the branches of one convolution, or the convolution that a file already holds in their place (`reparam_conv`).

    plain: gives stride, groups, and as the kernel a tensor [out, in / groups, k, k] of the right shape, whose numbers are not read.
    sides: of each branch's kernel, by the branch's name; the largest first.
    """
    outer, inner, side, _ = plain.kernel.shape
    if take.has(f"{name}.reparam_conv.weight"):
        merged = take(f"{name}.reparam_conv.weight", (outer, inner, side, side)), take(f"{name}.reparam_conv.bias", (outer,))
        return Branches((Conv(*merged, None, plain.stride, plain.groups, side // 2),))
    convs = tuple(_branch(take, f"{name}.{branch}", plain, each) for branch, each in sides.items())
    return Branches(convs, take_batch_norm(take, f"{name}.identity", outer) if identity else None)


def shaped(outer: int, inner: int, side: int, *, stride: int = 1, groups: int = 1) -> Conv:
    """A convolution's shape, without numbers."""
    return Conv(torch.empty((outer, inner // groups, side, side), device="meta"), None, None, stride, groups, side // 2)


def _branch(take: Take, name: str, plain: Conv, side: int) -> Conv:
    outer, inner = plain.kernel.shape[:2]
    kernel = take(f"{name}.conv.weight", (outer, inner, side, side))
    return Conv(kernel, None, take_batch_norm(take, f"{name}.bn", outer), plain.stride, plain.groups, side // 2)


def _double(conv: Conv) -> Conv:
    """The convolution with a kernel and bias of float64; its norm is merged in float64 anyway."""
    bias = None if conv.bias is None else conv.bias.double()
    return Conv(conv.kernel.double(), bias, conv.norm, conv.stride, conv.groups, conv.padding)
