"""r = 1/|x| of every head's vector of every stream, so that normalisation can be folded into an attention kernel.

    r[b, s, h, n] = 1 / |x[b, pick[s], h, n]|, at most CAP; 0 for a zero vector and for the padding of n to a multiple of 64

x is read once, r is 4 bytes per vector: next to a normalised copy of x this costs half of the traffic or less.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from fastloc.kernels import tiles, variants
from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

# the largest float16 below its maximum: products with r stay finite in half precision
CAP = tl.constexpr(65472.0)


@triton.jit
def _inverse_norms_kernel(
    x,  # [B, K, H, N, D]
    r,  # [B, S, H, NP] float32
    picks,
    H,
    N,
    NP,
    x_b,
    x_k,
    x_h,
    x_n,
    D: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    BM: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    tiles.wait_for_the_kernel_before(DEPENDENT)
    lane = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    x += b * (x_b * 8) + tiles.picked(picks, lane // H) * (x_k * 8) + lane % H * (x_h * 8)
    part = tiles.load_rows(x, rows, x_n * 8, N, 0, D0, D).to(tl.float32)
    squares = tl.sum(part * part, 1)
    if D1 > 0:
        part = tiles.load_rows(x, rows, x_n * 8, N, D0, D1, D).to(tl.float32)
        squares += tl.sum(part * part, 1)
    inverse = tl.where(squares > 0, tl.minimum(tl.rsqrt(tl.where(squares > 0, squares, 1.0)), CAP), 0.0)
    tl.store(r + (b * tl.num_programs(1) + lane) * NP + rows, inverse, mask=rows < NP)


def inverse_norms(x: Tensor, pick: tuple[int, ...], *, configuration: Mapping[str, int] | None = None) -> Tensor:
    """1/|x| of the picked projections, from float32 sums.

    Args:
        x: [B, K, H, N, d] of any floating dtype but float64, any strides that are multiples of 8, the last 1.
        pick: for every stream s its index on axis K.
        configuration: {"BM", "num_warps"} in place of the shipped one.

    Returns: [B, S, H, N rounded up to a multiple of 64] float32, see above.
    """
    batch, _, heads, tokens, width = x.shape
    config = configuration or {"BM": 64, "num_warps": 4}
    padded = tiles.padded(tokens)
    r = empty((batch, len(pick), heads, padded), torch.float32, x.device)
    grid = triton.cdiv(padded, config["BM"]), len(pick) * heads, batch
    first, second = tiles.chunks(width)
    launch(_inverse_norms_kernel, grid, x, r, tiles.packed_picks(pick), heads, tokens, padded, *tiles.eighths(x),
           num_warps=config["num_warps"], num_stages=1, D=width, D0=first, D1=second, BM=config["BM"],
           DEPENDENT=variants.on("dependent_launch"))  # fmt: skip
    return r


def why_not(x: Tensor, pick: tuple[int, ...], *, configuration: Mapping[str, int] | None = None) -> list[str]:
    """Every reason to refuse these arguments."""
    if x.ndim != 5:
        return [f"x must be [B, K, H, N, d], got {x.ndim} axes"]
    reasons = [*tiles.operand_refusals("x", x), *tiles.pick_refusals("pick", pick, x.shape[1])]
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        reasons.append(f"x must be float32, float16 or bfloat16, got {str(x.dtype).removeprefix('torch.')}")
    return reasons


def reference(x: Tensor, pick: tuple[int, ...], *, configuration: Mapping[str, int] | None = None) -> Tensor:
    """The op in plain PyTorch, at least float32."""
    norms = torch.linalg.vector_norm(x[:, list(pick)], dim=-1, dtype=torch.promote_types(x.dtype, torch.float32))
    inverse = torch.where(norms > 0, norms.reciprocal().clamp(max=CAP.value), 0.0)
    return F.pad(inverse, (0, -x.shape[-2] % tiles.KEYS))


def packed(generator: torch.Generator, batch: int, tokens: int, heads: int, width: int, projections: int = 3) -> Tensor:
    """Random vectors [B, K, H, N, d], float64, in the layout of a projection: a view of [B, N, K, H, d].

    The values are bfloat16's, so that norms taken from them are right in every dtype that they are cast to. Lengths differ
    by about ten from token to token.
    """
    raw = torch.randn(batch, tokens, projections, heads, width, generator=generator)
    lengths = torch.exp(torch.randn(batch, tokens, 1, heads, 1, generator=generator))
    return (raw * lengths).bfloat16().double().permute(0, 2, 3, 1, 4)


def _case(label: str, batch: int, tokens: int, heads: int, width: int, pick: tuple[int, ...], *, zero: bool = False,
          magnitude: float = 1.0, large: bool = False) -> Case:  # fmt: skip
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        x = packed(generator, batch, tokens, heads, width) * magnitude
        if zero:
            x[:, :, :, tokens // 2] = 0
        return {"x": x, "pick": pick}

    return Case(label, inputs, batched=("x",), large=large)


CASES = (
    _case("N=1 d=16", 1, 1, 1, 16, (0,)),
    _case("N=17 d=72 three streams", 3, 17, 2, 72, (2, 1, 0)),
    _case("N=65 d=64 a zero row", 1, 65, 2, 64, (2, 0), zero=True),
    _case("N=128 d=80", 1, 128, 1, 80, (1,)),
    _case("N=130 d=104 small", 1, 130, 1, 104, (1, 2), magnitude=2.0**-10),
    _case("N=50 d=88 large", 3, 50, 1, 88, (2,), magnitude=2.0**6),
    _case("N=785 d=64 ViT-B/16 at 448", 2, 785, 12, 64, (2, 1, 0), large=True),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration."""
    x = torch.empty(2, 785, 3, 12, head_width, dtype=dtype, device="meta").permute(0, 2, 3, 1, 4)
    inverse_norms(x, (2, 1, 0))
