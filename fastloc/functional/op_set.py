"""The operations of a pass. Every choice of them gives the same numbers up to rounding; the engine's plan chooses."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.functional.attention import FORMS, Attend, Form, attend

# x [..., C], the branch to add to it or None, LayerNorm's weight, bias and eps, True to compute lengths
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


def activate_in_place(x: Tensor, activation: str) -> Tensor:
    """`activate`, written over x, which is a pass's largest tensor; not for autograd."""
    if activation == "quick_gelu":
        return x.mul_((1.702 * x).sigmoid_())
    if activation == "silu":
        return F.silu(x, inplace=True)
    made: Tensor = torch.ops.aten.gelu_(x, approximate="tanh" if activation == "gelu_tanh" else "none")
    return made


@dataclass(frozen=True)
class Ops:
    """The ops of a pass, and the schedule of the local path. `attend` is the encoder's own attention, `local` the recipe's.

    By default a changed block's attention runs as soon as its projections are there.

    side: a second CUDA stream; that attention runs there, concurrently with the main path.
    deferred: the projections of all changed blocks are written into one buffer, and one call at the end attends to all of them
        (batch 1 only; not for autograd).
    most: the most numbers in memory at a time of one tensor with an axis of texts in a backward, and of the attention maps that a
        recipe keeps (`fastloc.functional.methods.row_blocks`); None for all, whatever the shape.
    unread: patches come out as they are before the last LayerNorm, for a read-out that projects them itself.
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
    unread: bool = False


TORCH = Ops()


def normalised(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, ops: Ops = TORCH) -> Tensor:
    """A LayerNorm [..., C] by the ops of a pass."""
    assert weight is not None
    assert bias is not None
    return ops.add_norm(x, None, weight, bias, eps, False)[1]
