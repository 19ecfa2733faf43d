"""QuickGELU, the activation of OpenAI's CLIP, elementwise in float32.

    y = x * sigmoid(1.702 x) = x / (1 + exp2(-1.702 log2(e) x))
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
import math
from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

SLOPE = tl.constexpr(-1.702 * math.log2(math.e))
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@triton.jit
def _quick_gelu_kernel(
    x_ptr,  # [count]
    y_ptr,  # [count]
    count,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, at < count, 0).to(tl.float32)
    y = x / (tl.exp2(x * SLOPE) + 1)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), at < count)


def quick_gelu(x: Tensor, *, out: Tensor | None = None, configuration: Mapping[str, int] | None = None) -> Tensor:
    """x * sigmoid(1.702 x), rounded once.

    Args:
        x: contiguous, any shape, float16, bfloat16 or float32.
        out: the tensor to write, like x; may be x itself. A new tensor if None.
        configuration: {"BLOCK", "num_warps"} in place of the shipped one.

    Returns: out.
    """
    config = configuration or {"BLOCK": 2048, "num_warps": 4}
    y = empty(x.shape, x.dtype, x.device) if out is None else out
    grid = (triton.cdiv(x.numel(), config["BLOCK"]),)
    launch(_quick_gelu_kernel, grid, x, y, x.numel(), num_warps=config["num_warps"], num_stages=1, BLOCK=config["BLOCK"])
    return y


def why_not(x: Tensor, *, out: Tensor | None = None, configuration: Mapping[str, int] | None = None) -> list[str]:
    """Every reason to refuse these arguments."""
    reasons = []
    if x.dtype not in DTYPES:
        reasons.append(f"x must be float16, bfloat16 or float32, got {str(x.dtype).removeprefix('torch.')}")
    if not x.is_contiguous():
        reasons.append(f"x of shape {list(x.shape)} must be contiguous, got strides {list(x.stride())}")
    if out is not None and (out.shape != x.shape or out.dtype != x.dtype):
        reasons.append(f"out must be as x, {list(x.shape)} {x.dtype}, got {list(out.shape)} {out.dtype}")
    if out is not None and not out.is_contiguous():
        reasons.append(f"out of shape {list(out.shape)} must be contiguous, got strides {list(out.stride())}")
    return reasons


def reference(x: Tensor, *, out: Tensor | None = None, configuration: Mapping[str, int] | None = None) -> Tensor:
    """The activation in plain PyTorch; `out` is not written."""
    return x * torch.sigmoid(1.702 * x)


def _case(label: str, *shape: int, magnitude: float = 3.0, out: bool = False, large: bool = False) -> Case:
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        x = torch.randn(*shape, generator=generator, dtype=torch.float64) * magnitude
        return {"x": x, "out": torch.zeros_like(x)} if out else {"x": x}

    return Case(label, inputs, batched=("x", "out") if out else ("x",), large=large)


CASES = (
    _case("one number", 1, 1),
    _case("N=17 M=80", 3, 17, 80),
    _case("an odd count", 1, 3, 683),
    _case("N=17 M=256 into out", 3, 17, 256, out=True),
    # both ends: 1 + exp2 overflows, and the result is -0
    _case("large", 3, 5, 129, magnitude=300.0),
    _case("small", 1, 50, 96, magnitude=2.0**-10),
    _case("N=785 M=3072 ViT-B/16 at 448", 2, 785, 3072, large=True),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration."""
    quick_gelu(torch.empty(2, 785, 3072, dtype=dtype, device="meta"))
