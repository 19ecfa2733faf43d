"""Rotary position embedding of a ViT's queries and keys, in two dimensions (RoFormer, arXiv 2104.09864; PE and EVA-02)."""

import torch
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec

__all__ = ["rotate_in_place", "rotated", "rotations"]

_BASE = 10000.0
# exported and compiled graphs have no complex numbers, and half precision has none that every device multiplies
_COMPLEX = (torch.float32, torch.float64)


def rotations(spec: ModelSpec, grid: tuple[int, int], like: Tensor) -> Tensor:
    """Cosines and sines [2, S + P, d/2] of every token's angles, one a pair of a head's channels; the S tokens in front are not rotated.

    An expression in the grid's sides, so that an exported graph can take any. In the dtype and on the device of `like`, computed in
    float32 at least.
    """
    rope, quarter = spec.rope, spec.head_width // 4
    assert rope is not None
    dtype = torch.promote_types(like.dtype, torch.float32)
    frequencies = _BASE ** (-torch.arange(quarter, dtype=dtype, device=like.device) / quarter)

    def angles(axis: int) -> Tensor:
        cells = torch.arange(grid[axis], dtype=dtype, device=like.device) + rope.offset
        if rope.grid is not None:
            # a tensor, because in an exported graph the side may be one
            cells = cells * (rope.grid[axis] / torch.full((), grid[axis], dtype=dtype, device=like.device))
        return cells[:, None] * frequencies

    rows = angles(0)[:, None].expand(-1, grid[1], -1)
    columns = angles(1)[None].expand(grid[0], -1, -1)
    pairs = torch.cat([columns, rows] if rope.first == "columns" else [rows, columns], -1).flatten(0, 1)
    every = torch.cat([pairs.new_zeros(spec.prefix, 2 * quarter), pairs])
    return torch.stack([every.cos(), every.sin()]).to(like.dtype)


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """x [B, N, …, H, d], each pair of neighbouring channels rotated by its token's angle; `turns` is the result of `rotations`."""
    cos, sin = turns.reshape(2, turns.shape[1], *[1] * (x.ndim - 3), turns.shape[2])
    if x.dtype in _COMPLEX and not torch.compiler.is_compiling():
        # a rotation is a product with a complex number: one pass over x, on a CPU twenty times as fast as the parts (measured)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def rotate_in_place(x: Tensor, turns: Tensor) -> bool:
    """Write `rotated` over x itself, a view of a larger tensor that nothing else reads. Returns False, with x unchanged, if it cannot.

    It cannot in half precision, in a traced graph, or where a gradient may be needed.
    """
    if torch.is_grad_enabled() or x.dtype not in _COMPLEX or torch.compiler.is_compiling():
        return False
    cos, sin = turns.reshape(2, turns.shape[1], *[1] * (x.ndim - 3), turns.shape[2])
    torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(torch.complex(cos, sin))  # type: ignore[no-untyped-call]
    return True
