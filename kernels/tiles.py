"""Shared parts of the attention kernels: the tiles of a head's vectors, and the refusals common to all.

A head width d is cut into a chunk of the largest power of two and the rest, padded to a power of two of at least 16 (72 and
80 are 64 + 16, 96 is 64 + 32); where both chunks would be equal they are one (104 is 128). Padding and rows past the end are
filled with zeros. Strides reach the kernels in eighths: from the multiplication by 8 the compiler knows the alignment to
16 bytes, and a head width of 72 is not a multiple of the 16 that it detects by itself.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
from triton.tools.tensor_descriptor import TensorDescriptor

from fastloc.kernels import variants

# exp(x) = exp2(LOG2E x); the GPU has the latter
LOG2E = tl.constexpr(1.4426950408889634)
# inverse norms have 64 keys to a block, so that reading them needs no mask
KEYS = 64
# the polynomial for 2**x on [-1/2, 1/2] whose largest relative error, 7.5e-5, is the least; and 1.5 * 2**23, whose last bit is 1
_CUBIC, _SQUARE = tl.constexpr(0.05517167), tl.constexpr(0.24261112)
_LINEAR, _ONE = tl.constexpr(0.69326099), tl.constexpr(0.99992807)
_LARGE = tl.constexpr(12582912.0)
# a stream's index on the axis of projections takes four bits of an int32
MOST_STREAMS, MOST_PROJECTIONS = 7, 16


@triton.jit
def load_rows(x, rows, stride, end, START: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr):
    """x[rows, START : START + WIDTH], zero from row `end` and from column D on."""
    columns = START + tl.arange(0, WIDTH)
    inside = rows[:, None] < end
    if START + WIDTH > D:
        inside = inside & (columns[None, :] < D)
    return tl.load(x + rows[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
def store_rows(x, rows, stride, end, values, START: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr):
    """x[rows, START : START + WIDTH] = values, but for rows from `end` and columns from D on."""
    columns = START + tl.arange(0, WIDTH)
    inside = rows[:, None] < end
    if START + WIDTH > D:
        inside = inside & (columns[None, :] < D)
    tl.store(x + rows[:, None] * stride + columns[None, :], values.to(x.dtype.element_ty), mask=inside)


@triton.jit
def scores(q0, q1, k0, k1, D1: tl.constexpr):
    """The products of a query tile and a key tile, float32, from their chunks."""
    s = tl.dot(q0, k0.T, input_precision="ieee")
    if D1 > 0:
        s = tl.dot(q1, k1.T, s, input_precision="ieee")
    return s


@triton.jit
def key_tile(x, described, image, pick, head, start, keys, stride, end, START: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr):
    """x[keys], keys from `start` on, by the descriptor of x [B, K, H, N, d] if there is one, as `load_rows` otherwise."""
    if described is not None:
        return described.load([image.to(tl.int32), pick, head, start, START]).reshape(keys.shape[0], WIDTH)
    else:  # noqa: RET505 - the compiler compiles both returns otherwise
        return load_rows(x, keys, stride, end, START, WIDTH, D)


@triton.jit
def exp2_polynomial(x):
    """2**x up to a relative error of 7.6e-5, for -125 <= x <= 127; 2**-125 below, where the exponent has room for the polynomial.

    Without the special function unit: the nearest integer moves into the last bits of a large sum, a polynomial of degree 3 gives
    the power of what is left, from -1/2 to 1/2, and the integer is added to its exponent.
    """
    x = tl.maximum(x, -125.0)
    large = x + _LARGE
    rest = x - (large - _LARGE)
    power = ((_CUBIC * rest + _SQUARE) * rest + _LINEAR) * rest + _ONE
    return (power.to(tl.int32, bitcast=True) + (large.to(tl.int32, bitcast=True) << 23)).to(tl.float32, bitcast=True)


@triton.jit
def exp2(x, POLYNOMIAL: tl.constexpr):
    """2**x. With POLYNOMIAL 1 every second column is the polynomial's, with 2 every column."""
    if POLYNOMIAL == 0:
        return tl.exp2(x)
    elif POLYNOMIAL == 1:  # noqa: RET505
        # the two of a pair lie in one thread
        even, odd = tl.split(x.reshape(x.shape[0], x.shape[1] // 2, 2))
        return tl.join(tl.exp2(even), exp2_polynomial(odd)).reshape(x.shape[0], x.shape[1])
    else:
        return exp2_polynomial(x)


@triton.jit
def weights(s, factor, shift, r_j, RAW: tl.constexpr, POLYNOMIAL: tl.constexpr):
    """exp(t (cos_ij - |p_i|)) of a tile of scores; every row has its own factor and shift."""
    if RAW:
        s *= r_j[None, :]
    return exp2(s * factor[:, None] - shift[:, None], POLYNOMIAL)


@triton.jit
def wait_for_the_kernel_before(DEPENDENT: tl.constexpr):
    """With programmatic dependent launch, let the next kernel's blocks come and wait until the last kernel's results are there."""
    if DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def squared_lengths(q0, q1, D1: tl.constexpr):
    """Of the rows of a tile, float32, from its chunks."""
    squares = tl.sum(q0.to(tl.float32) * q0.to(tl.float32), 1)
    if D1 > 0:
        squares += tl.sum(q1.to(tl.float32) * q1.to(tl.float32), 1)
    return squares


@triton.jit
def keys_norms(norms, keys, NP, RAW: tl.constexpr):
    """The inverse norms of some keys; of unit vectors, which have none, something that nobody reads."""
    return tl.load(norms + keys, mask=keys < NP, other=0.0) if RAW else keys


@triton.jit
def picked(picks, stream):
    """The index on the axis of projections that `packed_picks` noted for a stream."""
    return (picks >> (4 * stream)) & 15


def descriptors(x: Tensor, rows: int) -> tuple[TensorDescriptor | None, TensorDescriptor | None]:
    """The descriptors of tiles of `rows` rows of x [B, K, H, N, d], one a chunk; None where nothing is read by descriptor."""
    first, second = chunks(x.shape[-1])
    if not variants.on("tensor_descriptors"):
        return None, None
    made = [TensorDescriptor(x, list(x.shape), list(x.stride()), [1, 1, 1, rows, width]) if width else None for width in (first, second)]
    return made[0], made[1]


def switches() -> dict[str, Any]:
    """The constants of the variants that the two kernels for unit vectors share."""
    return {
        "POLYNOMIAL": 2 if variants.on("polynomial_half") else int(variants.on("polynomial_quarter")),
        "SPECIALISED": variants.on("warp_specialised"),
        "DEPENDENT": variants.on("dependent_launch"),
    }


def packed_picks(pick: Sequence[int]) -> int:
    """One index per stream, packed into one integer, four bits each."""
    return sum(index << (4 * stream) for stream, index in enumerate(pick))


def padded(tokens: int) -> int:
    """The number of inverse norms for `tokens` tokens."""
    return int(triton.cdiv(tokens, KEYS)) * KEYS


def chunks(head_width: int) -> tuple[int, int]:
    """The widths of the tiles that hold a head's vector; the second is 0 if one is enough."""
    first = 1 << (head_width.bit_length() - 1)
    if first == head_width:
        return first, 0
    second = max(16, triton.next_power_of_2(head_width - first))
    return (first, second) if second < first else (2 * first, 0)


def eighths(tensor: Tensor) -> tuple[int, ...]:
    """The strides of all axes but the last, divided by 8."""
    return tuple(stride // 8 for stride in tensor.stride()[:-1])


def operand_refusals(name: str, x: Tensor) -> list[str]:
    """The reasons why the last axis of x cannot be a head's vector that a kernel reads in pieces of 16 bytes."""
    reasons = []
    width = x.shape[-1]
    if width % 8:
        reasons.append(f"the head width of {name} must be a multiple of 8, for rows aligned to 16 bytes, got {width}")
    if not 16 <= width <= 128:
        reasons.append(f"the head width of {name} must be from 16 to 128, got {width}")
    if x.stride(-1) != 1:
        reasons.append(f"{name} must have stride 1 on its last axis, got {x.stride(-1)}")
    crooked = [stride for size, stride in zip(x.shape[:-1], x.stride()[:-1], strict=True) if size > 1 and stride % 8]
    if crooked:
        reasons.append(f"the strides of {name} must be multiples of 8, for rows aligned to 16 bytes, got {crooked[-1]}")
    return reasons


def dtype_refusals(name: str, x: Tensor) -> list[str]:
    """The reasons why an attention kernel refuses the dtype of x."""
    if x.dtype == torch.float32:
        return [f"{name} must be float16 or bfloat16, got float32, which would run without tensor cores; or use attention='sdpa'"]
    if x.dtype not in (torch.float16, torch.bfloat16):
        return [f"{name} must be float16 or bfloat16, got {str(x.dtype).removeprefix('torch.')}"]
    return []


def pick_refusals(name: str, pick: Sequence[int], projections: int) -> list[str]:
    """The reasons why the streams' indices do not fit an axis of `projections` projections."""
    reasons = []
    if not 1 <= len(pick) <= MOST_STREAMS:
        reasons.append(f"{name} must have 1 to {MOST_STREAMS} streams, got {len(pick)}")
    if projections > MOST_PROJECTIONS:
        reasons.append(f"x must have at most {MOST_PROJECTIONS} projections, got {projections}")
    wrong = [index for index in pick if not 0 <= index < projections]
    if wrong:
        reasons.append(f"{name} must be of x's {projections} projections, counted from 0, got {wrong[0]}")
    return reasons


def shape_refusals(name: str, x: Tensor, expected: tuple[int, ...], dtype: torch.dtype) -> list[str]:
    """The reasons why x does not have this shape and dtype."""
    if tuple(x.shape) == expected and x.dtype == dtype:
        return []
    found, asked = (f"{list(shape)} {str(kind).removeprefix('torch.')}" for shape, kind in ((x.shape, x.dtype), (expected, dtype)))
    return [f"{name} must be {asked}, got {found}"]


def value_refusals(v: Tensor, x: Tensor) -> list[str]:
    """The reasons why v are not the values [B, H, N, d] that belong to x [B, K, H, N, d]."""
    batch, _, heads, tokens, width = x.shape
    wrong = shape_refusals("v", v, (batch, heads, tokens, width), x.dtype)
    return wrong or operand_refusals("v", v)


def output_refusals(out: Tensor | None, first: int, x: Tensor) -> list[str]:
    """The reasons why the queries from `first` on cannot be written to `out`."""
    batch, _, heads, tokens, width = x.shape
    if not 0 <= first <= tokens:
        return [f"first must be from 0 to x's {tokens} tokens, got {first}"]
    if out is None:
        return []
    reasons = shape_refusals("out", out, (batch, tokens - first, heads * width), x.dtype)
    strides = out.stride()
    if strides[-1] != 1 or any(stride % 8 for size, stride in zip(out.shape[:-1], strides[:-1], strict=True) if size > 1):
        reasons.append(f"the strides of out must be multiples of 8 and a last one of 1, got {tuple(strides)}")
    return reasons
