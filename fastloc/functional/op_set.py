"""How the parts of a pass are computed. Every choice gives the same numbers up to rounding; the engine's plan makes it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.functional.attention import FORMS, Attend, Form, attend

# x [..., C], the branch to add to it or None, LayerNorm's weight, bias and eps, whether lengths are wanted
#   -> the sum, its LayerNorm, and the length of every normalised token (float32 at least) or None
AddNorm = Callable[[Tensor, Tensor | None, Tensor, Tensor, float, bool], tuple[Tensor, Tensor, Tensor | None]]


def add_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor, eps: float, lengths: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The residual sum and its LayerNorm in plain PyTorch."""
    total = x if delta is None else x + delta
    y = F.layer_norm(total, (total.shape[-1],), weight, bias, eps)
    if not lengths:
        return total, y, None
    return total, y, torch.linalg.vector_norm(y, dim=-1, dtype=torch.promote_types(y.dtype, torch.float32))


def activate(x: Tensor, activation: str) -> Tensor:
    """The MLP's activation in plain PyTorch."""
    if activation == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    if activation == "silu":
        return F.silu(x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


@dataclass(frozen=True)
class Ops:
    """The ops of a pass, and when the local path runs. `attend` is the encoder's own attention, `local` the recipe's.

    A changed block's attention runs as soon as its projections are there, unless
    side: is a second CUDA stream: then it runs there, beside the main path;
    deferred: then the projections of all changed blocks are written into one buffer, and attended to by one call at the end
        (batch 1 only; not for autograd).
    most: how many numbers of one tensor with an axis of texts exist at a time in a backward, and how many of the attention maps that a
        recipe keeps (`fastloc.functional.methods.row_blocks`); None for all, whatever the shape.
    slots: the form writes its terms straight into one buffer for the joint projection (not for autograd).
    """

    add_norm: AddNorm = add_norm
    activate: Callable[[Tensor, str], Tensor] = activate
    attend: Attend = attend
    local: Form = FORMS["sdpa"]
    side: "torch.cuda.Stream | None" = None
    deferred: bool = False
    slots: bool = False
    most: int | None = 1 << 24


TORCH = Ops()


def normalised(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, ops: Ops = TORCH) -> Tensor:
    """A LayerNorm [..., C] by the ops of a pass."""
    assert weight is not None
    assert bias is not None
    return ops.add_norm(x, None, weight, bias, eps, False)[1]
