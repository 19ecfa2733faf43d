"""The residual sum and the LayerNorm after it in one pass, with the length of every normalised row.

    total = x + delta, rounded
    y = (total - mean) / sqrt(variance + eps) * weight + bias, rounded
    length = |y|, of y as rounded: GEM's adaptive temperature is the mean of these

Everything between two roundings is float32. Up to 1024 columns each warp has whole rows to itself, so no barrier is needed.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
# a row lies in the registers of one block
WIDEST = 8192


@triton.jit
def _add_norm_kernel(
    x_ptr,  # [B, N, C], strides x_batch, x_row, 1
    delta_ptr,  # [B, N, C], strides delta_batch, delta_row, 1, or None
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    total_ptr,  # [B * N, C], or None without delta
    y_ptr,  # [B * N, C]
    lengths_ptr,  # [B * N] float32, or None
    x_batch,
    x_row,
    delta_batch,
    delta_row,
    count,  # B * N
    tokens,  # N
    width,  # C
    eps,
    DELTA: tl.constexpr,
    LENGTHS: tl.constexpr,
    BM: tl.constexpr,
    BC: tl.constexpr,
):
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.arange(0, BC)
    there = (row < count)[:, None] & (column < width)[None, :]
    batch, token = (row // tokens).to(tl.int64), row % tokens
    total = tl.load(x_ptr + (batch * x_batch + token * x_row)[:, None] + column[None, :], there, 0)
    here = row.to(tl.int64)[:, None] * width + column[None, :]
    if DELTA:
        delta = tl.load(delta_ptr + (batch * delta_batch + token * delta_row)[:, None] + column[None, :], there, 0)
        total = (total.to(tl.float32) + delta.to(tl.float32)).to(total.dtype)
        tl.store(total_ptr + here, total, there)
    value = total.to(tl.float32)
    mean = tl.sum(value, 1) / width
    centred = tl.where(there, value - mean[:, None], 0.0)
    # once a row, so exact rounding costs nothing
    scale = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(centred * centred, 1) / width + eps))
    weight = tl.load(weight_ptr + column, column < width, 0).to(tl.float32)
    bias = tl.load(bias_ptr + column, column < width, 0).to(tl.float32)
    y = (centred * scale[:, None] * weight[None, :] + bias[None, :]).to(total.dtype)
    tl.store(y_ptr + here, y, there)
    if LENGTHS:
        rounded = y.to(tl.float32)
        tl.store(lengths_ptr + row, tl.sqrt_rn(tl.sum(rounded * rounded, 1)), row < count)


def _configuration(width: int) -> dict[str, int]:
    """Rows a block (of the width rounded up to a power of two) and warps."""
    columns = triton.next_power_of_2(width)
    return {"BM": max(1024 // columns, 1), "num_warps": max(columns // 1024, 1)}


def add_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor, eps: float, *, lengths: bool = False,
    configuration: Mapping[str, int] | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """x + delta, its LayerNorm, and the length of every normalised row.

    Args:
        x, delta: [..., C], C up to 8192, float16, bfloat16 or float32 alike; up to two leading axes of any strides, more if contiguous.
        weight, bias: [C], contiguous, of the same dtype.
        eps: added to the variance.
        lengths: True to compute the last output.
        configuration: {"BM", "num_warps"} in place of the shipped one.

    Returns:
        x + delta [..., C], a new tensor; x itself if delta is None.
        y [..., C] of the same dtype, contiguous.
        |y| over C [...] float32, of y as rounded; None without `lengths`.
    """
    width = x.shape[-1]
    config = configuration or _configuration(width)
    tokens = 1 if x.ndim == 1 else x.shape[-2]
    count = x.numel() // width
    total = x if delta is None else empty(x.shape, x.dtype, x.device)
    y = empty(x.shape, x.dtype, x.device)
    norms = empty(x.shape[:-1], torch.float32, x.device) if lengths else None
    launch(_add_norm_kernel, (triton.cdiv(count, config["BM"]),), x, delta, weight, bias, None if delta is None else total, y, norms,
           *_strides(x), *_strides(x if delta is None else delta), count, tokens, width, eps, num_warps=config["num_warps"], num_stages=1,
           DELTA=delta is not None, LENGTHS=lengths, BM=config["BM"], BC=triton.next_power_of_2(width))  # fmt: skip
    return total, y, norms


def _strides(x: Tensor) -> tuple[int, int]:
    """The strides of a batch and of a row; with more than three axes the tensor is contiguous."""
    if x.ndim > 3:
        return x.shape[-2] * x.shape[-1], x.shape[-1]
    return x.stride(0) if x.ndim == 3 else 0, x.stride(-2) if x.ndim > 1 else 0


def why_not(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor, eps: float, *, lengths: bool = False,
    configuration: Mapping[str, int] | None = None,
) -> list[str]:  # fmt: skip
    """Every reason to refuse these arguments."""
    if x.ndim == 0 or not 1 <= x.shape[-1] <= WIDEST:
        return [f"x must be [..., C] with C from 1 to {WIDEST}, got {list(x.shape)}"]
    reasons = []
    if x.dtype not in DTYPES:
        reasons.append(f"x must be float16, bfloat16 or float32, got {str(x.dtype).removeprefix('torch.')}")
    others = {"delta": (delta, x.shape), "weight": (weight, x.shape[-1:]), "bias": (bias, x.shape[-1:])}
    for name, (other, shape) in others.items():
        if other is not None and (other.shape != shape or other.dtype != x.dtype):
            reasons.append(f"{name} must be {list(shape)} {x.dtype}, got {list(other.shape)} {other.dtype}")
    for name, rows in {"x": x, "delta": delta, "weight": weight, "bias": bias}.items():
        if rows is None or rows.is_contiguous():
            continue
        if rows.ndim != 1 and rows.stride(-1) != 1:
            reasons.append(f"{name} must have stride 1 on its last axis, got {rows.stride(-1)}")
        elif rows.ndim not in (2, 3):
            reasons.append(f"{name} of shape {list(rows.shape)} must be contiguous, got strides {list(rows.stride())}")
    return reasons


def reference(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor, eps: float, *, lengths: bool = False,
    configuration: Mapping[str, int] | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """The op in plain PyTorch."""
    total = x if delta is None else x + delta
    y = F.layer_norm(total, (x.shape[-1],), weight, bias, eps)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return total, y, torch.linalg.vector_norm(y, dim=-1, dtype=dtype) if lengths else None


def _case(label: str, batch: int, tokens: int, width: int, *, delta: bool = True, lengths: bool = True, skip: int = 0,
          magnitude: float = 1.0, offset: float = 0.0, zero: bool = False, large: bool = False) -> Case:  # fmt: skip
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        def rows() -> Tensor:
            drawn = torch.randn(batch, skip + tokens, width, generator=generator, dtype=torch.float64) * magnitude + offset
            if zero:
                drawn[:, skip + tokens // 2] = 0
            return drawn[:, skip:]

        weight, bias = (torch.randn(width, generator=generator, dtype=torch.float64) for _ in range(2))
        return {"x": rows(), "delta": rows() if delta else None, "weight": weight, "bias": bias, "eps": 1e-5, "lengths": lengths}

    return Case(label, inputs, batched=("x", "delta") if delta else ("x",), large=large)


CASES = (
    _case("N=1 C=192", 1, 1, 192),
    _case("N=17 C=192 without delta", 3, 17, 192, delta=False),
    _case("N=13 C=384 without lengths", 3, 13, 384, lengths=False),
    _case("N=9 C=768 after a class token", 3, 9, 768, skip=1),
    _case("N=5 C=1024 a zero row", 1, 5, 1024, zero=True),
    _case("N=3 C=1664", 3, 3, 1664),
    _case("N=7 C=100 no row aligned but every second", 1, 7, 100),
    _case("N=6 C=640 small", 1, 6, 640, magnitude=2.0**-8),
    _case("N=6 C=1280 large and off centre", 1, 6, 1280, magnitude=64.0, offset=200.0),
    _case("N=1 C=1", 1, 1, 1),
    _case("N=785 C=768 ViT-B/16 at 448", 2, 785, 768, large=True),
    _case("N=577 C=1024 ViT-L/14 at 336", 2, 577, 1024, large=True),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration."""
    for width in (192, 384, 768, 1024, 1664):
        x, row = torch.empty(2, 785, width, dtype=dtype, device="meta"), torch.empty(width, dtype=dtype, device="meta")
        add_norm(x, None, row, row, 1e-5)
        add_norm(x, x, row, row, 1e-5)
        add_norm(x, x, row, row, 1e-5, lengths=True)
